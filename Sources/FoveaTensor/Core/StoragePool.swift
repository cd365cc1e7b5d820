import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Where tensors' memory comes from and goes back to.
///
/// A training step asks for the same sizes again and again; returning large blocks to the system in between costs a
/// page fault for every page, more than many ops themselves. Freed buffers therefore wait, in classes of similar
/// size, for the next request. The counters tell what is in use: tests read them to find leaks, reports to tell
/// peak memory.
public enum StoragePool {
    /// What the pool has given out and what it keeps.
    public struct Statistics: Sendable, Equatable {
        /// Buffers in use.
        public var liveBuffers = 0
        /// Bytes of the buffers in use.
        public var liveBytes = 0
        /// The largest `liveBytes` since the start or the last `resetPeak()`.
        public var peakBytes = 0
        /// Bytes of freed buffers that wait for the next request.
        public var cachedBytes = 0
    }

    private struct State: ~Copyable {
        var statistics = Statistics()
        var free: [[UnsafeMutableRawPointer]] = Array(repeating: [], count: StoragePool.classCount)
    }

    // Pointers into the free lists are touched under the lock alone.
    private struct Guarded: ~Copyable, @unchecked Sendable { var state = State() }
    private static let guarded = Lock(Guarded())

    /// The counters at this moment.
    public static var statistics: Statistics { guarded.withLock { $0.state.statistics } }

    /// Starts a new measurement of `peakBytes` from what is live now.
    public static func resetPeak() {
        guarded.withLock { $0.state.statistics.peakBytes = $0.state.statistics.liveBytes }
    }

    /// Gives all waiting buffers back to the system.
    public static func trim() {
        guarded.withLock { guarded in
            for index in guarded.state.free.indices {
                for pointer in guarded.state.free[index] { free(pointer) }
                guarded.state.free[index].removeAll()
            }
            guarded.state.statistics.cachedBytes = 0
        }
    }

    static let alignment = 64
    static let classCount = 4 * 56

    /// The class of buffers that hold `bytes`, and their size: 64, 128, … and four steps for each power of two.
    static func sizeClass(_ bytes: Int) -> (index: Int, size: Int) {
        guard bytes > 256 else {
            let index = max(0, (bytes - 1) / 64)
            return (index, (index + 1) * 64)
        }
        let power = Int.bitWidth - 1 - (bytes - 1).leadingZeroBitCount
        let step = 1 << (power - 2)
        let steps = (bytes - (1 << power) + step - 1) / step
        return ((power - 7) * 4 + steps - 1, (1 << power) + steps * step)
    }

    static func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        let (index, size) = sizeClass(bytes)
        let cached: UnsafeMutableRawPointer? = guarded.withLock { guarded in
            guarded.state.statistics.liveBuffers += 1
            guarded.state.statistics.liveBytes += size
            guarded.state.statistics.peakBytes = max(
                guarded.state.statistics.peakBytes, guarded.state.statistics.liveBytes)
            guard let pointer = guarded.state.free[index].popLast() else { return nil }
            guarded.state.statistics.cachedBytes -= size
            return pointer
        }
        if let cached { return cached }
        if let fresh = aligned(size) { return fresh }
        trim()
        if let fresh = aligned(size) { return fresh }
        endWithoutMemory(size, for: "a buffer")
    }

    /// Told before the program ends for want of memory. A command may end itself in its own way instead.
    package static func whenMemoryEnds(_ handler: @escaping @Sendable (_ problem: String) -> Void) {
        shortage.withLock { $0 = handler }
    }

    private static let shortage = Lock<(@Sendable (String) -> Void)?>(nil)

    fileprivate static func endWithoutMemory(_ bytes: Int, for purpose: String) -> Never {
        let problem = "no memory for \(purpose) of \(bytes) bytes (\(statistics.liveBytes) bytes are in use)"
        shortage.withLock { $0 }?(problem)
        fatalError("Fovea: " + problem)
    }

    static func release(_ pointer: UnsafeMutableRawPointer, _ bytes: Int) {
        let (index, size) = sizeClass(bytes)
        guarded.withLock { guarded in
            guarded.state.statistics.liveBuffers -= 1
            guarded.state.statistics.liveBytes -= size
            guarded.state.statistics.cachedBytes += size
            guarded.state.free[index].append(pointer)
        }
    }

    /// A page. Buffers of twice this size and more lie on pages of 2 MiB: with the usual 4 KiB, page faults and look-ups of addresses
    /// take up to half of the time of a loop over large tensors.
    private static let hugePageBytes = 2 << 20

    /// Buffers of a page and more begin at multiples of this. A core that stores to one page, and then loads from a little
    /// further on in another, takes the load for one of what it has stored, until it knows better. Rows of 1,024 numbers are a
    /// page apart: where a buffer of the row's length begins 64 bytes behind their place in a page, each row meets that.
    private static let rowAlignment = 512
    private static let pageBytes = 4 << 10

    private static func aligned(_ size: Int) -> UnsafeMutableRawPointer? {
        var pointer: UnsafeMutableRawPointer?
        let isLarge = size >= 2 * hugePageBytes
        let boundary = isLarge ? hugePageBytes : size >= pageBytes ? rowAlignment : alignment
        guard posix_memalign(&pointer, boundary, size) == 0 else { return nil }
        #if os(Linux)
        // A wish; where the system does not grant it, nothing but speed is lost.
        if isLarge { madvise(pointer, size, MADV_HUGEPAGE) }
        #endif
        return pointer
    }
}

/// A tensor's memory: a buffer of the pool, or bytes that belong to somebody else, such as a mapped file.
///
/// Written only while one tensor refers to it, and immutable from then on: that makes tensors `Sendable`.
package final class Storage: @unchecked Sendable {
    package let pointer: UnsafeMutableRawPointer
    package let byteCount: Int
    /// Keeps foreign memory alive; such memory is never written.
    private let owner: (any AnyObject & Sendable)?

    /// Uninitialised memory from the pool; none at all inside `withoutMemory`.
    package init(byteCount: Int) {
        self.byteCount = byteCount
        if ThreadState.isPlanning {
            pointer = UnsafeMutableRawPointer(bitPattern: StoragePool.alignment)!
            owner = Storage.nobody
        } else {
            pointer = StoragePool.allocate(byteCount)
            owner = nil
        }
    }

    /// Owns what has no memory.
    private final class Nobody: Sendable {}
    private static let nobody = Nobody()

    /// Memory that `owner` keeps alive.
    package init(borrowing pointer: UnsafeRawPointer, byteCount: Int, owner: any AnyObject & Sendable) {
        self.pointer = UnsafeMutableRawPointer(mutating: pointer)
        self.byteCount = byteCount
        self.owner = owner
    }

    package var isForeign: Bool { owner != nil }

    deinit {
        if owner == nil { StoragePool.release(pointer, byteCount) }
    }
}

/// Calls `body` with working memory of so many bytes, 64-byte aligned, that stays with this thread and its cache. Not for
/// what calls ops: they may need it themselves.
func withScratch(_ bytes: Int, _ body: (UnsafeMutableRawPointer) -> Void) {
    guard let memory = ck_take_scratch(bytes) else { StoragePool.endWithoutMemory(bytes, for: "work") }
    defer { ck_return_scratch(memory) }
    body(memory)
}

/// The memory of this machine, in bytes.
package var physicalMemory: Int {
    Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
}
