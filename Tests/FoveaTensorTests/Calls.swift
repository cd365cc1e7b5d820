import FoveaTensor
import FoveaTestSupport
import Testing

/// The result of a call and the gradients of its floating-point inputs for one cotangent.
struct PulledBack {
    let output: Tensor
    let gradients: [Tensor]
}

/// Calls `run` and pulls a cotangent of its output back.
func pullBack(
    _ run: ([Tensor]) -> Tensor, _ inputs: [Tensor], cotangent: (Tensor) -> Tensor = { normal(like: $0, seed: 1) }
) -> PulledBack {
    let active = inputs.indices.filter { inputs[$0].dtype.isDifferentiable }
    var output: Tensor?
    let gradients = valueAndGradient(
        of: { variables in
            var arguments = inputs
            for (variable, position) in zip(variables, active) { arguments[position] = variable }
            let y = run(arguments)
            output = y
            return (y * cotangent(y)).sum()
        }, at: active.map { inputs[$0] }
    ).gradients
    return PulledBack(output: output!, gradients: gradients)
}

/// Normally distributed numbers of another tensor's shape and type.
func normal(like tensor: Tensor, seed: UInt64) -> Tensor {
    .normal(tensor.shape, key: RandomKey(seed: seed).folding("cotangent"), dtype: tensor.dtype)
}

/// Numbers in −1 … 1 without a pattern that an op could hide behind, cheaper than random ones.
func ripple(like tensor: Tensor) -> Tensor {
    let numbers = (0..<tensor.count).map { Double($0 &* 7919 % 2017) / 1008 - 1 }
    return Tensor(numbers, shape: tensor.shape).cast(to: tensor.dtype)
}

extension Op {
    /// The sample with this label.
    func sample(_ label: String) -> OpSample? { samples().first { $0.label == label } }
}

/// A sample's call on inputs of other shapes.
struct ShapedCall: Sendable {
    /// The label of the sample.
    let label: String
    /// The shapes of the inputs.
    let shapes: [[Int]]

    init(_ label: String, _ shapes: [Int]...) {
        self.label = label
        self.shapes = shapes
    }

    /// Inputs of these shapes that the op is defined on, float64 and int64.
    func inputs(of op: Op, seed: UInt64 = 5) throws -> (inputs: [Tensor], run: @Sendable ([Tensor]) -> Tensor) {
        let sample = try #require(op.sample(label), "\(op.name) has no sample “\(label)”")
        try #require(sample.inputs.count == shapes.count, "\(op.name), sample “\(label)”: the number of inputs")
        // Away from the poles: near one, finite differences say nothing.
        let poles = ["log", "sqrt", "divide", "power", "reciprocal", "rsqrt", "log1p"]
        let range = poles.contains(op.name) ? 0.3...3 : -2...2
        let inputs = shapes.enumerated().map { position, shape -> Tensor in
            let key = RandomKey(seed: seed).folding(op.name).folding(UInt64(position))
            if sample.inputs[position].dtype == .bool {
                let coins = (0..<shape.reduce(1, *)).map { key.integer(below: 2, at: $0) == 1 }
                return Tensor(coins, shape: shape)
            }
            guard sample.inputs[position].dtype == .int64 else {
                return .uniform(shape, in: range, key: key, dtype: .float64)
            }
            let classes = shapes[0].last!
            return Tensor((0..<shape.reduce(1, *)).map { Int64(key.integer(below: classes, at: $0)) }, shape: shape)
        }
        return (inputs, sample.run)
    }

    static let unary =
        ["negate", "exp", "log", "sqrt", "square", "abs", "tanh", "sigmoid", "erf", "relu", "gelu"]
        + [
            "reciprocal", "rsqrt", "log1p", "expm1", "sin", "cos", "sign", "floor", "ceil", "round", "squaredRelu",
            "leakyRelu", "geluTanh", "silu", "softplus", "elu", "clamp", "isNaN", "isFinite", "logicalNot",
        ]
    static let binary =
        ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
        + [
            "power", "equal", "notEqual", "less", "lessOrEqual", "greater", "greaterOrEqual", "logicalAnd",
            "logicalOr", "logicalXor",
        ]

    /// Calls whose inputs are cut in several chunks, by op. An empty list says why in the table.
    static let large: [String: [ShapedCall]] = {
        var calls: [String: [ShapedCall]] = [
            "sum": [
                .init("all", [211, 331]), .init("last", [211, 331]), .init("first", [2501, 31]),
                .init("middle", [5, 141, 101]), .init("several", [41, 41, 43]),
            ],
            "mean": [.init("all", [211, 331]), .init("last", [211, 331]), .init("first", [2501, 31])],
            "max": [.init("all", [211, 331]), .init("last", [211, 331]), .init("first", [331, 211])],
            "argmax": [.init("last", [211, 331]), .init("first", [331, 211])],
            "reshape": [.init("inferred", [201, 400])],
            "permute": [.init("rotated", [31, 41, 53])],
            // A view of a shape that the sample fixes; its gradient is `sum`'s.
            "expand": [],
            "slice": [.init("range", [5, 40_001]), .init("of a view", [6, 30_001])],
            "concatenate": [
                .init("rows", [201, 201], [200, 201]), .init("columns", [201, 200], [201, 1], [201, 199]),
            ],
            "cast": [.init("to float32 and back", [211, 331])],
            "matmul": [
                .init("matrices", [200, 130], [130, 150]), .init("matrices", [40, 300], [300, 330]),
                .init("batch", [20, 40, 30], [20, 30, 40]), .init("batch and matrix", [2, 130, 100], [100, 110]),
                .init("broadcast batch", [2, 1, 90, 80], [2, 80, 150]), .init("vector and matrix", [700], [700, 301]),
            ],
            "linear": [
                .init("rows", [200, 130], [150, 130], [150]), .init("batch without bias", [4, 61, 130], [150, 130]),
            ],
            // More samples than threads, and fewer; parts below and above the size of a chunk.
            "joinedLinear": [
                .init("two parts", [9, 61, 130], [80, 130], [80], [9, 7, 40], [80, 40], [80]),
                .init("two parts", [3, 90, 110], [130, 110], [130], [3, 70, 130], [130, 130], [130]),
                .init("broadcast", [20, 40, 64], [70, 64], [70], [1, 8, 64], [70, 64], [70]),
            ],
            // Blocks of rows that end within a sample, samples of several blocks, and sums of many parts.
            "joinedAffine": [
                .init("scaled, shifted and as it is", [9, 61, 130], [130], [9, 40, 130], [130], [9, 7, 130]),
                .init("one part", [3001, 19], [19], [19]),
                .init("broadcast", [20, 1, 90, 70], [70], [70], [3, 8, 70]),
            ],
            // More rows than a chunk of work has.
            "groupedLinear": [
                .init("rows", [9, 61, 60], [100, 30]), .init("transposed", [700, 80], [80, 150]),
            ],
            "softmax": [.init("last", [3001, 35]), .init("first", [35, 3001])],
            "logSoftmax": [.init("last", [3001, 35]), .init("first", [35, 3001])],
            "layerNorm": [
                .init("affine", [3001, 19], [19], [19]), .init("weight alone", [3501, 19], [19]),
                .init("plain", [31, 3001]),
            ],
            "attention": [
                .init("heads", [2, 4, 40, 9], [2, 4, 50, 9], [2, 4, 50, 9]),
                .init("grouped", [2, 4, 40, 9], [2, 2, 50, 9], [2, 2, 50, 9]),
                .init("keys are values", [1, 4, 20, 9], [1, 1, 150, 9]),
                .init("keys are values", [1, 2, 70, 8], [1, 2, 300, 8]),
                // Several blocks of queries and of keys, and few heads, whose rows and keys are cut.
                .init("causal", [1, 150, 16], [1, 300, 16], [1, 300, 16]),
                // Weights that are kept, of several blocks of both.
                .init("grouped", [1, 4, 40, 34], [1, 2, 66, 34], [1, 2, 66, 34]),
                .init("causal", [1, 70, 36], [1, 70, 36], [1, 70, 36]),
                .init("bias, causal and dropout", [1, 2, 70, 36], [1, 1, 70, 36], [1, 1, 70, 36], [70, 70]),
                .init("one width for values", [700, 8], [600, 8], [600, 5]),
                .init("bias", [2, 70, 4], [2, 530, 4], [2, 530, 4], [70, 530]),
                .init("bias of keys", [2, 4, 70, 4], [2, 2, 530, 4], [2, 2, 530, 4], [2, 1, 1, 530]),
                .init("dropout", [3, 70, 4], [3, 131, 4], [3, 131, 4]),
                .init("bias, causal and dropout", [2, 4, 90, 4], [2, 2, 70, 4], [2, 2, 70, 4], [90, 70]),
            ],
            "dropout": [.init("half", [70_001])],
            "where": [
                .init("equal", [70_001], [70_001], [70_001]), .init("scalar b", [70_001], [70_001], []),
                .init("mask column", [211, 1], [211, 331], [331]),
            ],
            "crossEntropy": [.init("classes", [2001, 35], [2001]), .init("smoothing", [211, 331], [211])],
        ]
        for name in unary { calls[name] = [.init("tail", [70_001])] }
        for name in binary {
            calls[name] = [
                .init("equal", [70_001], [70_001]), .init("row", [211, 331], [331]),
                .init("column", [211, 1], [211, 331]), .init("scalar and tensor", [], [211, 331]),
            ]
        }
        for family in [indexing, largeReductions, largeProducts, neuralLarge] {
            calls.merge(family) { _, twice in twice }
        }
        return calls
    }()

    /// Lengths around the widths of vectors, and one past a thousand.
    static let tails = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 1029]

    /// Calls along an axis of length n, by op.
    static func tail(_ name: String, _ n: Int) -> [ShapedCall] {
        if unary.contains(name) { return [.init("tail", [n])] }
        if binary.contains(name) {
            return [.init("tail", [n], [n]), .init("row", [3, n], [n]), .init("column", [3, 1], [3, n])]
        }
        switch name {
        case "sum", "mean", "max": return [.init("all", [n]), .init("last", [3, n]), .init("first", [n, 3])]
        case "argmax": return n == 0 ? [] : [.init("last", [3, n]), .init("first", [n, 3])]
        case "concatenate": return [.init("columns", [2, n], [2, 1], [2, n])]
        case "cast": return [.init("to float32 and back", [n])]
        case "matmul":
            return [
                .init("matrices", [3, n], [n, 2]), .init("matrices", [n, 3], [3, 2]), .init("vectors", [n], [n]),
            ]
        case "linear":
            return [
                .init("rows", [2, n], [3, n], [3]), .init("rows", [n, 2], [3, 2], [3]),
                .init("rows", [2, 3], [n, 3], [n]), .init("batch without bias", [1, 2, n], [3, n]),
            ]
        case "joinedLinear":
            return [
                .init("two parts", [2, 3, n], [3, n], [3], [2, 1, 2], [3, 2], [3]),
                .init("two parts", [2, n, 2], [3, 2], [3], [2, 2, 2], [3, 2], [3]),
                .init("broadcast", [n, 2, 3], [2, 3], [2], [1, 3, 2], [2, 2], [2]),
                .init("one part of one sample", [2, 3], [n, 3], [n]),
            ]
        case "joinedAffine":
            return [
                .init("scaled, shifted and as it is", [2, n, 3], [3], [2, 1, 3], [3], [2, 2, 3]),
                .init("one part", [2, n], [n], [n]), .init("broadcast", [n, 1, 2, 3], [3], [3], [3, 2, 3]),
            ]
        case "groupedLinear":
            return [
                .init("rows", [n, 2, 6], [4, 3]), .init("rows", [2, 2 * n], [4, n]),
                .init("rows", [2, 4], [2 * n, 2]),
                .init("transposed", [3, 2 * n], [2 * n, 2]), .init("transposed", [3, 4], [4, n]),
            ]
        case "softmax", "logSoftmax": return [.init("tail", [2, n]), .init("first", [n, 2])]
        case "layerNorm": return [.init("tail", [2, 2, n], [n], [n]), .init("affine", [n, 3], [3], [3])]
        case "attention":
            guard n > 0 else { return [] }
            let widths: [ShapedCall] = [
                .init("one width for values", [2, n], [4, n], [4, 1]),
                .init("one width for values", [2, 3], [n, 3], [n, 2]),
                .init("one width for values", [n, 3], [2, 3], [2, n]),
            ]
            // What is quadratic in n stays small.
            guard n <= 65 else { return widths }
            return widths + [
                .init("keys are values", [2, 4, 3, n], [2, 2, 5, n]),
                .init("keys are values", [2, 2, n, 3], [2, 1, n, 3]),
                .init("causal", [1, n, 2], [1, n, 2], [1, n, 3]), .init("dropout", [2, 3, 2], [2, n, 2], [2, n, 2]),
                .init("bias, causal and dropout", [1, 4, n, 2], [1, 2, n, 2], [1, 2, n, 2], [4, 1, n]),
            ]
        case "where":
            return [
                .init("equal", [n], [n], [n]), .init("scalar b", [n], [n], []),
                .init("mask column", [3, 1], [3, n], [n]),
            ]
        case "dropout": return [.init("half", [n])]
        case "crossEntropy":
            return n == 0 ? [] : [.init("classes", [3, n], [3]), .init("smoothing", [n, 4], [n])]
        default: return indexingTail(name, n) + reductionTail(name, n) + neuralTail(name, n)
        }
    }
}
