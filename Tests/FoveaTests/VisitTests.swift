import Fovea
import Testing

/// What a module stores, found by reflection, without its `visit`.
private struct StoredMembers {
    var tensors: [String] = []
    var modules: [String] = []
    var streams: [String] = []

    init(of module: any Module) { walk(module, "") }

    private mutating func walk(_ value: Any, _ path: String) {
        switch value {
        case is Tensor:
            tensors.append(path)
            return
        case is RandomStream:
            streams.append(path)
            return
        case is any Module where !path.isEmpty:
            // An optional is seen twice, as itself and as what it wraps; `as` looks through it.
            if Mirror(reflecting: value).displayStyle != .optional { modules.append(path) }
        default: break
        }
        let mirror = Mirror(reflecting: value)
        for (position, child) in mirror.children.enumerated() {
            let label = child.label ?? "\(position)"
            if mirror.displayStyle == .optional {
                walk(child.value, path)
            } else {
                walk(child.value, path.isEmpty ? label : "\(path).\(label)")
            }
        }
    }
}

/// What `visit` forgets of what a module stores; empty when it is complete.
private func forgotten(by module: some Module) -> [String] {
    var problems: [String] = []
    let stored = StoredMembers(of: module)
    func compare(_ what: String, _ stored: [String], _ visited: Int) {
        guard stored.count != visited else { return }
        problems.append("\(visited) \(what) visited, stored are \(stored.count): \(stored)")
    }
    compare("tensors", stored.tensors, module.parameters.count)
    // The summary has a line "path: Type" for each module that was entered, and one for the total.
    compare("modules", stored.modules, module.summary().split(separator: "\n").count { $0.contains(": ") } - 1)
    // A stream that the walk reaches is on while a gradient with randomness is taken.
    let (on, all) = valueAndGradient(of: module, randomness: RandomKey(seed: 0)) { traced in
        (Tensor.zeros([]), activeStreams(traced))
    }.auxiliary
    if on != all { problems.append("\(on) random streams visited, stored are \(all): \(stored.streams)") }
    return problems
}

private func activeStreams(_ value: Any) -> (on: Int, all: Int) {
    // `as` looks through optionals, so that they are not walked twice.
    if let stream = value as? RandomStream { return (stream.key == nil ? 0 : 1, 1) }
    return Mirror(reflecting: value).children.reduce((0, 0)) { sum, child in
        let part = activeStreams(child.value)
        return (sum.0 + part.on, sum.1 + part.all)
    }
}

@Suite("visit shows everything that a module stores") struct VisitTests {
    @Test(arguments: CatalogueForm.all)
    func catalogue(_ sample: CatalogueForm) throws {
        #expect(forgotten(by: try sample.instance().module) == [])
    }

    @Test("every key of every form leaves visit complete", arguments: CatalogueForm.all)
    func variants(_ sample: CatalogueForm) throws {
        // Flags both ways, optional members present and absent.
        for key in sample.form.keys {
            let values: [ConfigurationValue] =
                switch key.defaultValue {
                case .bool?: [.bool(true), .bool(false)]
                // A number below 1 for keys that take one: some take no larger one.
                case .null?: [.null, key.complaint(about: .double(0.5)) == nil ? .double(0.5) : .int(4)]
                default: []
                }
            for value in values where key.complaint(about: value) == nil {
                let configuration = sample.form.sample.merging([key.name: value]) { $1 }
                let module = try sample.form.instance(configuration, owner: sample.entry.name).module
                #expect(forgotten(by: module) == [], "\(key.name): \(value)")
            }
        }
    }

    @Test("reflection itself counts what is there")
    func reflection() throws {
        let block = TransformerBlock(4, heads: 2, dropout: 0.1, key: RandomKey(seed: 0))
        let stored = StoredMembers(of: block)
        #expect(stored.tensors.count == 2 + 8 + 2 + 4)
        #expect(stored.tensors.contains("attention.query.bias"))
        #expect(stored.modules.count == 6 + 5 + 2)
        #expect(stored.streams == ["attention.dropout.stream", "attentionDropout.stream", "mlpDropout.stream"])
        #expect(forgotten(by: block) == [])
    }

    /// A module whose `visit` can be made to forget each kind of member.
    private struct Forgetful: Module {
        enum Member { case tensor, optionalTensor, module, optionalModule, row, dropout, nothing }

        let forgets: Member
        var scale = Tensor.ones([2])
        var offset: Tensor? = Tensor.ones([2])
        var norm = LayerNorm(2)
        var last: LayerNorm? = LayerNorm(2)
        var row = [LayerNorm(2), LayerNorm(2)]
        var dropout = Dropout(0.5)

        mutating func visit(_ visitor: inout ModuleVisitor) {
            if forgets != .tensor { visitor.parameter("scale", &scale) }
            if forgets != .optionalTensor { visitor.parameter("offset", &offset) }
            if forgets != .module { visitor.module("norm", &norm) }
            if forgets != .optionalModule { visitor.module("last", &last) }
            if forgets == .row { visitor.module("row", &row[0]) } else { visitor.modules("row", &row) }
            if forgets != .dropout { visitor.module("dropout", &dropout) }
        }
    }

    @Test("the check bites: each kind of forgotten member is found, and told by name")
    func bites() {
        let cases: [(Forgetful.Member, String)] = [
            (.tensor, "scale"), (.optionalTensor, "offset"), (.module, "norm.weight"), (.optionalModule, "last.weight"),
            (.row, "row.1.weight"), (.dropout, "dropout"),
        ]
        for (member, name) in cases {
            let problems = forgotten(by: Forgetful(forgets: member))
            #expect(!problems.isEmpty, "forgetting \(member) went unnoticed")
            #expect(problems.contains { $0.contains(name) }, "\(problems)")
        }
        #expect(forgotten(by: Forgetful(forgets: .nothing)) == [])
    }
}
