import CKernels
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The threads that share the work of one op.
///
/// Work is cut in chunks whose size depends on the work alone, never on the number of threads, so that every result
/// has the same bits on any number of them. The calling thread takes part. A worker spins for a moment after its last
/// chunk, then sleeps: the ops of a training step follow each other within microseconds.
///
/// Each thread begins with a stretch of neighbouring chunks, the same in every op over as many, and takes over what others
/// have left once it is done: memory is read and written in long runs, and mostly by the core that has it in its cache.
public enum Workers {
    /// How many threads share an op's work, the calling one among them.
    ///
    /// Starts as `FOVEA_THREADS`, or the number of cores. Setting it waits for an op that has the workers; ops of other threads
    /// that come meanwhile run on the thread that calls them.
    public static var count: Int {
        get { WorkerPool.shared.threadCount.load(ordering: .relaxed) }
        set {
            guard newValue >= 1 else { trap("Workers.count", "at least one thread is needed, got \(newValue)") }
            WorkerPool.shared.resize(to: newValue)
        }
    }
}

/// Runs `body` for each chunk `0 ..< chunks`, in any order, on the workers and the calling thread.
///
/// A call from within a chunk, or while another thread has the workers, runs its chunks on the calling thread.
package func parallelFor(_ chunks: Int, _ body: (Int) -> Void) {
    guard chunks > 1 else {
        if chunks == 1 { body(0) }
        return
    }
    WorkerPool.shared.run(chunks, body)
}

/// Runs `body` for consecutive ranges of at most `grain` that make up `0 ..< count`.
package func parallelFor(_ count: Int, grain: Int, _ body: (Range<Int>) -> Void) {
    guard count > grain else {
        if count > 0 { body(0..<count) }
        return
    }
    parallelFor((count + grain - 1) / grain) { chunk in
        body(chunk * grain..<min(count, (chunk + 1) * grain))
    }
}

final class WorkerPool: @unchecked Sendable {
    static let shared = WorkerPool()

    // `mutex` guards `stopping`, and is for sleepers alone; `wake` tells them of a job or of the end.
    private var mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let sleepers = Atomic<Int>(0)
    private var stopping = false
    // An address, not the closure: a worker that still held a reference to it after the last chunk would make the
    // caller's closure look escaped.
    private var body: UnsafePointer<(Int) -> Void>?
    private var chunks = 0
    /// Odd while a job is open: then `body` and `chunks` are its own, and threads may join.
    private let generation = Counter()
    /// How many workers are at work on a job.
    private let joined = Counter()

    /// Whether an op, or who changes their number, has the workers: `shares` and `threads` are theirs then.
    private let taken = Atomic<Bool>(false)
    /// The next chunk of each thread's stretch.
    private var shares: UnsafeMutablePointer<Counter>
    private var threads: [pthread_t] = []
    /// Atomic, since it is read before the workers are taken.
    fileprivate let threadCount = Atomic<Int>(1)

    /// A number with nothing behind it on its cache lines: what one thread writes and another waits for shall not be in
    /// the way of anything else.
    private struct Counter: ~Copyable {
        let value = Atomic<Int>(0)
        private let padding: (Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int) =
            (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    }

    private init() {
        shares = .allocate(capacity: 0)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(wake, nil)
        ck_blas_single_threaded()
        let cores = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        let wanted = getenv("FOVEA_THREADS").flatMap { Int(String(cString: $0)) } ?? cores
        start(max(1, wanted))
    }

    func resize(to count: Int) {
        while taken.exchange(true, ordering: .acquiring) { sched_yield() }
        defer { taken.store(false, ordering: .releasing) }
        guard count != threadCount.load(ordering: .relaxed) else { return }
        pthread_mutex_lock(mutex)
        stopping = true
        pthread_cond_broadcast(wake)
        pthread_mutex_unlock(mutex)
        for thread in threads { pthread_join(thread, nil) }
        stopping = false
        threads = []
        start(count)
    }

    private func start(_ count: Int) {
        threadCount.store(count, ordering: .relaxed)
        shares.deallocate()
        shares = .allocate(capacity: count)
        for thread in 0..<count { (shares + thread).initialize(to: Counter()) }
        for place in 1..<max(1, count) {
            // Fewer threads are slower, not wrong.
            guard let thread = startThread({ WorkerPool.shared.work(at: place) }) else { return }
            threads.append(thread)
        }
    }

    func run(_ count: Int, _ body: (Int) -> Void) {
        guard threadCount.load(ordering: .relaxed) > 1, !taken.exchange(true, ordering: .acquiring) else {
            for chunk in 0..<count { body(chunk) }
            return
        }
        withoutActuallyEscaping(body) { body in
            withUnsafePointer(to: body) { share($0, count) }
        }
        taken.store(false, ordering: .releasing)
    }

    private func share(_ body: UnsafePointer<(Int) -> Void>, _ count: Int) {
        self.body = body
        chunks = count
        for thread in 0..<threadCount.load(ordering: .relaxed) {
            shares[thread].value.store(start(of: thread, count), ordering: .relaxed)
        }
        // Open before looking for sleepers, who look for a job after they have said that they sleep.
        generation.value.add(1, ordering: .sequentiallyConsistent)
        if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
            pthread_mutex_lock(mutex)
            pthread_cond_broadcast(wake)
            pthread_mutex_unlock(mutex)
        }

        takeChunks(of: count, body, at: 0)

        // From here nobody can join any more; whoever did is waited for.
        generation.value.add(1, ordering: .sequentiallyConsistent)
        var spins = 0
        while joined.value.load(ordering: .sequentiallyConsistent) != 0 {
            ck_relax()
            spins += 1
            if spins > 20_000 { sched_yield() }
        }
        self.body = nil
    }

    /// The first chunk of a thread's stretch.
    private func start(of thread: Int, _ chunks: Int) -> Int { chunks * thread / threadCount.load(ordering: .relaxed) }

    /// Runs the chunks of the own stretch, then those that are left of the others'.
    private func takeChunks(of count: Int, _ body: UnsafePointer<(Int) -> Void>, at place: Int) {
        let threadCount = threadCount.load(ordering: .relaxed)
        for step in 0..<threadCount {
            let thread = (place + step) % threadCount
            let end = start(of: thread + 1, count)
            while true {
                let chunk = shares[thread].value.add(1, ordering: .relaxed).oldValue
                guard chunk < end else { break }
                body.pointee(chunk)
            }
        }
    }

    private func work(at place: Int) {
        var seen = 0
        while true {
            // Spin first: the next op is usually a few microseconds away.
            var spins = 0
            while generation.value.load(ordering: .acquiring) == seen, spins < 4_000 {
                ck_relax()
                spins += 1
            }
            if generation.value.load(ordering: .acquiring) == seen {
                guard sleep(since: seen) else { return }
            }
            seen = generation.value.load(ordering: .acquiring)
            guard seen % 2 == 1 else { continue }
            // Joined before looking again: the caller closes the job before it looks for who has joined.
            joined.value.add(1, ordering: .sequentiallyConsistent)
            seen = generation.value.load(ordering: .sequentiallyConsistent)
            if seen % 2 == 1, let body { takeChunks(of: chunks, body, at: place) }
            joined.value.subtract(1, ordering: .releasing)
        }
    }

    /// Sleeps until there has been a job after `generation`; false at the end.
    private func sleep(since seen: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        sleepers.add(1, ordering: .sequentiallyConsistent)
        defer { sleepers.subtract(1, ordering: .relaxed) }
        while generation.value.load(ordering: .sequentiallyConsistent) == seen, !stopping {
            pthread_cond_wait(wake, mutex)
        }
        return !stopping
    }
}
