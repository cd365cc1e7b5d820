/// A zip file built field by field, so that every field can be wrong.
struct ZipBuilder {
    struct Member {
        var name: [UInt8]
        var content: [UInt8]
        var isDeflated = false
        var flags: UInt16 = 0
        var method: UInt16?
        var checksum: UInt32?
        /// The sizes that the directory gives; the true ones unless given.
        var size: UInt32?
        var packedSize: UInt32?
        var offset: UInt32?
        /// What the member's own header gives; what the directory gives, unless given.
        var ownName: [UInt8]?
        var ownChecksum: UInt32?
        var ownSize: UInt32?
        var extra: [UInt8] = []
        /// Bytes between the content and what follows it.
        var after: [UInt8] = []

        init(_ name: String, _ content: [UInt8]) {
            self.name = Array(name.utf8)
            self.content = content
        }
    }

    var members: [Member] = []
    var count: UInt16?
    var directorySize: UInt32?
    var directoryOffset: UInt32?
    var disk: UInt16 = 0
    var before: [UInt8] = []
    /// Bytes between the directory and its end record.
    var afterDirectory: [UInt8] = []
    var comment: [UInt8] = []
    var commentCount: UInt16?

    init(_ members: Member...) { self.members = members }

    var bytes: [UInt8] {
        var file = before
        var directory: [UInt8] = []
        for member in members {
            let packed = member.isDeflated ? deflated(member.content, windowBits: -15) : member.content
            let sum = member.checksum ?? checksum(member.content[...])
            let method = member.method ?? (member.isDeflated ? 8 : 0)
            let size = member.size ?? UInt32(member.content.count)
            let packedSize = member.packedSize ?? UInt32(packed.count)
            let start = UInt32(file.count)
            let ownName = member.ownName ?? member.name
            let extraCount = UInt16(member.extra.count)
            file += little(0x0403_4B50 as UInt32) + little(20 as UInt16) + little(member.flags) + little(method)
            file += little(0 as UInt32) + little(member.ownChecksum ?? sum)
            file += little(member.ownSize.map { _ in 0 } ?? packedSize) + little(member.ownSize ?? size)
            file += little(UInt16(ownName.count)) + little(0 as UInt16) + ownName
            file += packed + member.after
            directory += little(0x0201_4B50 as UInt32) + little(20 as UInt16) + little(20 as UInt16)
            directory += little(member.flags) + little(method) + little(0 as UInt32) + little(sum) + little(packedSize)
            directory += little(size) + little(UInt16(member.name.count)) + little(extraCount)
            directory += [UInt8](repeating: 0, count: 10) + little(member.offset ?? start) + member.name + member.extra
        }
        let start = UInt32(file.count)
        file += directory + afterDirectory
        file += little(0x0605_4B50 as UInt32) + little(disk) + little(disk)
        file += little(count ?? UInt16(members.count)) + little(count ?? UInt16(members.count))
        file += little(directorySize ?? UInt32(directory.count)) + little(directoryOffset ?? start)
        return file + little(commentCount ?? UInt16(comment.count)) + comment
    }
}

/// The number's bytes, the lowest first.
func little(_ number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number.littleEndian) { Array($0) } }
