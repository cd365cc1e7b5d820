import FoveaTensor
import FoveaTestSupport

extension OpCheck {
    /// ⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩ to the last digits for each operand that the entry calls linear, where A·x = f(x) − f(0)
    /// and Aᵀ·y is the gradient at another point. What the entry does not call linear must not be.
    static let adjoints = OpCheck("gradients that are adjoints where it is linear, and says where it is") { op in
        var found = Findings()
        for position in 0..<(op.samples().map(\.inputs.count).max() ?? 0) {
            let samples = op.samples().filter {
                position < $0.inputs.count && $0.inputs[position].dtype == .float64 && $0.inputs[position].count > 0
            }
            guard op.linearOperands.contains(position) else {
                let linear = samples.allSatisfy { secondDifference($0, position) == nil }
                found.require(
                    samples.isEmpty || !linear, "it is linear in operand \(position), but its entry does not say so")
                continue
            }
            for sample in samples {
                let place = "“\(sample.label)”, operand \(position)"
                found.add(secondDifference(sample, position), "\(place) is not linear")
                found.add(adjointDifference(sample, position), "\(place), ⟨A·x, y⟩ and ⟨x, Aᵀ·y⟩")
            }
        }
        return found.list
    }

    /// Multiples of 1/256 in a tensor's shape: float32 holds them and their sums, so that they pass any type unrounded.
    private static func exact(like tensor: Tensor, _ seed: UInt64) -> Tensor {
        (normal(like: tensor.detached, seed: seed) * 256).round() / 256
    }

    /// The op as a function of one operand, the others as in the sample.
    private static func partial(_ sample: OpSample, _ position: Int) -> (Tensor) -> Tensor {
        { x in
            var inputs = sample.inputs
            inputs[position] = x
            return sample.run(inputs)
        }
    }

    /// f(x + z) − f(x) − f(z) + f(0), where it is not zero.
    private static func secondDifference(_ sample: OpSample, _ position: Int) -> String? {
        let f = partial(sample, position)
        let (x, z) = (exact(like: sample.inputs[position], 11), exact(like: sample.inputs[position], 12))
        let zero = f(Tensor.zeros(x.shape, dtype: .float64))
        let (whole, parts) = (f(x + z) - zero, (f(x) - zero) + (f(z) - zero))
        // NaN would pass for equal to NaN: outside its domain nothing is linear.
        guard doubles(of: whole).allSatisfy(\.isFinite), doubles(of: parts).allSatisfy(\.isFinite) else {
            return "it is not finite everywhere"
        }
        return difference(whole, parts, tolerance: 1e-12, floor: 16)
    }

    private static func adjointDifference(_ sample: OpSample, _ position: Int) -> String? {
        let f = partial(sample, position)
        let (x, z) = (exact(like: sample.inputs[position], 13), exact(like: sample.inputs[position], 14))
        let image = f(x) - f(Tensor.zeros(x.shape, dtype: .float64))
        let y = exact(like: image, 15)
        let pulled = pullBack({ f($0[0]) }, [z], cotangent: { _ in y }).gradients[0]
        guard pulled.shape == x.shape else { return "the gradient's shape is \(pulled.shape), not \(x.shape)" }
        // The error is measured against the sum without cancellation.
        let scale = Swift.max(1, (image * y).abs().sum().item())
        return difference((x * pulled).sum(), (image * y).sum(), tolerance: 1e-12, floor: scale)
    }
}
