import Foundation

/// The first name that stands twice in one object of a JSON text, at any depth, as it is spelled there; nil where none does. Readers
/// would see two different files: some take the first of both, some the last. What is no JSON is left to whoever reads it.
package func repeatedMember(in json: Data) -> String? {
    let bytes = [UInt8](json)
    // The names of the objects that are open; none for an array.
    var open: [Set<String>] = []
    var name = ""
    var place = 0
    while place < bytes.count {
        switch bytes[place] {
        case UInt8(ascii: "{"), UInt8(ascii: "["): open.append([])
        case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = open.popLast()
        case UInt8(ascii: "\""):
            let first = place + 1
            place = first
            while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
                place += bytes[place] == UInt8(ascii: "\\") ? 2 : 1
            }
            name = String(decoding: bytes[first..<max(first, min(place, bytes.count))], as: UTF8.self)
        case UInt8(ascii: ":"):
            // What stood before it was a member's name.
            guard let last = open.indices.last else { return nil }
            if !open[last].insert(name).inserted { return name }
        default: break
        }
        place += 1
    }
    return nil
}
