import Foundation

/// What is wrong with a file, in one line: which file, what was found, what was expected.
///
/// Every function of this module that touches a file throws it and nothing else; no content of a file makes one trap.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible, LocalizedError {
    /// The path as the caller gave it.
    public let path: String
    /// What is wrong, what was expected, and where it helps how to mend it.
    public let problem: String

    /// An error of this file. Line breaks and other control characters are shown as escapes, so that it stays one line.
    public init(path: String, problem: String) {
        self.path = path
        self.problem = problem
    }

    /// "path: problem".
    public var description: String { escapingControls("\(path): \(problem)") }

    /// The same text as `description`.
    public var errorDescription: String? { description }

    /// A refusal by the operating system, with its own words and what to do about it.
    package static func system(_ path: String, _ failed: String, code: Int32) -> FileError {
        let reason = String(cString: strerror(code))
        let hint =
            switch code {
            case ENOENT: "; check the path, and that its folder exists"
            case EACCES, EPERM: "; check the owner and the permissions of the file and its folder"
            case ENOSPC, EDQUOT: "; free some space and try again"
            case EROFS: "; choose a folder that can be written to"
            case ENOTDIR: "; a part of the path is a file where a folder was expected"
            case EFBIG: "; raise the limit on the size of files (ulimit -f)"
            case EMFILE, ENFILE: "; close files or raise the limit (ulimit -n)"
            default: ""
            }
        return FileError(path: path, problem: "\(failed): \(reason)\(hint)")
    }
}

/// The text with control characters as escapes: an error message stays one line whatever a file names its tensors.
package func escapingControls(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var escaped = ""
    for scalar in text.unicodeScalars {
        if isControl(scalar) {
            escaped += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
            escaped.unicodeScalars.append(scalar)
        }
    }
    return escaped
}

/// The control characters, and the two separators that some terminals break a line at.
private func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: true
    default: false
    }
}

/// A name out of a file, in quotes, cut short where it is absurdly long.
func quoted(_ name: String) -> String {
    let limit = 120
    // Counted in scalars: one character may be made of any number of them.
    let scalars = name.unicodeScalars
    guard let end = scalars.index(scalars.startIndex, offsetBy: limit, limitedBy: scalars.endIndex),
        end < scalars.endIndex
    else { return "\"\(escapingControls(name))\"" }
    return "\"\(escapingControls(String(scalars[..<end])))…\""
}

/// The first of the names out of a file, for an error message.
func listing(_ names: some Collection<String>) -> String {
    guard !names.isEmpty else { return "none" }
    let first = names.prefix(5).map { quoted($0) }.joined(separator: ", ")
    return names.count > 5 ? "\(first) and \(names.count - 5) more" : first
}
