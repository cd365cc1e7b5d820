import ArgumentParser
import Fovea

/// `fovea compress`: one method on the features of pictures, and what became of each patch.
struct CompressCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compress", abstract: "Reduce visual tokens with one method, and tell which patches went where.",
        discussion: """
            The input is an npy file of features [B, N, C] or [N, C], a safetensors file that holds them as "features", or \
            a PNG picture, whose patches are then compared by their pixels. A method that chooses by an encoder's \
            attention finds it in the safetensors file as "class_attention" [B, H, N], beside "keys" [B, N, d] and \
            "relevance" [B, N].

            The output holds the tokens as "features", their "positions" (row and column in patch units), "sizes" \
            (patches that each stands for), "mask", "provenance" [B, K, N] (how much of each patch is in each token) and \
            "indices" (the patch that most of it is, −1 for none).
            """)

    @Argument(help: "The features, npy or safetensors, or a picture, PNG.")
    var input: String

    @Option(
        name: .shortAndLong,
        help: "The method, such as divprune: a module of the catalogue, or a reducer of fovea evaluate.")
    var method: String

    @Option(help: "Whose configuration and names (default: the method's first).")
    var layout: String?

    @Option(parsing: .unconditional, help: "How many tokens of a picture are left, or a share such as 25%.")
    var keep: String?

    @Option(help: "A configuration key of the method, key=value; may be repeated.")
    var set: [String] = []

    @Option(help: "The weights of a method that has some: safetensors.")
    var weights: String?

    @Option(help: "Rows and columns of the patches, such as 24x24 (default: a square).")
    var grid: String?

    @Option(parsing: .unconditional, help: "Pixels along a patch's side, for a picture.")
    var patchSize = 14

    @Option(name: .shortAndLong, help: "Where the tokens go, safetensors.")
    var output: String

    @Option(help: "A PNG file to draw in what was kept and merged where.")
    var preview: String?

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions

    private struct Summary: Encodable {
        let method: String
        let patches: Int
        /// Of each sample.
        let tokens: [Int]
        let multiplyAdds: Int
    }

    func run() throws {
        try threads.apply()
        try Destinations.check(["--output": output, "--preview": preview], inputs: [input], weights: [weights])
        let source = try PatchSource(input, grid: grid, patchSize: patchSize)
        let keep = try keep.map { try tokenBudget($0, of: source.tokens.count) }
        let compressor = try compressor(for: source.tokens, keeping: keep)
        let reduced = withoutGradient { compressor(source.tokens) }
        let provenance = TokenOrigins(reduced)
        var outputs: NamedTensors = [
            "features": reduced.features, "positions": reduced.positions, "sizes": reduced.sizes,
            "mask": reduced.mask ?? .full([reduced.batch, reduced.count], 1, dtype: .bool),
            "indices": provenance.indices,
        ]
        if let weights = reduced.provenance?.weights { outputs["provenance"] = weights.cast(to: .float32) }
        let drawing = preview.map { _ in CompressionPreview(source, provenance).pixels }
        let summary = Summary(
            method: method, patches: source.tokens.count, tokens: provenance.counts,
            multiplyAdds: compressor.cost(source.tokens.shape).multiplyAdds)
        try writeSafetensors(outputs, metadata: ["format": "pt", "method": method], to: output)
        if let preview, let drawing { try writePNG(drawing, to: preview) }
        if json { printJSON(summary) } else { print(text(summary)) }
        guard let keep, let most = provenance.counts.max() else { return }
        if most > keep {
            Terminal.warn("--keep \(keep): \(method) leaves \(most) tokens here, and cannot leave fewer")
        } else if most < keep, most == source.tokens.count {
            Terminal.warn("--keep \(keep): a picture has \(most) patches, and all are left")
        }
    }

    private func text(_ summary: Summary) -> String {
        let (least, most) = (summary.tokens.min() ?? 0, summary.tokens.max() ?? 0)
        let tokens = least == most ? "\(most)" : "\(least) to \(most)"
        let share = summary.patches > 0 ? (Double(most) / Double(summary.patches)).percent : "–"
        return "\(summary.method): \(summary.patches) patches → \(tokens) tokens (\(share)), "
            + "\(summary.multiplyAdds.grouped) multiply-adds"
    }

    /// The method, as far as it can take the tokens.
    private func compressor(for tokens: VisualTokens, keeping keep: Int?) throws -> any Compressor {
        let values = try configurationValues(set, of: "--set")
        let compressor = try reducer(of: tokens, keeping: keep, values) ?? module(of: tokens, keeping: keep, values)
        // How many tokens come out may depend on the picture: it is here.
        if let problem = Reducers(tokens: [compressor]).problem(with: tokens) {
            throw CommandError("\(input): \(method): \(problem)")
        }
        return compressor
    }

    /// A module of the catalogue.
    private func module(
        of tokens: VisualTokens, keeping keep: Int?, _ options: [String: ConfigurationValue]
    ) throws -> any Compressor {
        var values = options
        let form = try PublishedModule(method, layout: layout).form
        if let keep {
            guard let key = CompressCommand.budgets.first(where: { key in form.keys.contains { $0.name == key } })
            else {
                throw CommandError(
                    "--keep \(keep): \(method) takes no budget; what --set says instead is "
                        + form.keys.map(\.name).joined(separator: ", "))
            }
            guard values[key] == nil else {
                throw CommandError("--keep \(keep): --set \(key) says so already; expected is one of them")
            }
            values[key] = .int(keep)
        }
        if let grid = tokens.grid, let own = values["grid"], own != .list([.int(grid.rows), .int(grid.columns)]) {
            throw CommandError("--set grid: the patches are a raster of \(grid), and the method knows it; see --grid")
        }
        let side = "num_patches_per_side"
        if let grid = tokens.grid, case .int(let own)? = values[side], own != grid.rows, own != grid.columns {
            throw CommandError("--set \(side)=\(own): the patches are a raster of \(grid); see --grid")
        }
        if let widthKey = form.widthKey, values[widthKey] == nil { values[widthKey] = .int(tokens.width) }
        let instance: any ModuleInstance
        if let weights {
            instance = try form.instance(
                values, weights: try SafetensorsArchive(reading: weights).tensors(), owner: method, source: weights)
        } else {
            instance = try form.instance(values, owner: method)
            guard instance.module.parameterCount == 0 else {
                throw CommandError("\(method) has weights; name their file with --weights")
            }
        }
        guard let compressor = instance.module as? any Compressor else { throw needsModel }
        return compressor
    }

    /// The keys of a form that a budget may be, the exact one first.
    private static let budgets = ["budget", "keep"]

    /// A method of a model that makes of a budget what its module has no key for.
    ///
    /// - Returns: nil where there is no such method.
    private func reducer(
        of tokens: VisualTokens, keeping keep: Int?, _ options: [String: ConfigurationValue]
    ) throws -> (any Compressor)? {
        guard let known = ReductionMethod.named(method) else { return nil }
        let form = ModuleCatalogue.entry(method)?.forms[0]
        guard let keep else {
            if form == nil { throw CommandError("--method \(method): give it a budget with --keep") }
            return nil
        }
        let keys = form?.keys.map(\.name) ?? []
        guard layout ?? form?.layout == form?.layout, !keys.contains(where: CompressCommand.budgets.contains) else {
            return nil
        }
        // What a module of the name has for its counts.
        if let count = options.keys.sorted().first(where: { key in
            keys.contains(key) && !known.keys.contains { $0.name == key }
        }) {
            throw CommandError("--keep \(keep): --set \(count) says how many tokens are left; expected is one of them")
        }
        let grid = tokens.grid ?? .init(rows: 1, columns: tokens.count)
        // All tokens kept is no reducer at all, which would not tell where it sits: asked of two tokens at least, fewer are kept.
        let asked = grid.count > 1 ? grid : .init(rows: 1, columns: 2)
        let place = ReductionPlace(grid: asked, encoderLayers: 1, decoderLayers: 2)
        let reducers = try known.reducers(keeping: min(keep, asked.count - 1), in: place, options: options)
        guard reducers.encoder.isEmpty, reducers.decoder.isEmpty else { throw needsModel }
        return keep >= grid.count ? UniformSelection(keep: grid.count) : reducers.tokens.first
    }

    private var needsModel: CommandError {
        let elsewhere =
            ReductionMethod.named(method) == nil ? "" : ", and fovea evaluate --reducer \(method) tries it in a model"
        return CommandError(
            "--method \(method): it does not work on an encoder's tokens alone; divprune would\(elsewhere)")
    }
}
