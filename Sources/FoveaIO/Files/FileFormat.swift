/// The formats that hold tensors, told apart by how a file begins, and where that says nothing by its name.
public enum FileFormat: String, Sendable, CaseIterable {
    /// One safetensors file.
    case safetensors
    /// The index of several safetensors files.
    case safetensorsIndex
    case npy
    case npz
    /// Plain or gzipped.
    case idx
    case cifar10
    case cifar100
    case png

    /// The format of a file, by its first bytes and its name. Whether it is a sound file of that format, reading tells.
    ///
    /// - Throws: `FileError` when the file cannot be read, or is like none of them.
    public init(of path: String) throws(FileError) {
        let file = try MappedFile(path)
        let bytes = file.bytes
        defer { withExtendedLifetime(file) {} }
        if path.hasSuffix(".json") {
            self = .safetensorsIndex
        } else if bytes.starts(with: NPYHeader.magic) {
            self = .npy
        } else if ZipDirectory.recognises(bytes) {
            self = .npz
        } else if bytes.starts(with: [0x89] + Array("PNG".utf8)) {
            self = .png
        } else if path.hasSuffix(".bin"), !bytes.isEmpty, bytes.count % (1 + cifarPictureByteCount) == 0 {
            // Records have no mark of their own; the name and the size are all there is to tell them by.
            self = .cifar10
        } else if path.hasSuffix(".bin"), !bytes.isEmpty, bytes.count % (2 + cifarPictureByteCount) == 0 {
            self = .cifar100
        } else if Inflater.recognisesGzip(bytes) || Self.beginsLikeIDX(bytes) {
            self = .idx
        } else if path.hasSuffix(".safetensors") || Self.beginsLikeSafetensors(bytes) {
            self = .safetensors
        } else {
            throw FileError(
                path: path,
                problem: bytes.isEmpty
                    ? "is empty"
                    : "is of none of the formats that can be read: safetensors or its index (.json), npy, npz, IDX, CIFAR's "
                        + "binary records (.bin), PNG")
        }
    }

    /// The length of the header in eight bytes, and the header, a JSON object.
    private static func beginsLikeSafetensors(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count > 8 && bytes[8] == UInt8(ascii: "{")
    }

    /// IDX files begin with two zero bytes and a type. A safetensors file begins with the length of its header in eight
    /// bytes, whose low two may be zeros too, and then its header.
    private static func beginsLikeIDX(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= 4 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] >= 8
            && !beginsLikeSafetensors(bytes)
    }
}
