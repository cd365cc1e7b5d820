import Foundation

/// Makes the next batches on a thread of its own while the present one is being trained on.
///
/// Batches are a function of their number, so that what has been made ahead when a run stops is simply made again.
final class Prefetcher<Batch: Sendable>: Sendable {
    private final class Shared: @unchecked Sendable {
        let condition = NSCondition()
        var ready: [Batch] = []
        var isCancelled = false
    }

    private let shared = Shared()

    /// - Parameters:
    ///   - depth: how many batches wait at most.
    ///   - steps: the numbers of the batches to make, in order.
    init(depth: Int, steps: Range<Int>, make: @escaping @Sendable (Int) -> Batch) {
        let thread = Thread { [shared] in
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
        thread.name = "fovea-prefetch"
        thread.start()
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
        while shared.ready.isEmpty { shared.condition.wait() }
        let batch = shared.ready.removeFirst()
        shared.condition.signal()
        return batch
    }
}
