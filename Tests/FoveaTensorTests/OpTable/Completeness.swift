import Foundation
import FoveaTensor
import FoveaTestSupport
import Testing

/// What an op lacks: a place in the list, samples, a reference, calls in all sizes.
struct Completeness {
    /// The list that is walked.
    var catalogue: [Op] = Op.catalogue
    /// The ops with a reference.
    var references = Set(Reference.table.keys)
    /// The ops with calls that are cut in chunks.
    var large = Set(ShapedCall.large.keys)
    /// The declarations in the sources: the constant and the name in it.
    var declared: [(constant: String, name: String)]

    /// The declarations in a source text.
    static func declarations(in text: String) -> [(constant: String, name: String)] {
        text.matches(of: /static let `?(\w+)`?(?:: Op)? = Op\(\s*"(\w+)"/).map { (String($0.1), String($0.2)) }
    }

    /// What is missing, a line each.
    func problems() -> [String] {
        var found: [String] = []
        let names = catalogue.map(\.name)
        for name in Set(names) where names.count(where: { $0 == name }) > 1 { found.append("\(name) stands twice") }
        let inSources = Set(declared.map(\.name))
        for (constant, name) in declared where constant != name { found.append("Op.\(constant) is called “\(name)”") }
        found += inSources.subtracting(names).map { "\($0) is not in Op.catalogue" }
        found += Set(names).subtracting(inSources).map { "\($0) is not declared as `static let \($0) = Op(\"\($0)\"`" }
        found += references.subtracting(names).map { "the reference \($0) is of no op" }
        found += large.subtracting(names).map { "the large call \($0) is of no op" }
        for op in catalogue {
            let labels = op.samples().map(\.label)
            if labels.isEmpty { found.append("\(op.name) has no samples") }
            if Set(labels).count != labels.count { found.append("\(op.name): a label stands twice in \(labels)") }
            if op.summary.isEmpty { found.append("\(op.name) has no summary") }
            if !references.contains(op.name) { found.append("\(op.name) has no reference") }
            if !large.contains(op.name) { found.append("\(op.name) has no large call") }
        }
        return found
    }
}

@Suite("The op table is complete")
struct CompletenessTests {
    private let sources: String

    init() throws {
        let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let folder = package.appending(path: "Sources/FoveaTensor")
        let files = try #require(FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil))
        var text = ""
        for case let file as URL in files where file.pathExtension == "swift" {
            text += try String(contentsOf: file, encoding: .utf8)
        }
        sources = text
    }

    @Test("every op that the sources declare has its entry, samples, reference and calls")
    func complete() {
        let declared = Completeness.declarations(in: sources)
        #expect(declared.count >= 110, "the sources were not found, or are written in another way")
        #expect(Completeness(declared: declared).problems() == [])
    }

    @Test("an op without its entry, samples, reference, calls or gradient is named")
    func incomplete() throws {
        let declared = Completeness.declarations(in: sources)
        // An op in the sources that nobody listed.
        let forgotten = Completeness.declarations(
            in: sources + "extension Op { static let swish = Op(\"swish\", \"x · sigmoid(βx)\") { [] } }")
        #expect(Completeness(declared: forgotten).problems() == ["swish is not in Op.catalogue"])
        // An op in the list with nothing else.
        let swish = Op("swish", "x · sigmoid(βx)") { _ in [] }
        var bare = Completeness(declared: forgotten)
        bare.catalogue.append(swish)
        #expect(
            bare.problems() == ["swish has no samples", "swish has no reference", "swish has no large call"])
        // An entry, a reference and a call that are gone.
        var lost = Completeness(declared: declared)
        lost.catalogue.removeAll { $0.name == "exp" }
        #expect(
            lost.problems() == [
                "exp is not in Op.catalogue", "the reference exp is of no op", "the large call exp is of no op",
            ])
        var unreferenced = Completeness(declared: declared)
        unreferenced.references.remove("exp")
        unreferenced.large.remove("log")
        #expect(unreferenced.problems().sorted() == ["exp has no reference", "log has no large call"])
        // A declaration under another name.
        #expect(
            Completeness.declarations(in: #"public static let swish: Op = Op("silu2", "…")"#).map(\.name) == ["silu2"])
        #expect(
            Completeness(declared: declared + [("swish", "exp")]).problems() == ["Op.swish is called “exp”"])
        // An op that says it is differentiable and records nothing.
        let constant = Op("exp", "eˣ") { _ in
            Op.exp.samples().map { sample in OpSample(sample.label, sample.inputs) { $0[0].detached.exp() } }
        }
        let check = try #require(constant.checkGradients())
        #expect(!check.passed && check.message.contains("analytic 0.0"), "\(check.message)")
        // And one that says it is not, but is.
        let hidden = Op("exp", "eˣ", differentiable: false) { _ in Op.exp.samples() }
        #expect(try !OpCheck.constants.findings(hidden).isEmpty)
    }
}
