import Fovea
import FoveaTestSupport
import Testing

/// One published form of one entry, as the argument of a test.
struct CatalogueForm: Sendable, CustomTestStringConvertible {
    let entry: ModuleEntry
    let form: PublishedForm

    var testDescription: String { "\(entry.name) (\(form.layout))" }

    static let all = ModuleCatalogue.entries.flatMap { entry in
        entry.forms.map { CatalogueForm(entry: entry, form: $0) }
    }

    func instance(_ dtype: DType = .float64) throws -> any ModuleInstance {
        try form.instance(form.sample, dtype: dtype, owner: entry.name)
    }

    func inputs(seed: UInt64 = 0) -> NamedTensors {
        var source = SampleSource(key: RandomKey(seed: seed).folding(entry.name))
        return form.sampleInputs(&source)
    }

    /// Inputs and outputs by name as they are of one member of a batch; packed members take several rows each.
    func member(_ member: Int, of tensors: NamedTensors, _ configuration: Configuration) throws -> NamedTensors {
        var part: NamedTensors = [:]
        for (name, tensor) in tensors where try role(name).isPerMember {
            let rows = try rows(of: name, configuration)
            part[name] = tensor.sliced(axis: 0, member * rows..<(member + 1) * rows)
        }
        return part
    }

    /// How many members a batch of inputs has.
    func memberCount(_ inputs: NamedTensors, _ configuration: Configuration) throws -> Int {
        let counts = try inputs.map { name, tensor in try tensor.shape[0] / rows(of: name, configuration) }
        let count = try #require(counts.first)
        try #require(counts.allSatisfy { $0 == count }, "an input has no batch axis")
        return count
    }

    /// What the form says of an input or output.
    func role(_ name: String) throws -> TensorRole {
        try #require((form.inputs + form.outputs).first { $0.covers(name) })
    }

    private func rows(of name: String, _ configuration: Configuration) throws -> Int {
        try role(name).rowsPerMember(configuration)
    }

    /// The type that a tensor of this role has in a computation in `dtype`.
    func type(of name: String, in dtype: DType) throws -> DType {
        switch try role(name).kind {
        case .numbers: dtype
        case .indices: .int64
        case .mask: .bool
        }
    }

    /// Whether some output has a gradient.
    var isDifferentiable: Bool { form.outputs.contains { $0.kind == .numbers } }
}

@Suite struct CatalogueTests {
    @Test("names are unique, and found")
    func names() {
        let names = ModuleCatalogue.entries.map(\.name)
        #expect(Set(names).count == names.count)
        for name in names { #expect(ModuleCatalogue.entry(name)?.name == name) }
        #expect(ModuleCatalogue.entry("perceiver") == nil)
        #expect(Set(CatalogueForm.all.map(\.testDescription)).count == CatalogueForm.all.count)
    }

    @Test("the sample runs and gives the outputs that the form states", arguments: CatalogueForm.all)
    func sample(_ sample: CatalogueForm) throws {
        let inputs = sample.inputs()
        let outputs = try sample.instance().outputs(inputs)
        let stated = sample.form.outputs.map { role in outputs.keys.filter { role.covers($0) } }
        #expect(stated.allSatisfy { !$0.isEmpty } && stated.flatMap { $0 } == outputs.keys.elements)
        for (name, output) in outputs {
            #expect(try output.dtype == sample.type(of: name, in: .float64), "\(name)")
            #expect(doubles(of: output).allSatisfy { $0.isFinite }, "\(name)")
        }
    }

    @Test("gradients for every parameter and input against finite differences, to 1e-6", arguments: CatalogueForm.all)
    func gradients(_ sample: CatalogueForm) throws {
        let instance = try sample.instance()
        for seed in [0, 1] as [UInt64] {
            let found = try instance.checkGradients(sample.inputs(seed: seed), name: sample.entry.name, seed: seed)
            guard let check = found else {
                #expect(!sample.isDifferentiable)
                continue
            }
            #expect(check.tolerance == 1e-6)
            #expect(check.passed, "\(check.message)")
            #expect(check.samples == 1 && check.worst != nil)
        }
    }

    @Test("gradients come under the names of the weights and inputs, with their shapes", arguments: CatalogueForm.all)
    func gradientNames(_ sample: CatalogueForm) throws {
        let instance = try sample.instance()
        let inputs = sample.inputs()
        let outputs = try instance.outputs(inputs)
        let cotangents = outputs.filter { $0.value.dtype.isDifferentiable }.mapValues {
            Tensor.ones($0.shape, dtype: .float64)
        }
        // What is chosen has no gradient, and asking for one is an error.
        for (name, output) in outputs where !output.dtype.isDifferentiable {
            #expect(throws: ModuleInputError.self) {
                _ = try instance.gradients(inputs, cotangents: [name: .ones(output.shape, dtype: .float64)])
            }
        }
        guard sample.isDifferentiable else { return }
        let gradients = try instance.gradients(inputs, cotangents: cotangents)
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        #expect(gradients.keys.elements == instance.weights.keys.elements + active.keys.elements)
        for (name, tensor) in instance.weights.merging(active, uniquingKeysWith: { weight, _ in weight }) {
            #expect(gradients[name]?.shape == tensor.shape, "\(name)")
        }
        // Without a cotangent there is nothing to differentiate.
        #expect(throws: ModuleInputError.self) { _ = try instance.gradients(inputs, cotangents: [:]) }
    }

    @Test("a batch gives what its members give alone", arguments: CatalogueForm.all)
    func batch(_ sample: CatalogueForm) throws {
        // Two draws make a batch of four different members.
        let (a, b) = (sample.inputs(seed: 0), sample.inputs(seed: 1))
        var whole: NamedTensors = [:]
        for (name, tensor) in a { whole[name] = concatenated([tensor, b[name]!], axis: 0) }
        let size = try sample.memberCount(whole, try sample.instance().configuration)
        for (dtype, tolerance) in [(DType.float64, 1e-13), (.float32, 1e-6)] {
            let instance = try sample.instance(dtype)
            let inputs = whole.mapValues { $0.dtype.isDifferentiable ? $0.cast(to: dtype) : $0 }
            let together = try instance.outputs(inputs)
            for member in 0..<size {
                let parts = try sample.member(member, of: together, instance.configuration)
                let one = try sample.member(member, of: inputs, instance.configuration)
                for (name, output) in try instance.outputs(one) where try sample.role(name).isPerMember {
                    let difference = relativeDifference(output, parts[name]!)
                    #expect(difference <= tolerance, "\(name) of member \(member) in \(dtype)")
                }
            }
        }
    }

    @Test("weights get the sum of their members' gradients, inputs each its own", arguments: CatalogueForm.all)
    func accumulation(_ sample: CatalogueForm) throws {
        guard sample.isDifferentiable else { return }
        let (a, b) = (sample.inputs(seed: 0), sample.inputs(seed: 1))
        var whole: NamedTensors = [:]
        for (name, tensor) in a { whole[name] = concatenated([tensor, b[name]!], axis: 0) }
        let instance = try sample.instance()
        let key = RandomKey(seed: 5)
        let cotangents = try instance.outputs(whole)
            .filter { name, output in try output.dtype.isDifferentiable && sample.role(name).isPerMember }
            .mapValues { Tensor.normal($0.shape, key: key, dtype: .float64) }
        let together = try instance.gradients(whole, cotangents: cotangents)
        let size = try sample.memberCount(whole, instance.configuration)
        // Micro-batches of one member each, added up.
        let parts = try (0..<size).map { member in
            func part(_ tensors: NamedTensors) throws -> NamedTensors {
                try sample.member(member, of: tensors, instance.configuration)
            }
            return try instance.gradients(part(whole), cotangents: part(cotangents))
        }
        for name in instance.weights.keys {
            let sum = parts.dropFirst().reduce(parts[0][name]!) { $0 + $1[name]! }
            #expect(relativeDifference(sum, together[name]!) <= 1e-12, "\(name)")
        }
        for (name, input) in whole where input.dtype.isDifferentiable {
            let own = concatenated(parts.map { $0[name]! }, axis: 0)
            #expect(relativeDifference(own, together[name]!) <= 1e-12, "\(name)")
        }
    }

    @Test("gradients have the same bits with and without a checkpoint", arguments: CatalogueForm.all)
    func checkpoints(_ sample: CatalogueForm) throws {
        guard sample.isDifferentiable else { return }
        let instance = try sample.instance()
        let inputs = sample.inputs()
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        let (weights, key) = (instance.weights, RandomKey(seed: 6))
        // The module with traced weights, its outputs in one row.
        func row(_ arguments: [Tensor]) -> Tensor? {
            var (traced, given) = (instance, inputs)
            var named: NamedTensors = [:]
            for (name, tensor) in zip(weights.keys, arguments) { named[name] = tensor }
            for (name, tensor) in zip(active.keys, arguments.dropFirst(weights.count)) { given[name] = tensor }
            guard (try? traced.load(named, source: "a test")) != nil, let outputs = try? traced.outputs(given) else {
                return nil
            }
            return concatenated(outputs.values.filter { $0.dtype.isDifferentiable }.map { $0.flattened() }, axis: 0)
        }
        func gradients(_ wrap: (@escaping () -> Tensor) -> Tensor) -> [Tensor] {
            valueAndGradient(
                of: { arguments in
                    let y = wrap { row(arguments) ?? Tensor([Double.nan]) }
                    return (y * Tensor.normal(y.shape, key: key, dtype: .float64)).sum()
                }, at: weights.values.elements + active.values.elements
            ).gradients
        }
        let plain = gradients { $0() }
        #expect(plain.contains { $0.count > 0 && $0.abs().sum().item() > 0 }, "nothing flows back")
        for (name, (a, b)) in zip(
            weights.keys.elements + active.keys.elements, zip(gradients { checkpointed($0) }, plain))
        {
            #expect(a.bytes() == b.bytes(), "\(name)")
        }
    }

    @Test("an empty batch gives an empty output", arguments: CatalogueForm.all)
    func emptyBatch(_ sample: CatalogueForm) throws {
        let inputs = sample.inputs().mapValues { $0.sliced(axis: 0, 0..<0) }
        let whole = try sample.instance().outputs(sample.inputs())
        let told = (sample.form.inputs.map(\.shape) + sample.form.keys.map(\.name)).joined(separator: " ")
        for (name, output) in try sample.instance().outputs(inputs) {
            let role = try sample.role(name)
            guard role.isPerMember else {
                #expect(output.shape == whole[name]!.shape, "\(name)")
                continue
            }
            // A length that neither inputs nor keys tell is that of the longest member, of which there is none.
            let words = role.shape.dropFirst().dropLast().split(separator: ",").map { $0.filter { $0 != " " } }
            let isRagged = words.contains { $0.count == 1 && Int($0) == nil && !told.contains($0) }
            #expect(output.shape.first == 0 && output.rank == whole[name]!.rank, "\(name)")
            #expect(isRagged || output.shape == [0] + whole[name]!.shape.dropFirst(), "\(name)")
        }
    }

    @Test("float32 agrees with float64", arguments: CatalogueForm.all)
    func types(_ sample: CatalogueForm) throws {
        let (wide, narrow) = (try sample.instance(), try sample.instance(.float32))
        let inputs = sample.inputs()
        let outputs = try wide.outputs(inputs)
        let narrowed = inputs.mapValues { $0.dtype.isDifferentiable ? $0.cast(to: .float32) : $0 }
        for (name, output) in try narrow.outputs(narrowed) {
            #expect(try output.dtype == sample.type(of: name, in: .float32), "\(name)")
            #expect(relativeDifference(output, outputs[name]!) <= 2e-5, "\(name)")
        }
    }

    @Test("weights load back under their published names", arguments: CatalogueForm.all)
    func weights(_ sample: CatalogueForm) throws {
        var instance = try sample.instance()
        let drawn = instance.weights.mapValues { tensor in
            Tensor.uniform(tensor.shape, key: RandomKey(seed: 77), dtype: .float64)
        }
        let report = try instance.load(drawn, source: "a test")
        #expect(report.isComplete && report.cast.isEmpty)
        #expect(instance.weights.keys == drawn.keys)
        for (name, tensor) in instance.weights { #expect(tensor.bytes() == drawn[name]!.bytes(), "\(name)") }
        #expect(instance.weights.values.reduce(0) { $0 + $1.count } == instance.module.parameterCount)
    }

    @Test("configurations and inputs that do not fit are errors", arguments: CatalogueForm.all)
    func refusals(_ sample: CatalogueForm) throws {
        let form = sample.form
        func refused(_ configuration: [String: ConfigurationValue], _ part: String) throws {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try form.instance(configuration, owner: "config.json")
            }
            #expect(error.description.contains(part), "\(error)")
            #expect(!error.description.contains("\n"))
        }
        try refused(form.sample.merging(["colour": .int(1)]) { $1 }, "\"colour\"")
        for key in form.keys where key.complaint(about: .string("many")) != nil {
            try refused(form.sample.merging([key.name: .string("many")]) { $1 }, "\"\(key.name)\"")
            if key.defaultValue == nil {
                try refused(form.sample.filter { $0.key != key.name }, "\"\(key.name)\"")
            }
        }
        let instance = try sample.instance()
        for (name, tensor) in sample.inputs() {
            var inputs = sample.inputs()
            inputs[name] = nil
            #expect(throws: ModuleInputError.self) { _ = try instance.outputs(inputs) }
            inputs = sample.inputs()
            inputs["more"] = tensor
            #expect(throws: ModuleInputError.self) { _ = try instance.outputs(inputs) }
            // One element more along the last axis whose length is no free choice, and numbers of another kind.
            inputs = sample.inputs()
            let role = try #require(form.inputs.first { $0.name == name })
            let words = role.shape.dropFirst().dropLast().split(separator: ",")
            // Where no key fixes a length, another input does, as that of a mask; or nothing does.
            let others = form.inputs.filter { $0.name != name }.map(\.shape).joined(separator: ",")
            let shared = others.split { "[], ".contains($0) }
            let fixed =
                words.lastIndex { word in form.keys.contains { word.contains($0.name) } }
                ?? words.lastIndex { word in shared.contains(word.drop { $0 == " " }) }
            if let fixed {
                let axis = fixed - words.count
                inputs[name] = concatenated([tensor, tensor.sliced(axis: axis, 0..<1)], axis: axis)
                #expect(throws: ModuleInputError.self, "\(name)") { _ = try instance.outputs(inputs) }
            }
            // Masks and indices may be of any type of whole numbers.
            inputs[name] = tensor.cast(to: role.kind == .numbers ? .int64 : .float32)
            #expect(throws: ModuleInputError.self, "\(name)") { _ = try instance.outputs(inputs) }
        }
    }
}
