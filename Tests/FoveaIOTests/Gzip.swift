import CZlib

/// The bytes as one gzip member.
func gzipped(_ bytes: [UInt8]) -> [UInt8] { deflated(bytes, windowBits: 15 + 16) }

/// The bytes compressed by zlib; 15 gives zlib's own wrapping, which PNG uses, and 16 more that of gzip.
func deflated(_ bytes: [UInt8], windowBits: Int32) -> [UInt8] {
    var stream = z_stream()
    var source = bytes
    var target = [UInt8](repeating: 0, count: bytes.count + bytes.count / 8 + 256)
    let capacity = target.count
    return source.withUnsafeMutableBufferPointer { source in
        target.withUnsafeMutableBufferPointer { target in
            deflateInit2_(
                &stream, 6, Z_DEFLATED, windowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
                Int32(MemoryLayout<z_stream>.size))
            defer { deflateEnd(&stream) }
            stream.next_in = source.baseAddress
            stream.avail_in = UInt32(source.count)
            stream.next_out = target.baseAddress
            stream.avail_out = UInt32(capacity)
            deflate(&stream, Z_FINISH)
            return Array(target[..<(capacity - Int(stream.avail_out))])
        }
    }
}

/// The checksum that gzip and PNG use.
func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.withUnsafeBufferPointer { UInt32(truncatingIfNeeded: crc32(0, $0.baseAddress, UInt32($0.count))) }
}
