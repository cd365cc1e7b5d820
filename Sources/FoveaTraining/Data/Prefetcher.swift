import Foundation
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Makes the next batches on a thread of its own while the present one is being trained on.
///
/// Batches are a function of their number, so that what has been made ahead when a run stops is simply made again. Where the
/// system gives no more threads they are made when they are asked for.
final class Prefetcher<Batch: Sendable>: Sendable {
    private final class Shared: @unchecked Sendable {
        let condition = NSCondition()
        var ready: [Batch] = []
        var isCancelled = false
        /// The batch to make next where there is no thread.
        var step = 0
    }

    private let shared = Shared()
    private let make: @Sendable (Int) -> Batch
    private let hasThread: Bool

    /// - Parameters:
    ///   - depth: how many batches wait at most.
    ///   - steps: the numbers of the batches to make, in order.
    init(depth: Int, steps: Range<Int>, make: @escaping @Sendable (Int) -> Batch) {
        self.make = make
        shared.step = steps.lowerBound
        let thread = startThread { [shared] in
            for step in steps {
                let batch = make(step)
                shared.condition.lock()
                while shared.ready.count >= depth, !shared.isCancelled { shared.condition.wait() }
                guard !shared.isCancelled else {
                    shared.condition.unlock()
                    return
                }
                shared.ready.append(batch)
                shared.condition.signal()
                shared.condition.unlock()
            }
        }
        if let thread { pthread_detach(thread) }
        hasThread = thread != nil
    }

    deinit {
        shared.condition.lock()
        shared.isCancelled = true
        shared.condition.broadcast()
        shared.condition.unlock()
    }

    /// The next batch, waited for where it is not ready yet.
    func next() -> Batch {
        shared.condition.lock()
        defer { shared.condition.unlock() }
        guard hasThread else {
            shared.step += 1
            return make(shared.step - 1)
        }
        while shared.ready.isEmpty { shared.condition.wait() }
        let batch = shared.ready.removeFirst()
        shared.condition.signal()
        return batch
    }
}
