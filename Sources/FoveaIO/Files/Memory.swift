#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Asks the system whether it would give this much memory, before a tensor of the size that a file promises is made:
/// running out there ends the program, while a file that is too large is its reader's error to report.
///
/// - Throws: `FileError` when the system refuses.
func checkMemory(_ byteCount: Int, _ path: String) throws(FileError) {
    // What is small will be given, and asking has its price.
    guard byteCount > 1 << 24 else { return }
    // Not malloc: an optimiser may remove it together with its free, and take it to have succeeded.
    let probe = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
    guard let probe, probe != MAP_FAILED else {
        throw FileError(
            path: path, problem: "needs \(byteCount) bytes of memory, which the system does not give; free some memory")
    }
    munmap(probe, byteCount)
}

/// The product of the lengths, or nil where it overflows.
///
/// Lengths of zero are left out of the check's way: a tensor of shape [2⁶², 2⁶², 0] is empty, but its strides overflow
/// all the same.
func checkedCount(_ shape: [Int]) -> Int? {
    var count = 1
    for length in shape where length != 0 {
        let (product, overflow) = count.multipliedReportingOverflow(by: length)
        if overflow { return nil }
        count = product
    }
    return shape.contains(0) ? 0 : count
}
