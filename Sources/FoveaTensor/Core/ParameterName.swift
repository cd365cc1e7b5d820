/// Paths of parameters, interned, so that a tensor carries its name in four bytes.
///
/// A module's parameters get their names when the module is traced or loaded; error messages read them.
package struct ParameterName: Sendable {
    private static let names = Lock<(byText: [String: UInt32], texts: [String])>((byText: [:], texts: [""]))

    /// The number that stands for a path; 0 is no name.
    package static func intern(_ text: String) -> UInt32 {
        names.withLock { names in
            if let known = names.byText[text] { return known }
            let label = UInt32(names.texts.count)
            names.texts.append(text)
            names.byText[text] = label
            return label
        }
    }

    package static func text(of label: UInt32) -> String? {
        guard label != 0 else { return nil }
        return names.withLock { $0.texts[Int(label)] }
    }

    /// The parameter that an op of this thread read last.
    package static var lastUsed: String? { text(of: ThreadState.lastLabel) }
}
