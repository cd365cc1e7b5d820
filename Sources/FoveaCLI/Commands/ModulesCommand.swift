import ArgumentParser
import Fovea

/// `fovea modules`: the catalogue.
struct ModulesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "modules", abstract: "List the modules with their layouts, configuration keys, inputs and outputs."
    )

    @Argument(help: "One module to show in full.")
    var name: String?

    @Flag(help: "Print JSON.")
    var json = false

    private struct Listing: Encodable {
        struct Layout: Encodable {
            struct Key: Encodable {
                let name: String
                let summary: String
                let required: Bool
                let `default`: ConfigurationValue?
            }
            struct Role: Encodable {
                let name: String
                let kind: String
                let shape: String
                let optional: Bool
            }
            let layout: String
            let config: [Key]
            let inputs: [Role]
            let outputs: [Role]
        }
        let name: String
        let summary: String
        let layouts: [Layout]
    }

    func run() throws {
        var entries = ModuleCatalogue.entries
        if let name {
            guard let entry = ModuleCatalogue.entry(name) else {
                throw CommandError(
                    "there is no module \(name)" + suggestion(for: name, among: entries.map(\.name)))
            }
            entries = [entry]
        }
        if json {
            printJSON(entries.map(listing))
        } else if name == nil {
            var table = TextTable(["module", "what it does"])
            for entry in entries { table.add([entry.name, entry.summary]) }
            print(table.text)
            print("\nfovea modules NAME shows layouts, configuration keys, inputs and outputs")
        } else {
            for entry in entries { print(text(entry)) }
        }
    }

    private func listing(_ entry: ModuleEntry) -> Listing {
        Listing(
            name: entry.name, summary: entry.summary,
            layouts: entry.forms.map { form in
                Listing.Layout(
                    layout: form.layout,
                    config: form.keys.map {
                        .init(
                            name: $0.name, summary: $0.summary, required: $0.defaultValue == nil,
                            default: $0.defaultValue)
                    },
                    inputs: form.inputs.map(role),
                    outputs: form.outputs.map(role))
            })
    }

    private func describe(_ role: TensorRole) -> String {
        let kind = role.kind == .numbers ? "" : " \(role.kind.rawValue)"
        return "\(role.name)\(kind) \(role.shape)" + (role.isOptional ? " (optional)" : "")
    }

    private func role(_ role: TensorRole) -> Listing.Layout.Role {
        .init(name: role.name, kind: role.kind.rawValue, shape: role.shape, optional: role.isOptional)
    }

    private func text(_ entry: ModuleEntry) -> String {
        var text = "\(entry.name): \(entry.summary)".wrapped(to: 80).joined(separator: "\n  ") + "\n"
        for form in entry.forms {
            text += "\nlayout \(form.layout)\n"
            var table = TextTable(["  key", "default", "meaning"])
            for key in form.keys {
                table.add([
                    "  " + key.name, (key.defaultValue?.description ?? "required").shortened(to: 24), key.summary,
                ])
            }
            text += table.text + "\n"
            for (title, roles) in [("inputs", form.inputs), ("outputs", form.outputs)] {
                let lines = roles.enumerated().map { describe($1) + ($0 < roles.count - 1 ? "," : "") }
                    .filled(to: 80 - title.count - 4)
                let indent = String(repeating: " ", count: title.count + 4)
                text += "  \(title): " + lines.joined(separator: "\n" + indent) + "\n"
            }
        }
        return text
    }
}
