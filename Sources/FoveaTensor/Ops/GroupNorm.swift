// Norms over groups of channels and over batches. Composed of ops that record themselves.

extension Tensor {
    /// This vector of C elements, one a channel, shaped to broadcast to [B, C, ...].
    fileprivate func alongChannels(rank: Int) -> Tensor {
        reshaped(to: [shape[0]] + [Int](repeating: 1, count: rank - 2))
    }
}

/// x [B, C, ...] · weight + bias, a factor and a summand for each channel.
private func scaled(_ x: Tensor, _ weight: Tensor?, _ bias: Tensor?) -> Tensor {
    var y = x
    if let weight { y = y * weight.alongChannels(rank: x.rank) }
    if let bias { y = y + bias.alongChannels(rank: x.rank) }
    return y
}

/// Traps unless x is [B, C, ...] and each vector has C elements of its type.
private func requireChannels(_ x: Tensor, _ vectors: [Tensor?], _ op: String) {
    let vectors = vectors.compactMap { $0 }
    x.requireDifferentiableType(op)
    guard x.rank >= 2, vectors.allSatisfy({ $0.shape == [x.shape[1]] && $0.dtype == x.dtype }) else {
        trap(op, "an input [B, C, ...] and vectors of C elements of its type are needed", [x] + vectors)
    }
}

// MARK: groupNorm

extension Op {
    public static let groupNorm = Op(
        "groupNorm", "(x − mean) / √(variance + ε) over groups of channels", linearIn: [1, 2]
    ) {
        [
            OpSample("affine", [$0.uniform([2, 4, 3]), $0.uniform([4]), $0.uniform([4])]) {
                FoveaTensor.groupNorm($0[0], groups: 2, weight: $0[1], bias: $0[2])
            },
            OpSample("images", [$0.uniform([2, 4, 3, 2])]) { FoveaTensor.groupNorm($0[0], groups: 2) },
            OpSample("weight alone", [$0.uniform([2, 4, 3]), $0.uniform([4])]) {
                FoveaTensor.groupNorm($0[0], groups: 2, weight: $0[1])
            },
            OpSample("empty", [$0.uniform([0, 4, 3]), $0.uniform([4]), $0.uniform([4])]) {
                FoveaTensor.groupNorm($0[0], groups: 2, weight: $0[1], bias: $0[2])
            },
        ]
    }
}

/// (x − mean) / √(variance + ε) · weight + bias, mean and biased variance over each group of consecutive channels and all
/// positions: x [B, C, ...], weight and bias [C] or nil. NaN and infinities make their group NaN. Traps unless `groups`
/// divides C. (Wu and He, "Group normalization", 2018.)
public func groupNorm(
    _ x: Tensor, groups: Int, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Double = 1e-5
) -> Tensor {
    requireChannels(x, [weight, bias], "groupNorm")
    guard groups > 0, x.shape[1] % groups == 0 else {
        trap("groupNorm", "\(groups) groups do not divide the channels", x)
    }
    let length = x.shape.dropFirst().reduce(1, *) / groups
    let normal = layerNorm(x.reshaped(to: [x.shape[0] * groups, length]), epsilon: epsilon)
    return scaled(normal.reshaped(to: x.shape), weight, bias)
}

// MARK: batchNorm

extension Op {
    public static let batchNorm = Op(
        "batchNorm", "(x − mean) / √(variance + ε) over a batch, and its statistics", linearIn: [1, 2]
    ) {
        // The statistics are results too, and have gradients.
        let run: @Sendable ([Tensor]) -> Tensor = {
            let (y, mean, variance) = FoveaTensor.batchNorm(
                $0[0], weight: $0.count > 1 ? $0[1] : nil, bias: $0.count > 2 ? $0[2] : nil)
            return concatenated([y.flattened(), mean, variance], axis: 0)
        }
        return [
            OpSample("rows", [$0.uniform([5, 3]), $0.uniform([3]), $0.uniform([3])], run: run),
            OpSample("images", [$0.uniform([2, 3, 2, 3])], run: run),
            OpSample("weight alone", [$0.uniform([4, 2, 3]), $0.uniform([2])], run: run),
        ]
    }
    public static let batchNormInference = Op(
        "batchNormInference", "(x − mean) / √(variance + ε), statistics given", linearIn: [0, 1, 3, 4]
    ) {
        [
            OpSample(
                "images",
                [
                    $0.uniform([2, 3, 2, 3]), $0.uniform([3]), $0.uniform([3], 0.5...2), $0.uniform([3]),
                    $0.uniform([3]),
                ]
            ) { FoveaTensor.batchNormInference($0[0], mean: $0[1], variance: $0[2], weight: $0[3], bias: $0[4]) },
            OpSample("plain", [$0.uniform([4, 3]), $0.uniform([3]), $0.uniform([3], 0.5...2)]) {
                FoveaTensor.batchNormInference($0[0], mean: $0[1], variance: $0[2])
            },
            OpSample("empty", [$0.uniform([0, 3]), $0.uniform([3]), $0.uniform([3], 0.5...2)]) {
                FoveaTensor.batchNormInference($0[0], mean: $0[1], variance: $0[2])
            },
        ]
    }
}

/// (x − mean) / √(variance + ε) · weight + bias with the batch's own mean and biased variance of each channel, as in
/// training: x [B, C, ...], weight and bias [C] or nil. (Ioffe and Szegedy, "Batch normalization", 2015.)
///
/// The statistics come back as well, [C] each, for the caller's running averages: a function keeps nothing, where
/// PyTorch writes into its arguments. PyTorch's running variance takes the unbiased one: n / (n − 1) times this with
/// n = B times the positions. One value a channel has variance 0 and gives the bias, where PyTorch refuses; an empty
/// batch has statistics NaN. A NaN or an infinity makes its channel NaN.
public func batchNorm(
    _ x: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Double = 1e-5
) -> (output: Tensor, mean: Tensor, variance: Tensor) {
    requireChannels(x, [weight, bias], "batchNorm")
    let axes = [0] + (2..<x.rank)
    let mean = x.mean(axes: axes, keepingAxes: true)
    let centered = x - mean
    let variance = centered.square().mean(axes: axes, keepingAxes: true)
    let normal = centered / (variance + epsilon).sqrt()
    let channels = [x.shape[1]]
    return (scaled(normal, weight, bias), mean.reshaped(to: channels), variance.reshaped(to: channels))
}

/// (x − mean) / √(variance + ε) · weight + bias with statistics that are given, as in inference: x [B, C, ...], all others
/// [C]. Gradients flow to the statistics too, where PyTorch gives none.
public func batchNormInference(
    _ x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Double = 1e-5
) -> Tensor {
    requireChannels(x, [mean, variance, weight, bias], "batchNormInference")
    let deviation = (variance + epsilon).sqrt().alongChannels(rank: x.rank)
    return scaled((x - mean.alongChannels(rank: x.rank)) / deviation, weight, bias)
}
