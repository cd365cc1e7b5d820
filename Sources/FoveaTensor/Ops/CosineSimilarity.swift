import CKernels

// MARK: cosineSimilarity

extension Op {
    public static let cosineSimilarity = Op("cosineSimilarity", "⟨a, b⟩ / (‖a‖ · ‖b‖) along an axis") {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.cosineSimilarity($0[0], $0[1], axis: -1) }
        return [
            OpSample("last", [$0.uniform([3, 5]), $0.uniform([3, 5])], run: run),
            OpSample("first", [$0.uniform([5, 3]), $0.uniform([5, 3])]) {
                FoveaTensor.cosineSimilarity($0[0], $0[1], axis: 0)
            },
            OpSample("pairs", [$0.uniform([3, 1, 4]), $0.uniform([2, 4])], run: run),
            OpSample("vectors", [$0.uniform([7]), $0.uniform([7])], run: run),
            OpSample("empty", [$0.uniform([0, 4]), $0.uniform([0, 4])], run: run),
        ]
    }
}

/// ⟨a, b⟩ / (max(‖a‖, ε) · max(‖b‖, ε)) along `axis`, which goes; shapes broadcast, and `axis` counts in the broadcast
/// shape.
///
/// A zero vector has similarity 0 to all others, and the gradient b / (ε · max(‖b‖, ε)), as in PyTorch; below ε the norm
/// counts as the constant ε, while PyTorch still differentiates it. NaN and infinite elements give NaN.
public func cosineSimilarity(_ a: Tensor, _ b: Tensor, axis: Int = 1, epsilon: Double = 1e-8) -> Tensor {
    a.requireDifferentiableType("cosineSimilarity")
    guard a.dtype == b.dtype, let shape = broadcastShape(a.shape, b.shape) else {
        trap("cosineSimilarity", "two tensors of one type whose shapes broadcast are needed", a, b)
    }
    let axis = a.expanded(to: shape).normalizedAxis(axis, "cosineSimilarity")

    /// x as a unit vector, and the factor 1 / max(‖x‖, ε).
    func normalized(_ x: Tensor) -> (unit: Tensor, scale: Tensor, depends: Tensor) {
        let norm = x.square().sum(axes: [axis], keepingAxes: true).sqrt()
        let floor = Tensor.full([], epsilon, dtype: x.dtype)
        let scale = 1 / maximum(norm, floor)
        // 1 where the norm depends on x, 0 where ε stands in its place.
        let depends = Tensor.combined(floor, norm, CK_LESS, "cosineSimilarity")
        return (x * scale, scale, depends)
    }
    let (left, right) = withoutGradient {
        (normalized(a.detached.expanded(to: shape)), normalized(b.detached.expanded(to: shape)))
    }
    let similarity = withoutGradient { (left.unit * right.unit).sum(axes: [axis], keepingAxes: true) }
    /// d/dx of ⟨x̂, ŷ⟩ = (ŷ − x̂·⟨x̂, ŷ⟩) / ‖x‖.
    func pulled(
        _ g: Tensor, _ x: (unit: Tensor, scale: Tensor, depends: Tensor), _ other: Tensor, to shape: [Int]
    ) -> Tensor {
        ((other - x.unit * (similarity * x.depends)) * (x.scale * g.unsqueezed(axis))).reduced(to: shape)
    }
    return similarity.squeezed(axis).derived(
        by: .cosineSimilarity, from: a, { [shape = a.shape] g in pulled(g, left, right.unit, to: shape) }, and: b,
        { [shape = b.shape] g in pulled(g, right, left.unit, to: shape) })
}
