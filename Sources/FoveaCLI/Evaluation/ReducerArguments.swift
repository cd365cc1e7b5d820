import ArgumentParser
import Fovea

/// Which reducers `fovea evaluate` is to try, and with which budgets.
struct ReducerArguments: ParsableArguments {
    @Option(
        name: .customLong("reducer"),
        help: ArgumentHelp(
            "A method that takes visual tokens away, with options such as fastv:layer=1; may be repeated; \"all\" for all.",
            valueName: "name"))
    var reducers: [String] = []

    @Option(
        name: .customLong("keep"),
        help: ArgumentHelp(
            "How many tokens of each picture are left, or a share such as 25%; may be repeated.", valueName: "budget"))
    var budgets: [String] = []

    @Option(help: "Of how many samples, the first of the part (default: all).")
    var samples: Int?

    /// Whether nothing is to be tried.
    var isEmpty: Bool { reducers.isEmpty && budgets.isEmpty && samples == nil }

    /// One line of the table.
    struct Trial {
        let method: ReductionMethod
        /// As they were given, for the table.
        let name: String
        let keep: Int
        let reducers: Reducers
    }

    /// Every reducer with every budget, in a model.
    ///
    /// - Throws: `CommandError` for names, options and budgets that cannot be.
    func trials(in place: ReductionPlace) throws -> [Trial] {
        guard !budgets.isEmpty else {
            throw CommandError("--reducer needs --keep: how many tokens of a picture are left, such as --keep 25%")
        }
        guard !reducers.isEmpty else {
            throw CommandError("--keep needs --reducer: which method takes tokens away, such as --reducer fastv")
        }
        guard samples ?? 1 >= 1 else { throw CommandError("--samples \(samples!): expected is a number from 1 on") }
        let names = reducers.flatMap { $0 == "all" ? ReductionMethod.all.map(\.name) : [$0] }
        let wanted = try budgets.map { try budget($0, of: place.grid.count) }
        return try names.flatMap { argument in
            let (method, options) = try method(argument)
            return try wanted.map { keep in
                do {
                    return Trial(
                        method: method, name: argument, keep: keep,
                        reducers: try method.reducers(keeping: keep, in: place, options: options))
                } catch let error as ModuleInputError {
                    throw CommandError("--reducer \(argument): \(error)")
                }
            }
        }
    }

    /// A method and its options, from name:key=value,key=value.
    private func method(_ argument: String) throws -> (ReductionMethod, [String: ConfigurationValue]) {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let method = ReductionMethod.named(parts[0]) else {
            let nearest = nearestWord(to: parts[0], among: ReductionMethod.all.map(\.name))
            throw CommandError("--reducer \(parts[0]): there is no such reducer; did you mean \(nearest)?")
        }
        guard parts.count > 1 else { return (method, [:]) }
        let assignments = parts[1].split(separator: ",").map(String.init)
        return (method, try configurationValues(assignments, of: "--reducer \(argument):"))
    }

    /// A number of tokens, or a share of n in per cent, rounded.
    private func budget(_ argument: String, of n: Int) throws -> Int {
        if argument.hasSuffix("%"), let share = Double(argument.dropLast()), share > 0, share <= 100 {
            return max(1, Int((share / 100 * Double(n)).rounded()))
        }
        guard let keep = Int(argument) else {
            throw CommandError("--keep \(argument): expected is a number of tokens, or a share such as 25%")
        }
        guard (1...n).contains(keep) else {
            throw CommandError("--keep \(argument): a picture has \(n) tokens; expected is 1 to \(n)")
        }
        return keep
    }
}
