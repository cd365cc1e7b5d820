import ArgumentParser
import Foundation
import Fovea

/// `fovea generate`: how a published language model goes on with a text of token ids.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Go on with a text by a published language model.",
        discussion: """
            The folder holds config.json and safetensors, as published for Llama and Qwen2 models; files are mapped, and \
            weights of bfloat16 stay as they are. Text is token ids: tokenizers are not part of Fovea.
            """)

    @Argument(help: "The folder of the model.")
    var folder: String

    @Option(help: "Token ids of the prompt, separated by commas.")
    var ids: String

    @Option(parsing: .unconditional, help: "The most tokens to add.")
    var limit = 32

    @Option(parsing: .unconditional, help: "Temperature; 0 takes the likeliest token.")
    var temperature = 0.0

    @Option(parsing: .unconditional, help: "Draw from so many of the likeliest tokens.")
    var topK: Int?

    @Option(parsing: .unconditional, help: "Draw from the likeliest tokens that have this probability together.")
    var topP: Double?

    @Option(parsing: .unconditional, help: "The seed of the draws.")
    var seed: UInt64 = 0

    @Option(help: "Token ids that end the text, separated by commas.")
    var stop = ""

    @Option(help: "Where the logits [1, T, V] of the prompt go, safetensors.")
    var logits: String?

    @Flag(help: "Read the prompt once before the clock starts.")
    var warmUp = false

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions

    private struct Report: Encodable {
        let ids: [Int]
        let loadSeconds: Double
        let promptTokens: Int
        let promptTokensPerSecond: Double
        let addedTokensPerSecond: Double?
    }

    func run() throws {
        try threads.apply()
        guard limit >= 1 else { throw CommandError("--limit \(limit): expected is a number of tokens from 1 on") }
        guard temperature >= 0, temperature.isFinite else {
            throw CommandError("--temperature \(temperature): expected is a number from 0 on")
        }
        guard topK ?? 1 >= 1 else { throw CommandError("--top-k \(topK!): expected is a number from 1 on") }
        guard topP ?? 1 > 0 else { throw CommandError("--top-p \(topP!): expected is a number above 0") }
        let prompt = try numbers(ids, "--ids")
        let stops = Set(try numbers(stop, "--stop"))
        let sampling = Sampling(temperature: temperature, topK: topK, topP: topP, seed: seed)
        let clock = ContinuousClock()
        let begin = clock.now
        try Destinations.check(["--logits": logits], inputs: [folder + "/config.json"], weights: [folder])
        let model = try LanguageModel.load(from: folder)
        let loaded = clock.now - begin
        let tokens = try model.tokens([prompt])
        if warmUp { _ = try model.generate([prompt], limit: 1) }
        if let logits {
            guard prompt.count <= model.options.contextLength else {
                throw CommandError(
                    "--ids: \(prompt.count) tokens; the context holds \(model.options.contextLength)")
            }
            guard limit <= model.options.contextLength + 1 - prompt.count else {
                throw CommandError(
                    "--limit \(limit): \(prompt.count) tokens and so many more exceed the context of \(model.options.contextLength)"
                )
            }
            try writeSafetensors(["logits": model(embeddings: tokens.features)], to: logits)
        }

        // The first token comes of reading the prompt; each further one of reading one token.
        var cache = KeyValueCache(for: model)
        let first = clock.now
        var text = try model.generate(after: tokens, limit: 1, sampling: sampling, stops: stops, cache: &cache)[0]
        let read = clock.now - first
        var added: Duration?
        if limit > 1, !stops.contains(text[0]) {
            let second = clock.now
            text += try model.generate(
                after: try model.tokens([text]), limit: limit - 1, sampling: sampling, stops: stops, cache: &cache)[0]
            added = clock.now - second
        }
        let report = Report(
            ids: text, loadSeconds: loaded.seconds, promptTokens: prompt.count,
            promptTokensPerSecond: Double(prompt.count) / read.seconds,
            addedTokensPerSecond: added.map { Double(text.count - 1) / $0.seconds })
        if json { return printJSON(report) }
        print(text.map(String.init).joined(separator: ","))
        print(
            "loaded in \(report.loadSeconds.fixed(2)) s; read \(report.promptTokensPerSecond.fixed(1)) tokens/s"
                + (report.addedTokensPerSecond.map { "; added \($0.fixed(1)) tokens/s" } ?? ""))
    }

    private func numbers(_ list: String, _ option: String) throws(CommandError) -> [Int] {
        var numbers: [Int] = []
        for word in list.split(separator: ",") {
            guard let number = Int(word.trimmingCharacters(in: .whitespaces)) else {
                throw CommandError("\(option): \"\(word)\" is no token id; expected is a list such as 1,2,3")
            }
            numbers.append(number)
        }
        return numbers
    }
}
