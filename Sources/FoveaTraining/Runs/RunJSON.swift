import Foundation

/// JSON with sorted keys, for files that people compare. Numbers that JSON does not have are texts: "inf", "-inf" and
/// "nan".
package func encoded(_ value: some Encodable) -> String {
    encoded(value, formatting: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
}

/// The same on one line.
func encodedLine(_ value: some Encodable) -> String { encoded(value, formatting: .sortedKeys) }

private func encoded(_ value: some Encodable, formatting: JSONEncoder.OutputFormatting) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = formatting
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    // Every type given here encodes; the fallback keeps a failure visible in the file.
    return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) + "\n" } ?? "null\n"
}

/// Reads what `encoded` wrote.
package func decoded<Value: Decodable>(_: Value.Type, from text: some Collection<UInt8>) throws -> Value {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode(Value.self, from: Data(text))
}
