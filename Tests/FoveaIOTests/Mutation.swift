/// SplitMix64: the same numbers on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// The bytes with one to four random damages: changed bits, bytes and digits, pieces lost, doubled or added.
func mutated(_ original: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
    var bytes = original
    for _ in 0..<Int.random(in: 1...4, using: &generator) {
        guard !bytes.isEmpty else { break }
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        let length = min(bytes.count - place, Int.random(in: 1...16, using: &generator))
        switch Int.random(in: 0..<9, using: &generator) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: bytes[place] = UInt8.random(in: 0...255, using: &generator)
        case 2: bytes[place] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &generator) ?? 0
        case 3: bytes.removeSubrange(place...)
        case 4: bytes.removeSubrange(place..<(place + length))
        case 5: bytes.insert(contentsOf: bytes[place..<(place + length)], at: place)
        case 6: bytes.append(contentsOf: (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) })
        case 7:
            // Text formats: a bracket, a quote or a sign in the place of a character.
            bytes[place] = Array("{}[]\":,\\0 -.e\n".utf8).randomElement(using: &generator) ?? 0
        default:
            // A number that is nearly right gets furthest.
            let digits = bytes.indices.filter { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[$0]) }
            if let digit = digits.randomElement(using: &generator) {
                bytes[digit] = UInt8(ascii: "0") + UInt8.random(in: 0...9, using: &generator)
            }
        }
    }
    return bytes
}
