import FoveaTensor

/// Reads a file of CIFAR-10's binary version, such as `data_batch_1.bin`.
///
/// Both results are views of the mapped file.
///
/// Format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version": records of one label and 3,072 bytes, the red,
/// green and blue plane of a picture row by row.
///
/// - Returns: the pictures as `uint8` [N, 3, 32, 32], and the labels, 0 to 9, as `uint8` [N].
/// - Throws: `FileError` when the file cannot be read, does not hold whole records, or a label is above 9.
public func readCIFAR10(_ path: String) throws(FileError) -> (images: Tensor, labels: Tensor) {
    let file = try CIFARFile(path, classes: [10])
    return (file.images, file.labels(0))
}

/// Reads a file of CIFAR-100's binary version, `train.bin` or `test.bin`.
///
/// Both results are views of the mapped file. The format is that of CIFAR-10, with two labels in front of each picture.
///
/// - Returns: the pictures as `uint8` [N, 3, 32, 32], the labels, 0 to 99, and the labels of their groups, 0 to 19, as
///   `uint8` [N].
/// - Throws: `FileError` when the file cannot be read, does not hold whole records, or a label is too large.
public func readCIFAR100(_ path: String) throws(FileError) -> (images: Tensor, labels: Tensor, groups: Tensor) {
    let file = try CIFARFile(path, classes: [20, 100])
    return (file.images, file.labels(1), file.labels(0))
}

/// A file of records: some labels, then a picture.
private struct CIFARFile {
    private let pixels: Storage
    private let labelCount: Int
    private let count: Int

    /// Opens a file whose records begin with one label for each number of classes.
    init(_ path: String, classes: [Int]) throws(FileError) {
        let file = try MappedFile(path)
        let bytes = file.bytes
        let record = classes.count + cifarPictureByteCount
        guard let base = bytes.baseAddress, bytes.count % record == 0 else {
            throw FileError(
                path: path,
                problem: "is \(bytes.count) bytes long; expected one or more records of \(record) bytes each")
        }
        labelCount = classes.count
        count = bytes.count / record
        for start in stride(from: 0, to: bytes.count, by: record) {
            for (index, limit) in classes.enumerated() where bytes[start + index] >= limit {
                throw FileError(
                    path: path,
                    problem:
                        "byte \(start + index): picture \(start / record) has the label \(bytes[start + index]); "
                        + "expected 0 to \(limit - 1)")
            }
        }
        pixels = Storage(borrowing: base, byteCount: bytes.count, owner: file)
    }

    var images: Tensor {
        Tensor(storage: pixels, shape: [0], dtype: .uint8).view(
            shape: [count, 3, 32, 32], strides: [labelCount + cifarPictureByteCount, 1024, 32, 1], offset: labelCount)
    }

    func labels(_ index: Int) -> Tensor {
        Tensor(storage: pixels, shape: [0], dtype: .uint8).view(
            shape: [count], strides: [labelCount + cifarPictureByteCount], offset: index)
    }
}

/// Bytes of one picture: three planes of 32 × 32.
let cifarPictureByteCount = 3 * 32 * 32
