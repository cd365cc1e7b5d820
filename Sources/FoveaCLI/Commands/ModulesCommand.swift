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
                let shape: String
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
                    "there is no module \(name); known are \(entries.map(\.name).joined(separator: ", "))")
            }
            entries = [entry]
        }
        if json {
            printJSON(entries.map(listing))
        } else if name == nil {
            var table = TextTable(["module", "layouts", "what it does"])
            for entry in entries {
                table.add([entry.name, entry.forms.map(\.layout).joined(separator: ", "), entry.summary])
            }
            print(table.text)
            print("\nfovea modules NAME shows configuration keys, inputs and outputs")
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
                    inputs: form.inputs.map { .init(name: $0.name, shape: $0.shape) },
                    outputs: form.outputs.map { .init(name: $0.name, shape: $0.shape) })
            })
    }

    private func text(_ entry: ModuleEntry) -> String {
        var text = "\(entry.name): \(entry.summary)\n"
        for form in entry.forms {
            text += "\nlayout \(form.layout)\n"
            var table = TextTable(["  key", "default", "meaning"])
            for key in form.keys {
                table.add(["  " + key.name, key.defaultValue.map(plain) ?? "required", key.summary])
            }
            text += table.text + "\n"
            text += "  inputs: " + form.inputs.map { "\($0.name) \($0.shape)" }.joined(separator: ", ") + "\n"
            text += "  outputs: " + form.outputs.map { "\($0.name) \($0.shape)" }.joined(separator: ", ")
        }
        return text
    }

    private func plain(_ value: ConfigurationValue) -> String {
        switch value {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .int(let value): "\(value)"
        case .double(let value): "\(value)"
        case .string(let value): value
        case .list(let values): "[" + values.map(plain).joined(separator: ", ") + "]"
        }
    }
}
