/// The members of a zip file, as its central directory lists them, checked against what stands at their places.
///
/// Only what NumPy writes is read: one disk, members that are stored or deflated, sizes in 32 or 64 bits. Everything
/// else is refused, and so is what two programs could read differently: members that overlap, a directory that is not
/// at the end, a name or size that is another in front of the member than in the directory.
///
/// Format: APPNOTE.TXT of PKWARE, sections 4.3 to 4.5.
struct ZipDirectory {
    struct Member {
        let name: String
        let isDeflated: Bool
        /// CRC-32 of the content.
        let checksum: UInt32
        /// Where the content stands in the file, compressed or not.
        let range: Range<Int>
        /// Bytes of the content after decompression.
        let byteCount: Int
        /// Where the member's own header stands.
        fileprivate let start: Int
    }

    /// What the first bytes of a zip file may be: a member's header, or at once the end of the directory.
    static func recognises(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 4 else { return false }
        return [ZipSignature.member, ZipSignature.end].contains(bytes.loadUnaligned(as: UInt32.self))
    }

    /// In the order of the directory.
    private(set) var members: [Member] = []
    private let file: ZipBytes

    /// Reads the directory of the file that consists of these bytes.
    init(_ bytes: UnsafeRawBufferPointer, path: String) throws(FileError) {
        file = ZipBytes(bytes: bytes, path: path)
        let end = try ZipEnd(file)
        members.reserveCapacity(end.count)
        var place = end.directory.lowerBound
        for _ in 0..<end.count { members.append(try member(&place, of: end)) }
        guard place == end.directory.upperBound else {
            throw file.error(place, "the directory goes on after its \(end.count) members")
        }
        // Members that share bytes would let a small file unfold into a huge one.
        var reached = 0
        for member in members.sorted(by: { $0.start < $1.start }) {
            guard member.start >= reached else {
                throw file.error(member.start, "member \(quoted(member.name)) overlaps with the one before")
            }
            reached = member.range.upperBound
        }
    }

    /// Reads the entry of the directory at `place`, and moves behind it.
    private func member(_ place: inout Int, of end: ZipEnd) throws(FileError) -> Member {
        let start = place
        guard end.directory.upperBound - start >= 46, file.number(start, UInt32.self) == ZipSignature.entry else {
            throw file.error(start, "expected an entry of the directory; it is damaged")
        }
        let nameCount = Int(file.number(start + 28, UInt16.self))
        let extraCount = Int(file.number(start + 30, UInt16.self))
        let commentCount = Int(file.number(start + 32, UInt16.self))
        place = start + 46 + nameCount + extraCount + commentCount
        guard place <= end.directory.upperBound else {
            throw file.error(start, "an entry of the directory reaches beyond its end")
        }
        let name = try file.name(start + 46, nameCount, flags: file.number(start + 8, UInt16.self))
        func error(_ problem: String) -> FileError { file.error(start, "member \(quoted(name)): \(problem)") }

        let flags = file.number(start + 8, UInt16.self)
        guard flags & ~ZipFlags.known == 0 else {
            throw error(flags & ZipFlags.encrypted != 0 ? "is encrypted" : "uses features of zip that NumPy does not")
        }
        let method = file.number(start + 10, UInt16.self)
        guard method == ZipMethod.stored || method == ZipMethod.deflated else {
            throw error("is compressed by method \(method); expected 0 (stored) or 8 (deflate)")
        }
        let wide = try file.wideSizes(
            (start + 46 + nameCount)..<(start + 46 + nameCount + extraCount),
            [
                file.number(start + 24, UInt32.self), file.number(start + 20, UInt32.self),
                file.number(start + 42, UInt32.self),
            ])
        guard let wide, let size = Int(exactly: wide[0]), let packed = Int(exactly: wide[1]),
            let offset = Int(exactly: wide[2])
        else { throw error("its sizes are missing or beyond every file") }
        let content = try contentStart(at: offset, entry: start, sizes: wide, limit: end.directory.lowerBound, error)
        guard packed <= end.directory.lowerBound - content else {
            throw error("its \(packed) bytes at \(content) reach beyond the file's directory")
        }
        let isDeflated = method == ZipMethod.deflated
        guard isDeflated ? size / Inflater.ratioLimit <= packed : size == packed else {
            throw error("announces \(size) bytes, which its \(packed) bytes in the file cannot hold")
        }
        return Member(
            name: name, isDeflated: isDeflated, checksum: file.number(start + 16, UInt32.self),
            range: content..<(content + packed), byteCount: size, start: offset)
    }

    /// Where a member's content begins; the header in front of it must say what its entry in the directory says.
    private func contentStart(
        at offset: Int, entry: Int, sizes: [UInt64], limit: Int, _ error: (String) -> FileError
    ) throws(FileError) -> Int {
        guard offset <= limit - 30, file.number(offset, UInt32.self) == ZipSignature.member else {
            throw error("there is no member at byte \(offset)")
        }
        let nameCount = Int(file.number(offset + 26, UInt16.self))
        let extraCount = Int(file.number(offset + 28, UInt16.self))
        guard nameCount + extraCount <= limit - offset - 30 else {
            throw error("its header at byte \(offset) reaches beyond the file's directory")
        }
        let flags = file.number(offset + 6, UInt16.self)
        guard nameCount == Int(file.number(entry + 28, UInt16.self)),
            file.bytes[(offset + 30)..<(offset + 30 + nameCount)].elementsEqual(
                file.bytes[(entry + 46)..<(entry + 46 + nameCount)]),
            flags == file.number(entry + 8, UInt16.self),
            file.number(offset + 8, UInt16.self) == file.number(entry + 10, UInt16.self)
        else { throw error("its header at byte \(offset) disagrees with the directory") }
        // A writer that cannot go back puts checksum and sizes behind the content, and zeros here.
        if flags & ZipFlags.sizesFollow == 0 {
            let own = try file.wideSizes(
                (offset + 30 + nameCount)..<(offset + 30 + nameCount + extraCount),
                [file.number(offset + 22, UInt32.self), file.number(offset + 18, UInt32.self)])
            guard let own, own == Array(sizes[..<2]),
                file.number(offset + 14, UInt32.self) == file.number(entry + 16, UInt32.self)
            else { throw error("its header at byte \(offset) disagrees with the directory") }
        }
        return offset + 30 + nameCount + extraCount
    }
}

/// The record at the end of a zip file: where the directory is.
private struct ZipEnd {
    let directory: Range<Int>
    let count: Int

    init(_ file: ZipBytes) throws(FileError) {
        // Behind the record stands a comment of up to 65,535 bytes, and nothing else.
        let last = file.bytes.count - 22
        let found = stride(from: last, through: max(0, last - 65_535), by: -1).first {
            file.number($0, UInt32.self) == ZipSignature.end && Int(file.number($0 + 20, UInt16.self)) == last - $0
        }
        guard let found else {
            throw file.error(nil, "has no directory of a zip file at its end; it is cut short or not npz")
        }
        var numbers = [
            UInt64(file.number(found + 4, UInt16.self)), UInt64(file.number(found + 6, UInt16.self)),
            UInt64(file.number(found + 8, UInt16.self)), UInt64(file.number(found + 10, UInt16.self)),
            UInt64(file.number(found + 12, UInt32.self)), UInt64(file.number(found + 16, UInt32.self)),
        ]
        var end = found
        // Where numbers do not fit, a wider record stands in front, and a locator that tells where.
        if found >= 20, file.number(found - 20, UInt32.self) == ZipSignature.locator {
            guard let wide = Int(exactly: file.number(found - 12, UInt64.self)), wide <= found - 20 - 56,
                file.number(wide, UInt32.self) == ZipSignature.wideEnd,
                file.number(wide + 4, UInt64.self) == UInt64(found - 20 - wide - 12)
            else { throw file.error(found - 20, "the locator of the directory's end leads nowhere") }
            let wideNumbers = [
                UInt64(file.number(wide + 16, UInt32.self)), UInt64(file.number(wide + 20, UInt32.self)),
                file.number(wide + 24, UInt64.self), file.number(wide + 32, UInt64.self),
                file.number(wide + 40, UInt64.self), file.number(wide + 48, UInt64.self),
            ]
            for (index, limit) in [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF].enumerated() {
                guard numbers[index] == limit || numbers[index] == wideNumbers[index] else {
                    throw file.error(found, "the two records of the directory's end disagree")
                }
            }
            numbers = wideNumbers
            end = wide
        }
        guard numbers[0] == 0, numbers[1] == 0, numbers[2] == numbers[3] else {
            throw file.error(found, "is one of several disks of a zip file; expected the whole in one file")
        }
        guard let count = Int(exactly: numbers[3]), let size = Int(exactly: numbers[4]),
            let start = Int(exactly: numbers[5]), start <= end, size == end - start
        else { throw file.error(found, "the directory does not end where its end is recorded") }
        guard count <= size / 46 else {
            throw file.error(found, "announces \(count) members, more than its directory of \(size) bytes can list")
        }
        directory = start..<end
        self.count = count
    }
}

/// A zip file's bytes, read as little-endian numbers. The caller checks that they are there.
private struct ZipBytes {
    let bytes: UnsafeRawBufferPointer
    let path: String

    func number<Number: FixedWidthInteger>(_ place: Int, _: Number.Type) -> Number {
        Number(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: Number.self))
    }

    func error(_ place: Int?, _ problem: String) -> FileError {
        FileError(path: path, problem: place.map { "byte \($0): \(problem)" } ?? problem)
    }

    /// A member's name: ASCII, or UTF-8 where its flag says so.
    func name(_ place: Int, _ count: Int, flags: UInt16) throws(FileError) -> String {
        let name = bytes[place..<(place + count)]
        guard flags & ZipFlags.isUTF8 != 0 || name.allSatisfy({ $0 < 0x80 }),
            let text = String(validating: name, as: UTF8.self)
        else { throw error(place, "a member's name is neither ASCII nor marked and valid UTF-8") }
        return text
    }

    /// The sizes and offsets of a member, of which those that are all ones stand in an extra field, in their order.
    /// Nil where the extra field does not hold as many.
    func wideSizes(_ extra: Range<Int>, _ narrow: [UInt32]) throws(FileError) -> [UInt64]? {
        var wide: Range<Int>?
        var place = extra.lowerBound
        while place < extra.upperBound {
            guard extra.upperBound - place >= 4 else { throw error(place, "an extra field is cut short") }
            let end = place + 4 + Int(number(place + 2, UInt16.self))
            guard end <= extra.upperBound else { throw error(place, "an extra field is cut short") }
            if number(place, UInt16.self) == ZipSignature.wideSizes {
                guard wide == nil else { throw error(place, "the sizes stand in two extra fields") }
                wide = (place + 4)..<end
            }
            place = end
        }
        var sizes: [UInt64] = []
        for number in narrow {
            guard number == .max, let field = wide else {
                sizes.append(UInt64(number))
                continue
            }
            guard field.count >= 8 else { return nil }
            sizes.append(self.number(field.lowerBound, UInt64.self))
            wide = (field.lowerBound + 8)..<field.upperBound
        }
        return sizes
    }
}

/// What marks the records of a zip file.
enum ZipSignature {
    static let member: UInt32 = 0x0403_4B50
    static let entry: UInt32 = 0x0201_4B50
    static let end: UInt32 = 0x0605_4B50
    static let wideEnd: UInt32 = 0x0606_4B50
    static let locator: UInt32 = 0x0706_4B50
    /// The extra field that holds sizes of 64 bits.
    static let wideSizes: UInt16 = 1
}

/// How a member is compressed.
enum ZipMethod {
    static let stored: UInt16 = 0
    static let deflated: UInt16 = 8
}

/// The bits of a member's flags.
enum ZipFlags {
    static let encrypted: UInt16 = 1
    /// Checksum and sizes stand behind the content.
    static let sizesFollow: UInt16 = 1 << 3
    static let isUTF8: UInt16 = 1 << 11
    /// Those above that are read, and two that tell how hard deflate tried.
    static let known: UInt16 = sizesFollow | isUTF8 | 0b110
}
