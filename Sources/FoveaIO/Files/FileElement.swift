import FoveaTensor

/// A type that elements have in a file, and the tensor's type that holds them.
enum FileElement: String {
    case bool, uint8, int8, uint16, int16, uint32, int32, uint64, int64, float16, float32, float64

    /// Bytes of one element in the file.
    var size: Int {
        switch self {
        case .bool, .uint8, .int8: 1
        case .uint16, .int16, .float16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        }
    }

    /// The tensor's type: the same where Fovea holds it, else the next wider integer.
    var dtype: DType {
        switch self {
        case .bool: .bool
        case .uint8: .uint8
        case .int8, .uint16, .int16, .int32: .int32
        case .uint32, .uint64, .int64: .int64
        case .float16: .float16
        case .float32: .float32
        case .float64: .float64
        }
    }

    /// Whether a little-endian element is the tensor's element byte for byte.
    var isHeldAsIs: Bool { rawValue == dtype.rawValue }

    /// What an element is that the tensor cannot hold, and what was expected.
    var outside: String {
        self == .bool ? "neither 0 nor 1; expected a bool" : "larger than \(Int64.max), which int64 does not hold"
    }

    /// Turns elements of a file into the tensor's.
    ///
    /// - Returns: the place of the first element that the tensor's type does not hold, or nil.
    func decode(
        _ source: UnsafeRawBufferPointer, isBigEndian: Bool, into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        switch self {
        case .bool, .uint8: target.copyMemory(from: source)
        case .int8: widen(source, isBigEndian, target, Int8.self, Int32.self)
        case .uint16: widen(source, isBigEndian, target, UInt16.self, Int32.self)
        case .int16: widen(source, isBigEndian, target, Int16.self, Int32.self)
        case .uint32: widen(source, isBigEndian, target, UInt32.self, Int64.self)
        case .float16: copyWords(source, isSwapped: isBigEndian, target, UInt16.self)
        case .int32, .float32: copyWords(source, isSwapped: isBigEndian, target, UInt32.self)
        case .uint64, .int64, .float64: copyWords(source, isSwapped: isBigEndian, target, UInt64.self)
        }
        switch self {
        case .bool: return source.firstIndex { $0 > 1 }
        case .uint64:
            // What is too large has become negative.
            return stride(from: 0, to: source.count, by: 8).first {
                target.loadUnaligned(fromByteOffset: $0, as: Int64.self) < 0
            }.map { $0 / 8 }
        default: return nil
        }
    }

    /// Turns the tensor's elements into big-endian ones. Not for types that are widened on reading.
    func encodeBigEndian(_ source: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: source.count) { buffer, count in
            count = source.count
            _ = decode(source, isBigEndian: true, into: UnsafeMutableRawBufferPointer(buffer))
        }
    }
}

/// Copies numbers, with their bytes turned round where asked for.
private func copyWords<Word: FixedWidthInteger>(
    _ source: UnsafeRawBufferPointer, isSwapped: Bool, _ target: UnsafeMutableRawBufferPointer, _: Word.Type
) {
    guard isSwapped else { return target.copyMemory(from: source) }
    widen(source, true, target, Word.self, Word.self)
}

private func widen<Narrow: FixedWidthInteger, Wide: FixedWidthInteger>(
    _ source: UnsafeRawBufferPointer, _ isBigEndian: Bool, _ target: UnsafeMutableRawBufferPointer, _: Narrow.Type,
    _: Wide.Type
) {
    for index in 0..<(source.count / MemoryLayout<Narrow>.size) {
        let word = source.loadUnaligned(fromByteOffset: index * MemoryLayout<Narrow>.size, as: Narrow.self)
        target.storeBytes(
            of: Wide(truncatingIfNeeded: isBigEndian ? word.byteSwapped : word),
            toByteOffset: index * MemoryLayout<Wide>.size, as: Wide.self)
    }
}
