import Foundation
import FoveaCompression
import FoveaIO
import FoveaNN
import FoveaTensor
import Testing

/// A folder of `Tests/Fixtures`: a published module's weights, inputs, outputs and gradients.
struct ParityCase: Sendable, CustomTestStringConvertible {
    let folder: String

    var testDescription: String { (folder as NSString).lastPathComponent }

    /// The cases whose names start like this.
    static func all(_ prefix: String) -> [ParityCase] {
        let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: fixtures)) ?? []
        return names.filter { $0.hasPrefix(prefix) }.sorted().map { ParityCase(folder: fixtures + "/" + $0) }
    }

    struct Description: Decodable {
        let module: String
        let layout: String
        let config: [String: ConfigurationValue]
        let outputs: [String]
    }

    func description() throws -> Description {
        try JSONDecoder().decode(
            Description.self, from: Data(contentsOf: URL(fileURLWithPath: folder + "/case.json")))
    }

    func tensors(_ file: String) throws -> NamedTensors {
        try SafetensorsFile(reading: folder + "/" + file + ".safetensors").tensors()
    }
}

/// max|got − want| / (1e-3 + max|want|); infinite for another shape and for NaN.
func relativeDifference(_ got: Tensor?, _ want: Tensor) -> Double {
    guard let got, got.shape == want.shape else { return .infinity }
    let (gotValues, wantValues) = (got.doubles, want.doubles)
    let distance = zip(gotValues, wantValues).reduce(0.0) { largest, pair in
        let distance = abs(pair.0 - pair.1)
        return distance.isNaN ? .infinity : max(largest, distance)
    }
    return distance / (1e-3 + (wantValues.map(abs).max() ?? 0))
}

extension Tensor {
    /// The elements in row-major order, whatever their type.
    var doubles: [Double] { cast(to: .float64).scalars() }

    /// float64 numbers that look random and depend on the name alone.
    static func sample(_ shape: [Int], _ name: String) -> Tensor {
        .uniform(shape, in: -2...2, key: RandomKey(seed: 23).folding(name), dtype: .float64)
    }
}

/// What a process that was expected to fail wrote to standard error.
func message(_ result: ExitTest.Result?) -> String {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
}
