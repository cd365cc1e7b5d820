import Foundation
import Fovea

/// The digits that the repository ships, for tests of questions about them.
let digits: Digits = {
    let folder =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path + "/Data/digits"
    guard let digits = try? Digits(folder: folder) else { fatalError("the shipped digits cannot be read") }
    return digits
}()
