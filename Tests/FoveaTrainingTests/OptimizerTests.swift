import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
import OrderedCollections
import Testing

/// A matrix and a vector: one parameter of each of the usual groups.
private struct Pair: Module {
    var weight: Tensor
    var bias: Tensor

    init(dtype: DType = .float64) {
        let key = RandomKey(seed: 3)
        weight = .normal([5, 7], key: key.folding("weight"), dtype: dtype)
        bias = .normal([7], key: key.folding("bias"), dtype: dtype)
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
    }
}

/// Matrices of different shapes.
private struct Matrices: Module {
    var wide: Tensor
    var tall: Tensor
    var square: Tensor

    init(_ tensor: (String) throws -> Tensor) rethrows {
        (wide, tall, square) = (try tensor("wide"), try tensor("tall"), try tensor("square"))
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("wide", &wide)
        visitor.parameter("tall", &tall)
        visitor.parameter("square", &square)
    }
}

private func gradients(_ step: Int, dtype: DType = .float64) -> Gradients {
    let key = RandomKey(seed: 4).folding(UInt64(step))
    return Gradients([
        "weight": .normal([5, 7], deviation: 0.3, key: key.folding("weight"), dtype: dtype),
        "bias": .normal([7], deviation: 2, key: key.folding("bias"), dtype: dtype),
    ])
}

/// What one number goes through under AdamW, as the paper's algorithm 2 has it.
private struct NaiveAdamW {
    var w: Double
    var m = 0.0
    var v = 0.0

    mutating func step(
        _ t: Int, _ g: Double, rate: Double, _ b1: Double, _ b2: Double, _ epsilon: Double, _ decay: Double
    ) {
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        let (mHat, vHat) = (m / (1 - pow(b1, Double(t))), v / (1 - pow(b2, Double(t))))
        w = w - rate * decay * w - rate * mHat / (vHat.squareRoot() + epsilon)
    }
}

/// What one number goes through under SGD, as PyTorch's documentation has it; no dampening.
private struct NaiveSGD {
    var w: Double
    var velocity = 0.0

    mutating func step(_ g: Double, rate: Double, momentum: Double, nesterov: Bool, decay: Double) {
        let d = g + decay * w
        velocity = momentum * velocity + d
        w -= rate * (nesterov ? d + momentum * velocity : velocity)
    }
}

@Suite struct OptimizerTests {
    /// 20 steps in float64 against loops over Doubles; the differences are rounding.
    private func compare(
        _ optimizer: some Optimizer, _ schedule: Schedule, _ label: String,
        naive: (_ path: String, _ start: [Double]) -> (_ step: Int, _ rate: Double, _ g: [Double]) -> [Double]
    ) {
        var (model, optimizer) = (Pair(), optimizer)
        let start = model.parameters
        let references = OrderedDictionary(
            uniqueKeysWithValues: start.map { ($0.key, naive($0.key, $0.value.doubles)) })
        for step in 0..<20 {
            #expect(optimizer.step == step)
            #expect(optimizer.learningRate == schedule.rate(at: step))
            let gradients = gradients(step)
            optimizer.update(&model, along: gradients)
            for (path, reference) in references {
                let want = reference(step, schedule.rate(at: step), gradients[path]!.doubles)
                #expect(difference(model.parameters[path]!.doubles, want) < 1e-12, "\(label): \(path) at step \(step)")
            }
        }
    }

    @Test("gradients of another model trap and name what has no parameter")
    func strays() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            var model = Pair(dtype: .float32)
            var optimizer = SGD(learningRate: .constant(0.1))
            optimizer.update(&model, along: Gradients(["weight": .ones([5, 7]), "inner.weight": .ones([5, 7])]))
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("update: gradients of inner.weight, which Pair does not have"), "\(text)")
    }

    @Test("AdamW, with and without decay, betas and epsilon of one's own")
    func adamW() {
        let schedule = Schedule.warmupCosine(peak: 0.1, warmup: 4, total: 20, floor: 0.1)
        let cases: [(Double, Double, Double, Double)] = [
            (0.9, 0.999, 1e-8, 0.01), (0.9, 0.999, 1e-8, 0), (0.7, 0.95, 0.05, 0.3),
        ]
        for (b1, b2, epsilon, decay) in cases {
            compare(
                AdamW(learningRate: schedule, beta1: b1, beta2: b2, epsilon: epsilon, weightDecay: decay), schedule,
                "AdamW(\(b1), \(b2), \(epsilon), \(decay))"
            ) { path, start in
                var numbers = start.map { NaiveAdamW(w: $0) }
                // Matrices decay, vectors do not.
                let decay = path == "weight" ? decay : 0
                return { step, rate, g in
                    for index in g.indices {
                        numbers[index].step(step + 1, g[index], rate: rate, b1, b2, epsilon, decay)
                    }
                    return numbers.map(\.w)
                }
            }
        }
    }

    @Test("SGD plain, with momentum, with Nesterov's, and with decay")
    func sgd() {
        let schedule = Schedule.warmupLinear(peak: 0.2, warmup: 3, total: 20)
        let cases: [(Double, Bool, Double)] = [
            (0, false, 0), (0.9, false, 0), (0.9, true, 0), (0.5, true, 0.1), (0, false, 0.2),
        ]
        for (momentum, nesterov, decay) in cases {
            compare(
                SGD(learningRate: schedule, momentum: momentum, nesterov: nesterov, weightDecay: decay), schedule,
                "SGD(\(momentum), \(nesterov), \(decay))"
            ) { path, start in
                var numbers = start.map { NaiveSGD(w: $0) }
                let decay = path == "weight" ? decay : 0
                return { _, rate, g in
                    for index in g.indices {
                        numbers[index].step(g[index], rate: rate, momentum: momentum, nesterov: nesterov, decay: decay)
                    }
                    return numbers.map(\.w)
                }
            }
        }
    }

    @Test("float32 follows float64 to its own rounding")
    func float32() {
        for optimizer in [AdamW(learningRate: .constant(0.01)), SGD(learningRate: .constant(0.01), momentum: 0.9)]
            as [any Optimizer]
        {
            var (wide, narrow) = (optimizer, optimizer)
            var (model, single) = (Pair(), Pair(dtype: .float32))
            for step in 0..<20 {
                wide.update(&model, along: gradients(step))
                narrow.update(&single, along: gradients(step, dtype: .float32))
            }
            for (path, tensor) in single.parameters {
                #expect(tensor.dtype == .float32)
                #expect(difference(tensor.doubles, model.parameters[path]!.doubles) < 1e-5, "\(path)")
            }
        }
    }

    @Test("groups: the first that takes a parameter has it, with its factor and decay; without one it stays")
    func groups() {
        var model = Pair()
        let start = model
        var optimizer = SGD(
            learningRate: .constant(0.5),
            groups: [
                ParameterGroup(.path("weight"), weightDecay: 0.1, rateFactor: 0.25),
                ParameterGroup(.path("weight"), weightDecay: 9, rateFactor: 9),
            ])
        optimizer.update(&model, along: gradients(0))
        let want = zip(start.weight.doubles, gradients(0)["weight"]!.doubles).map { $0 - 0.125 * ($1 + 0.1 * $0) }
        #expect(difference(model.weight.doubles, want) < 1e-14)
        #expect(model.bias.bytes() == start.bias.bytes())
        var adam = AdamW(
            learningRate: .constant(0.5), groups: [ParameterGroup(.all, weightDecay: 0.1, rateFactor: 0.25)])
        var adamModel = Pair()
        adam.update(&adamModel, along: gradients(0))
        for (path, tensor) in adamModel.parameters {
            let g = gradients(0)[path]!.doubles
            // After one step m̂ = g and v̂ = g².
            let want = zip(start.parameters[path]!.doubles, g).map { $0 * (1 - 0.0125) - 0.125 * $1 / (abs($1) + 1e-8) }
            #expect(difference(tensor.doubles, want) < 1e-12, "\(path)")
        }
    }

    @Test("the usual groups spare vectors, latents, positions and embeddings from decay")
    func usualGroups() {
        let groups = ParameterGroup.decayingMatrices(0.3)
        func decay(_ path: String, _ shape: [Int]) -> Double? {
            groups.first { $0.filter(path, .ones(shape)) }?.weightDecay
        }
        #expect(decay("encoder.0.mlp.expand.weight", [2, 2]) == 0.3)
        for (path, shape) in [
            ("norm.weight", [2]), ("head.bias", [2]), ("latents", [2, 2]), ("resampler.latents", [2, 2]),
            ("patches.positions", [2, 2]), ("resampler.frameEmbeddings", [2, 2]), ("a.b.mediaEmbeddings", [2, 1, 2]),
        ] {
            #expect(decay(path, shape) == 0, "\(path)")
        }
        #expect(groups.allSatisfy { $0.rateFactor == 1 })
    }

    @Test("a parameter without a gradient stays, and gets no state")
    func frozen() {
        var model = Pair()
        let start = model
        var optimizer = AdamW(learningRate: .constant(0.1))
        optimizer.update(&model, along: Gradients(["bias": gradients(0)["bias"]!]))
        #expect(model.weight.bytes() == start.weight.bytes())
        #expect(model.bias.bytes() != start.bias.bytes())
        #expect(Set(optimizer.state.keys) == ["moment1.bias", "moment2.bias"])
    }

    @Test("an update leaves copies of the model and of the optimizer as they were")
    func snapshots() {
        var (model, optimizer) = (Pair(), AdamW(learningRate: .constant(0.1)))
        optimizer.update(&model, along: gradients(0))
        let (snapshot, past) = (model, optimizer)
        let (before, state) = (bits(snapshot.parameters), bits(past.state))
        optimizer.update(&model, along: gradients(1))
        #expect(bits(snapshot.parameters) == before)
        #expect(bits(past.state) == state && past.step == 1)
        #expect(bits(model.parameters) != before)
        // The copy goes on from where it was taken, to the same place.
        var (again, rest) = (snapshot, past)
        rest.update(&again, along: gradients(1))
        #expect(bits(again.parameters) == bits(model.parameters))
    }

    @Test("state and step restored into a fresh optimizer go on with the same bits")
    func restore() throws {
        let makers: [() -> any Optimizer] = [
            { AdamW(learningRate: .warmupLinear(peak: 0.1, warmup: 2, total: 9)) },
            { SGD(learningRate: .constant(0.1), momentum: 0.9, nesterov: true) },
        ]
        for make in makers {
            var (model, optimizer) = (Pair(), make())
            for step in 0..<5 { optimizer.update(&model, along: gradients(step)) }
            var (again, fresh) = (model, make())
            try fresh.restore(step: optimizer.step, state: optimizer.state)
            #expect(fresh.step == 5)
            for step in 5..<9 {
                optimizer.update(&model, along: gradients(step))
                fresh.update(&again, along: gradients(step))
            }
            #expect(bits(again.parameters) == bits(model.parameters))
            #expect(bits(fresh.state) == bits(optimizer.state))
        }
    }

    @Test("the state of another kind of optimizer is refused")
    func foreignState() {
        var (model, sgd, adam) = (Pair(), SGD(learningRate: .constant(1)), AdamW(learningRate: .constant(1)))
        sgd.update(&model, along: gradients(0))
        adam.update(&model, along: gradients(0))
        let (velocities, moments) = (sgd.state, adam.state)
        #expect(throws: OptimizerStateError.self) { try sgd.restore(step: 1, state: moments) }
        #expect(throws: OptimizerStateError.self) { try adam.restore(step: 1, state: velocities) }
        #expect(throws: OptimizerStateError.self) {
            try adam.restore(step: 1, state: moments.filter { $0.key != "moment2.bias" })
        }
    }

    @Test(
        "ten steps of PyTorch's optimizers, to rounding",
        arguments: [
            ("adamw", AdamW(learningRate: .constant(0.05), weightDecay: 0.1)),
            (
                "adamw-epsilon",
                AdamW(learningRate: .constant(0.02), beta1: 0.8, beta2: 0.95, epsilon: 0.1, weightDecay: 0)
            ),
            ("sgd", SGD(learningRate: .constant(0.1))),
            ("sgd-momentum", SGD(learningRate: .constant(0.1), momentum: 0.9, weightDecay: 0.02)),
            ("sgd-nesterov", SGD(learningRate: .constant(0.05), momentum: 0.8, nesterov: true, weightDecay: 0.03)),
        ] as [(String, any Optimizer)])
    func pytorch(_ run: String, _ start: any Optimizer) throws {
        let file = try SafetensorsFile(reading: repository + "/Tests/Fixtures/optimizers/optimizers.safetensors")
        var (model, optimizer) = (Pair(), start)
        (model.weight, model.bias) = (try file.tensor("start.weight"), try file.tensor("start.bias"))
        for step in 0..<10 {
            optimizer.update(
                &model,
                along: Gradients([
                    "weight": try file.tensor("gradient.\(step).weight"),
                    "bias": try file.tensor("gradient.\(step).bias"),
                ]))
            for (path, tensor) in model.parameters {
                let want = try file.tensor("\(run).\(step).\(path)").doubles
                #expect(difference(tensor.doubles, want) < 1e-12, "\(path) after step \(step)")
            }
        }
    }

    @Test(
        "200 steps of PyTorch's optimizers with its schedules and its clipping",
        arguments: [
            (
                "adamw",
                AdamW(learningRate: .warmupCosine(peak: 0.05, warmup: 20, total: 200, floor: 0.1), weightDecay: 0.1)
            ),
            (
                "sgd-nesterov",
                SGD(
                    learningRate: .warmupLinear(peak: 0.05, warmup: 20, total: 200, floor: 0.1), momentum: 0.8,
                    nesterov: true, weightDecay: 0.03)
            ),
        ] as [(String, any Optimizer)])
    func pytorchLong(_ run: String, _ start: any Optimizer) throws {
        let file = try SafetensorsFile(reading: repository + "/Tests/Fixtures/optimizers/optimizers.safetensors")
        var (model, optimizer) = (Pair(), start)
        (model.weight, model.bias) = (try file.tensor("start.weight"), try file.tensor("start.bias"))
        for step in 0..<200 {
            let gradients = Gradients([
                "weight": try file.tensor("gradient.\(step % 10).weight"),
                "bias": try file.tensor("gradient.\(step % 10).bias"),
            ])
            optimizer.update(&model, along: gradients.clipped(toNorm: 1))
            guard step % 20 == 19 else { continue }
            for (path, tensor) in model.parameters {
                let want = try file.tensor("long-\(run).\(step).\(path)").doubles
                #expect(difference(tensor.doubles, want) < 1e-11, "\(path) after step \(step)")
            }
        }
    }

    @Test("ten steps of PyTorch's Muon on wide, tall and square matrices, to rounding")
    func pytorchMuon() throws {
        let file = try SafetensorsFile(reading: repository + "/Tests/Fixtures/optimizers/optimizers.safetensors")
        var model = try Matrices { try file.tensor("muon.start.\($0)") }
        var optimizer = Muon(learningRate: .constant(0.05), weightDecay: 0.1)
        for step in 0..<10 {
            let gradients = try Matrices { try file.tensor("muon.gradient.\(step).\($0)") }
            optimizer.update(&model, along: Gradients(gradients.parameters))
            for (path, tensor) in model.parameters {
                let want = try file.tensor("muon.\(step).\(path)").doubles
                #expect(difference(tensor.doubles, want) < 1e-12, "\(path) after step \(step)")
            }
        }
    }

    @Test("Muon leaves what is no inner matrix to AdamW, to the bit")
    func muonRest() {
        var (model, other) = (Pair(), Pair())
        var muon = Muon(learningRate: .constant(0.1), weightDecay: 0.2, matrices: .path("weight"))
        var adam = AdamW(learningRate: .constant(0.1), weightDecay: 0.2)
        for step in 0..<5 {
            muon.update(&model, along: gradients(step))
            adam.update(&other, along: gradients(step))
        }
        #expect(model.bias.doubles == other.bias.doubles)
        #expect(model.weight.doubles != other.weight.doubles)
        let filter = Muon.innerMatrices
        let matrix = Tensor.zeros([2, 2])
        #expect(filter("layers.0.attention.query.weight", matrix) && !filter("norm.weight", .zeros([2])))
        for path in ["embedding", "a.embedding", "head.weight", "a.head.weight", "x.latents", "x.positions"] {
            #expect(!filter(path, matrix), "\(path)")
        }
    }

    @Test("a restored Muon goes on in the same bits, and a foreign state is refused")
    func muonState() throws {
        var (model, muon) = (Pair(), Muon(learningRate: .constant(0.1)))
        for step in 0..<3 { muon.update(&model, along: gradients(step)) }
        var (again, restored) = (model, Muon(learningRate: .constant(0.1)))
        try restored.restore(step: 3, state: muon.state)
        for step in 3..<6 {
            muon.update(&model, along: gradients(step))
            restored.update(&again, along: gradients(step))
        }
        #expect(bits(model.parameters) == bits(again.parameters))
        var sgd = SGD(learningRate: .constant(1))
        sgd.update(&again, along: gradients(0))
        #expect(throws: OptimizerStateError.self) { try restored.restore(step: 1, state: sgd.state) }
    }

    @Test("Muon's step is a rotation's: near-equal singular values, whatever the gradient's size; kernels are matrices")
    func muonOrthogonal() throws {
        for shape in [[6, 4], [4, 6], [5, 2, 2]] {
            for size in [1e-4, 1, 1e4] {
                var model = Matrices { _ in .zeros(shape, dtype: .float64) }
                let gradient = Tensor.normal(shape, deviation: size, key: RandomKey(seed: 2), dtype: .float64)
                var muon = Muon(learningRate: .constant(1), weightDecay: 0)
                muon.update(&model, along: Gradients(["wide": gradient]))
                let moved = model.wide.flattened(from: 1)
                let values = try (moved * (1 / (0.2 * Double(moved.shape.max()!).squareRoot()))).svd().s.doubles
                #expect(values.allSatisfy { (0.5...1.3).contains($0) }, "\(shape), \(size): \(values)")
            }
        }
    }

    /// The counters are the process's: a process of its own keeps other tests out of them.
    @Test("updates happen in place: no memory is asked for, and none moves, over 100 updates")
    func inPlace() async {
        await #expect(processExitsWith: .success) {
            for optimizer in [
                AdamW(learningRate: .constant(0.01)), SGD(learningRate: .constant(0.01), momentum: 0.9),
            ] as [any Optimizer] {
                var (model, optimizer) = (Pair(), optimizer)
                let steps = (0..<4).map { gradients($0) }
                func addresses() -> [UInt] {
                    var addresses: [UInt] = []
                    model.forEachParameter { _, tensor in
                        addresses.append(tensor.read { UInt(bitPattern: $0) })
                    }
                    return addresses
                }
                optimizer.update(&model, along: steps[0])
                let (before, places) = (StoragePool.statistics, addresses())
                StoragePool.resetPeak()
                for step in 0..<100 { optimizer.update(&model, along: steps[step % 4]) }
                #expect(StoragePool.statistics.liveBuffers == before.liveBuffers)
                #expect(StoragePool.statistics.liveBytes == before.liveBytes)
                #expect(StoragePool.statistics.cachedBytes == before.cachedBytes)
                #expect(StoragePool.statistics.peakBytes == before.liveBytes)
                #expect(addresses() == places)
            }
        }
    }
}

@Suite struct MovingAverageTests {
    @Test("average ← d · average + (1 − d) · model, with a low decay early on")
    func formula() {
        var model = Pair()
        var average = MovingAverage(of: model, decay: 0.6)
        var want = model.parameters.mapValues(\.doubles)
        for step in 0..<20 {
            model.forEachParameter { path, tensor in
                tensor = .normal(tensor.shape, key: RandomKey(seed: UInt64(step)).folding(path), dtype: .float64)
            }
            average.update(towards: model)
            let decay = min(0.6, Double(1 + step) / Double(10 + step))
            for (path, tensor) in model.parameters {
                want[path] = zip(want[path]!, tensor.doubles).map { decay * $0 + (1 - decay) * $1 }
                #expect(difference(average.model.parameters[path]!.doubles, want[path]!) < 1e-14, "\(path), \(step)")
            }
        }
        #expect(average.updates == 20)
    }

    @Test("averaging changes neither the model nor snapshots of the average")
    func snapshots() {
        let model = Pair()
        var average = MovingAverage(of: model, decay: 0.9)
        let first = average
        var moved = model
        moved.forEachParameter { _, tensor in tensor = tensor + 1 }
        let (before, target) = (bits(model.parameters), bits(moved.parameters))
        average.update(towards: moved)
        #expect(bits(model.parameters) == before && bits(first.model.parameters) == before)
        #expect(bits(moved.parameters) == target)
        #expect(bits(average.model.parameters) != before)
    }

    @Test("updates happen in place once the average has memory of its own")
    func inPlace() async {
        await #expect(processExitsWith: .success) {
            let model = Pair()
            var average = MovingAverage(of: model, decay: 0.9)
            average.update(towards: model)
            let before = StoragePool.statistics
            StoragePool.resetPeak()
            for _ in 0..<100 { average.update(towards: model) }
            #expect(StoragePool.statistics.liveBuffers == before.liveBuffers)
            #expect(StoragePool.statistics.peakBytes == before.liveBytes)
        }
    }
}
