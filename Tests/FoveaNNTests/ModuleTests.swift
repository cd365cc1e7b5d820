import FoveaNN
import FoveaTensor
import Testing

@Suite struct ModuleTests {
    @Test("paths are the keys on the way, in the order of visit")
    func paths() {
        #expect(
            Probe().parameters.keys.elements == [
                "gate", "offset", "head.weight", "head.bias", "tail.weight", "norms.0.weight", "norms.0.bias",
                "norms.1.weight",
            ])
    }

    @Test("absent optional members have no path")
    func absentMembers() {
        #expect(
            Probe(complete: false).parameters.keys.elements == [
                "gate", "head.weight", "head.bias", "norms.0.weight", "norms.0.bias", "norms.1.weight",
            ])
    }

    @Test func parameterCount() {
        // gate 3, offset 4, head 3·2 + 2, tail 2, norms 2 + 2 and 2.
        #expect(Probe().parameterCount == 3 + 4 + 8 + 2 + 4 + 2)
        #expect(Probe(complete: false).parameterCount == 3 + 8 + 4 + 2)
    }

    @Test("parameters are the members' tensors")
    func parameterValues() {
        let probe = Probe()
        let parameters = probe.parameters
        #expect(parameters["gate"]?.bytes() == probe.gate.bytes())
        #expect(parameters["offset"]?.bytes() == probe.offset?.bytes())
        #expect(parameters["tail.weight"]?.bytes() == probe.tail?.weight.bytes())
        #expect(parameters["norms.1.weight"]?.bytes() == probe.norms[1].weight.bytes())
    }

    @Test("changes made by a walk stay, in optional members and rows too")
    func changesStay() {
        var probe = Probe()
        var seen: [String] = []
        probe.forEachParameter { path, tensor in
            seen.append(path)
            tensor = .full(tensor.shape, Double(seen.count))
        }
        #expect(seen == probe.parameters.keys.elements)
        #expect(probe.gate.doubles == [1, 1, 1])
        #expect(probe.offset?.doubles == [2, 2, 2, 2])
        #expect(probe.tail?.weight.doubles == [5, 5])
        #expect(probe.norms[1].weight.doubles == [8, 8])
    }

    @Test("a walk holds the only reference to each parameter")
    func walkIsUnique() {
        var probe = Probe()
        var shared: [String] = []
        probe.forEachParameter { path, tensor in
            if !tensor.isReusable() { shared.append(path) }
        }
        #expect(shared == [])
    }

    @Test("a copy is a snapshot: updating one in place leaves the other as it was")
    func copiesAreSnapshots() {
        var model = Probe()
        let snapshot = model
        let before = bits(snapshot)
        model.forEachParameter { _, tensor in tensor += .ones(tensor.shape) }
        #expect(bits(snapshot) == before)
        for (path, tensor) in model.parameters {
            let expected = snapshot.parameters[path]!.doubles.map { $0 + 1 }
            #expect(difference(tensor.doubles, expected) < 1e-6, "\(path)")
        }
    }

    @Test("cast changes every parameter's type, and back is the same bits")
    func cast() {
        let probe = Probe()
        let wide = probe.cast(to: .float64)
        #expect(wide.parameters.values.allSatisfy { $0.dtype == .float64 })
        #expect(wide.parameters.keys == probe.parameters.keys)
        #expect(bits(wide.cast(to: .float32)) == bits(probe))
        #expect(probe.parameters.values.allSatisfy { $0.dtype == .float32 })
    }

    @Test("the summary lists modules and parameters with shapes, counts and the total")
    func summary() {
        struct Gate: Module {
            var scale = Tensor.ones([2])
            var projection = Linear(2, 3, key: RandomKey(seed: 0))

            mutating func visit(_ visitor: inout ModuleVisitor) {
                visitor.parameter("scale", &scale)
                visitor.module("projection", &projection)
            }
        }
        #expect(
            Gate().summary() == """
                scale               [2]     2
                projection: Linear
                  weight            [3, 2]  6
                  bias              [3]     3
                Gate: 11 parameters
                """)
        #expect(Probe().summary().hasSuffix("Probe: \(Probe().parameterCount) parameters"))
    }

    @Test("a shape error names the parameter of a named module")
    func namedInErrors() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = Probe().named().head(.ones([2, 5]))
        }
        let text = message(result)
        #expect(text.contains("linear"), "\(text)")
        #expect(text.contains("[2, 5]") && text.contains("[2, 3]"), "\(text)")
        #expect(text.contains("\"head.weight\""), "\(text)")
    }

    @Test("naming changes nothing else")
    func namedKeepsValues() {
        #expect(bits(Probe().named()) == bits(Probe()))
    }

    @Test("two parameters of one path are refused")
    func duplicatePaths() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            struct Twice: Module {
                var a = Tensor.ones([1])
                var b = Tensor.ones([1])

                mutating func visit(_ visitor: inout ModuleVisitor) {
                    visitor.parameter("a", &a)
                    visitor.parameter("a", &b)
                }
            }
            _ = Twice().parameters
        }
        #expect(message(result).contains("two parameters of Twice have the path a"), "\(message(result))")
    }
}

@Suite struct ParameterFilterTests {
    private func paths(_ filter: ParameterFilter) -> [String] {
        Probe().parameters.filter { filter($0.key, $0.value) }.map(\.key)
    }

    @Test(
        arguments: [
            ("gate", ["gate"]),
            ("head.weight", ["head.weight"]),
            ("*", ["gate", "offset"]),
            ("*.weight", ["head.weight", "tail.weight"]),
            ("head.*", ["head.weight", "head.bias"]),
            ("norms.*.weight", ["norms.0.weight", "norms.1.weight"]),
            ("norms.0.*", ["norms.0.weight", "norms.0.bias"]),
            ("**.weight", ["head.weight", "tail.weight", "norms.0.weight", "norms.1.weight"]),
            ("norms.**", ["norms.0.weight", "norms.0.bias", "norms.1.weight"]),
            ("**.gate", ["gate"]),
            ("**.0.**", ["norms.0.weight", "norms.0.bias"]),
            ("head", []),
            ("head.weight.*", []),
            ("hea.*", []),
            ("*.*.*.*", []),
            ("**.0.weight", ["norms.0.weight"]),
            ("**.gate", ["gate"]),
            ("**.eight", []),
            ("**.ms.0.weight", []),
        ])
    func patterns(_ pattern: String, _ expected: [String]) {
        #expect(paths(.path(pattern)) == expected)
    }

    @Test("** alone takes every path")
    func everything() {
        #expect(paths(.path("**")) == Probe().parameters.keys.elements)
        #expect(paths(.all) == Probe().parameters.keys.elements)
    }

    @Test func combinations() {
        let all = Probe().parameters.keys.elements
        let weights = ParameterFilter.path("**.weight")
        #expect(paths(!weights) == all.filter { !$0.hasSuffix("weight") })
        #expect(paths(weights && .path("norms.**")) == ["norms.0.weight", "norms.1.weight"])
        #expect(paths(.path("gate") || .path("head.bias")) == ["gate", "head.bias"])
        #expect(paths(!(weights || .path("**.bias"))) == ["gate", "offset"])
        #expect(paths(weights && !.path("norms.**") || .path("gate")) == ["gate", "head.weight", "tail.weight"])
    }

    @Test func ranks() {
        #expect(paths(.rank(atLeast: 2)) == ["offset", "head.weight", "tail.weight"])
        #expect(paths(.rank(atLeast: 3)) == [])
        #expect(paths(.rank(atLeast: 0)) == Probe().parameters.keys.elements)
    }

    @Test("a filter of one's own sees path and tensor")
    func custom() {
        #expect(paths(ParameterFilter { path, tensor in path.count == 4 && tensor.count == 3 }) == ["gate"])
    }
}
