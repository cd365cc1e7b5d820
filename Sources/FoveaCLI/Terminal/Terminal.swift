import Foundation
import Fovea

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What standard output is connected to.
enum Terminal {
    /// Whether a person watches.
    static var isInteractive: Bool {
        isatty(STDOUT_FILENO) == 1 && getenv("TERM").map { String(cString: $0) } != "dumb"
    }

    /// Columns of the terminal; 80 where they are not known.
    static var columns: Int {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Writes without a line's end, at once.
    static func write(_ text: String) {
        print(text, terminator: "")
        flush()
    }

    /// Says on standard error, in one line, what does not end the program.
    static func warn(_ text: String) { writeError("fovea: warning: \(text)") }

    /// Writes a line to standard error. Where nobody reads it any more, it is lost. What files put into it cannot steer a
    /// terminal.
    static func writeError(_ text: String) {
        let line = escapingControls(text.split(whereSeparator: \.isNewline).joined(separator: " "))
        try? FileHandle.standardError.write(contentsOf: Data((line + "\n").utf8))
    }
}

/// Columns of text, padded; numbers go to the right.
struct TextTable {
    private let header: [String]
    private let alignsRight: [Bool]
    private var rows: [[String]] = []

    init(_ header: [String], right: Set<Int> = []) {
        self.header = header
        alignsRight = header.indices.map { right.contains($0) }
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    /// Lines of 80 columns where words in the last column can go on below it, columns can stand closer together, or what is too long
    /// for the first can have a line of its own.
    var text: String {
        let last = header.count - 1
        var widths = header.indices.map { column in
            ([header] + rows).map { $0[column].count }.max() ?? 0
        }
        let room = 80 - widths.dropLast().reduce(0) { $0 + $1 + 2 }
        if !alignsRight[last], room >= 20 { widths[last] = min(widths[last], room) }
        func total(_ gap: Int) -> Int { widths.reduce(0, +) + gap * last }
        let gap = total(2) > 80 ? 1 : 2
        if total(gap) > 80, !alignsRight[0] { widths[0] = max(16, widths[0] - (total(gap) - 80)) }
        let lines = ([header] + rows).flatMap { given -> [String] in
            let isLong = last > 0 && given[0].count > widths[0]
            let row = isLong ? [""] + given.dropFirst() : given
            let words = row[last].wrapped(to: alignsRight[last] ? .max : max(20, widths[last]))
            let lines = words.enumerated().map { index, words in
                row.indices.map { column in
                    let cell = column == last ? words : index == 0 ? row[column] : ""
                    let space = String(repeating: " ", count: max(0, widths[column] - cell.count))
                    return alignsRight[column] ? space + cell : cell + space
                }.joined(separator: String(repeating: " ", count: gap)).trimmingRight()
            }
            return (isLong ? [given[0]] : []) + lines
        }
        return lines.joined(separator: "\n")
    }
}

extension [String] {
    /// Pieces one behind the other, in lines of at most so many characters; a longer piece has a line of its own.
    func filled(to width: Int) -> [String] {
        var lines: [String] = []
        for piece in self {
            if let line = lines.last, line.count + 1 + piece.count <= width {
                lines[lines.count - 1] += " " + piece
            } else {
                lines.append(piece)
            }
        }
        return lines
    }
}

extension String {
    /// Lines of at most so many characters, broken between words; a longer word has a line of its own.
    func wrapped(to width: Int) -> [String] {
        guard count > width else { return [self] }
        return split(separator: " ", omittingEmptySubsequences: false).map(String.init).filled(to: width)
    }

    func trimmingRight() -> String {
        var text = self[...]
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

extension Double {
    /// With so many digits behind the point.
    func fixed(_ digits: Int) -> String { String(format: "%.\(digits)f", self) }

    /// As a share of a hundred, with one digit.
    var percent: String { (self * 100).fixed(1) + " %" }
}

extension Int {
    /// With commas between thousands.
    var grouped: String {
        var text = ""
        for (index, digit) in String(magnitude).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text = "," + text }
            text = String(digit) + text
        }
        return (self < 0 ? "-" : "") + text
    }
}
