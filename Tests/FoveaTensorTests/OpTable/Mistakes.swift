import FoveaTensor
import FoveaTestSupport
import Testing

private func zeros(_ shape: Int...) -> Tensor { .zeros(shape) }

/// Numbers of a type that does not compute.
private let integers = Tensor([Int64(1), 2])

/// A mistaken type for an op of one operand.
private func typed(_ name: String, _ call: @escaping @Sendable (Tensor) -> Tensor) -> TrapCase {
    TrapCase("\(name) of integers", saying: "\(name): float32 or float64 is needed", "int64 [2]") { _ = call(integers) }
}

/// Mistakes for the ops that have none among their family's.
private let furtherMistakes: [TrapCase] = [
    typed("reciprocal") { $0.reciprocal() }, typed("rsqrt") { $0.rsqrt() }, typed("log1p") { $0.log1p() },
    typed("expm1") { $0.expm1() }, typed("sin") { $0.sin() }, typed("cos") { $0.cos() }, typed("log") { $0.log() },
    typed("sqrt") { $0.sqrt() }, typed("square") { $0.square() }, typed("abs") { $0.abs() },
    typed("tanh") { $0.tanh() }, typed("sigmoid") { $0.sigmoid() }, typed("erf") { $0.erf() },
    typed("relu") { $0.relu() }, typed("gelu") { $0.gelu() }, typed("sign") { $0.sign() },
    typed("floor") { $0.floor() }, typed("ceil") { $0.ceil() }, typed("round") { $0.round() },
    typed("squaredRelu") { $0.squaredRelu() }, typed("leakyRelu") { $0.leakyRelu() },
    typed("geluTanh") { $0.geluTanh() }, typed("silu") { $0.silu() }, typed("elu") { $0.elu() },
    typed("logSoftmax") { $0.logSoftmax(axis: 0) }, typed("standardDeviation") { $0.standardDeviation() },
    typed("l2Norm") { $0.l2Norm() }, typed("logSumExp") { $0.logSumExp() }, typed("mean") { $0.mean() },
    typed("isNaN") { $0.isNaN() }, typed("isFinite") { $0.isFinite() },
    TrapCase("power", saying: "power: the shapes do not broadcast", "[2]", "[3]") { _ = power(zeros(2), zeros(3)) },
    TrapCase("subtract", saying: "-: the shapes do not broadcast", "[2]", "[3]") { _ = zeros(2) - zeros(3) },
    TrapCase("divide", saying: "/: the shapes do not broadcast", "[2]", "[3]") { _ = zeros(2) / zeros(3) },
    TrapCase("negate", saying: "-: float32 or float64 is needed", "int64 [2]") { _ = -integers },
    TrapCase("minimum", saying: "minimum: the types differ") { _ = minimum(zeros(2), .zeros([2], dtype: .float64)) },
    TrapCase("notEqual", saying: ".!=: the shapes do not broadcast") { _ = (zeros(2) .!= zeros(3)) },
    TrapCase("lessOrEqual", saying: ".<=: the shapes do not broadcast") { _ = (zeros(2) .<= zeros(3)) },
    TrapCase("greaterOrEqual", saying: ".>=: the shapes do not broadcast") { _ = (zeros(2) .>= zeros(3)) },
    TrapCase("logicalOr", saying: ".|: bool is needed") { _ = (zeros(2) .| zeros(2)) },
    TrapCase("logicalXor", saying: ".^: bool is needed") { _ = (zeros(2) .^ zeros(2)) },
    TrapCase("logicalNot", saying: ".!: bool is needed") { _ = .!zeros(2) },
    TrapCase("argsort", saying: "argsort: axis 1 is outside the 1 axes", "[4]") { _ = zeros(4).argsorted(axis: 1) },
    TrapCase("batchNormInference", saying: "batchNormInference: an input [B, C, ...]", "[3]") {
        _ = batchNormInference(zeros(2, 4), mean: zeros(3), variance: zeros(3))
    },
    TrapCase("klDivergence", saying: "klDivergence: input and target", "[3]", "[2]") {
        _ = klDivergence(zeros(3), zeros(2))
    },
    TrapCase("adaptiveAveragePooling", saying: "adaptiveAveragePooling: [B, C, H, W]", "[3, 3]") {
        _ = zeros(3, 3).adaptiveAveragePooled(to: 2)
    },
    TrapCase("bicubicInterpolation", saying: "bicubicInterpolation: [B, C, H, W]", "[3, 3]") {
        _ = zeros(3, 3).interpolatedBicubic(to: 2)
    },
    TrapCase("svd", saying: "svd: matrices [..., n, m] are needed", "[3]") { _ = try? zeros(3).svd() },
    TrapCase("logDeterminant", saying: "logDeterminant: square matrices", "[2, 3]") {
        _ = zeros(2, 3).logDeterminant()
    },
]

/// Ops that are differentiated inside another gradient.
private let nested = Op.catalogue.filter(\.isDifferentiable)

@Suite("Mistakes with every op")
struct MistakeTests {
    @Test("stop the program and say why", arguments: zip(furtherMistakes.indices, furtherMistakes.map(\.label)))
    func mistake(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            furtherMistakes[index].call()
        }
        furtherMistakes[index].expectMessage(in: result)
    }

    @Test("are told for each op that can be called wrongly")
    func everyOp() {
        let spelled = [
            "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "negate": "-", "equal": ".==",
            "notEqual": ".!=", "less": ".<", "lessOrEqual": ".<=", "greater": ".>", "greaterOrEqual": ".>=",
            "logicalAnd": ".&", "logicalOr": ".|", "logicalXor": ".^", "logicalNot": ".!",
        ]
        let told = [
            tensorMistakes, neuralMistakes, linearAlgebraMistakes, indexingMistakes, reductionMistakes, furtherMistakes,
        ].flatMap { $0 }.flatMap(\.fragments)
        let untold = Op.catalogue.map(\.name).filter { name in
            !told.contains { $0.hasPrefix("\(spelled[name] ?? name):") }
        }
        // Every tensor can be cast to every type.
        #expect(untold == ["cast"])
    }

    @Test("second order stops the program, whatever the op", arguments: zip(nested.indices, nested.map(\.name)))
    func secondOrder(index: Int, name: String) async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            for sample in nested[index].samples() {
                guard let position = sample.inputs.firstIndex(where: { $0.dtype == .float64 && $0.count > 0 }) else {
                    continue
                }
                // The outer gradient's tensor goes through the op while the inner one records.
                _ = gradient(
                    of: { outer in
                        gradient(
                            of: { inner in
                                var inputs = sample.inputs
                                inputs[position] = outer
                                return sample.run(inputs).sum() + inner.sum()
                            }, at: Tensor([1.0])
                        ).sum()
                    }, at: sample.inputs[position])
            }
        }
        guard let result else { return }
        let text = String(decoding: result.standardErrorContent, as: UTF8.self)
        #expect(text.contains("a gradient cannot be differentiated again (second order is out of scope)"), "\(name)")
    }
}
