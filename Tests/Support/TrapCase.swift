import Testing

/// A call that must stop the program, and what it must say first.
///
/// The call runs in a process of its own, which Swift Testing starts anew: it can be handed no closure. Test targets
/// therefore keep their cases in a global array and hand over the index:
///
/// ```swift
/// @Test(arguments: zip(traps.indices, traps.map(\.label))) func trap(index: Int, label: String) async {
///     let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
///         traps[index].call()
///     }
///     traps[index].expectMessage(in: result)
/// }
/// ```
///
/// The same isolation serves tests that change what a whole process shares: the number of workers, the instruction
/// set, the counters of the storage pool.
public struct TrapCase: Sendable {
    /// What is wrong with the call.
    public let label: String
    /// Texts that the message must contain.
    public let fragments: [String]
    /// The call.
    public let call: @Sendable () -> Void

    public init(_ label: String, saying fragments: String..., call: @escaping @Sendable () -> Void) {
        self.label = label
        self.fragments = fragments
        self.call = call
    }

    /// Expects every fragment in what the process wrote before its end.
    public func expectMessage(in result: ExitTest.Result?, sourceLocation: SourceLocation = #_sourceLocation) {
        // Without a result the exit itself was not as expected, which has been recorded.
        guard let result else { return }
        let text = String(decoding: result.standardErrorContent, as: UTF8.self)
        let message = text.split(separator: "\n").first { $0.contains("Fatal error") } ?? text[...]
        for fragment in fragments where !message.contains(fragment) {
            Issue.record("\(label): “\(fragment)” is missing in: \(message)", sourceLocation: sourceLocation)
        }
    }
}
