import CZlib
import Foundation

@testable import FoveaTraining

/// A PNG whose chunks have the checksums of their bytes; nil where they had.
func repairedPNG(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
    var repaired = Array(bytes)
    func word(_ at: Int) -> Int { repaired[at..<(at + 4)].reduce(0) { $0 << 8 | Int($1) } }
    // Length, kind, data, checksum, after a signature of 8 bytes.
    var start = 8
    while start + 12 <= repaired.count {
        let length = word(start)
        guard length <= repaired.count - start - 12 else { break }
        let sum = repaired[(start + 4)..<(start + 8 + length)].withUnsafeBytes {
            crc32(0, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32($0.count))
        }
        for byte in 0..<4 {
            repaired[start + 8 + length + byte] = UInt8(truncatingIfNeeded: sum >> (24 - 8 * byte))
        }
        start += 12 + length
    }
    return repaired.elementsEqual(bytes) ? nil : repaired
}

/// The manifest of a checkpoint with its own checksum; nil where it is none or had it.
func repairedManifest(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
    guard let manifest = try? decoded(CheckpointManifest.self, from: bytes) else { return nil }
    let repaired = Array(manifest.text.utf8)
    return repaired.elementsEqual(bytes) ? nil : repaired
}
