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
        name: .customLong("keep"), parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "How many tokens of each picture are left, or a share such as 25%; may be repeated.", valueName: "budget"))
    var budgets: [String] = []

    @Option(parsing: .unconditional, help: "With reducers: of how many samples, the first of the part (default: all).")
    var samples: Int?

    /// Whether nothing is to be tried.
    var isEmpty: Bool { reducers.isEmpty && budgets.isEmpty && samples == nil }

    /// One line of the table.
    struct Trial {
        /// As it was given, for the table.
        let name: String
        let keep: Int
        let reducers: Reducers
        /// Whether it was not named, but is one of all.
        let isOneOfAll: Bool

        /// Says why it does not fit the model: one of all is left out with a warning.
        ///
        /// - Throws: `CommandError` for one that was named.
        func leaveOut(_ problem: any Error) throws {
            try ReducerArguments.leaveOut(name, isOneOfAll: isOneOfAll, "with \(keep) tokens: \(problem)")
        }
    }

    private static func leaveOut(_ name: String, isOneOfAll: Bool, _ problem: String) throws {
        guard isOneOfAll else { throw CommandError("--reducer \(name): \(problem)") }
        Terminal.warn("\(name) is left out: \(problem)")
    }

    /// Every reducer with every budget, in a model.
    ///
    /// - Throws: `CommandError` for names, options and budgets that cannot be.
    func trials(in place: ReductionPlace) throws -> [Trial] {
        guard !reducers.isEmpty else {
            throw CommandError(
                "\(budgets.isEmpty ? "--samples" : "--keep") needs --reducer: which method takes tokens away, such as "
                    + "--reducer fastv")
        }
        guard !budgets.isEmpty else {
            throw CommandError("--reducer needs --keep: how many tokens of a picture are left, such as --keep 25%")
        }
        guard samples ?? 1 >= 1 else { throw CommandError("--samples \(samples!): expected is a number from 1 on") }
        var names: [(name: String, isOneOfAll: Bool)] = []
        for name in reducers {
            let own = name == "all" ? ReductionMethod.all.map { ($0.name, true) } : [(name, false)]
            names += own.filter { new in !names.contains { $0.name == new.0 } }
        }
        // The same number may have been given in two ways.
        var wanted: [Int] = []
        for keep in try budgets.map({ try budget($0, of: place.grid.count) }) where !wanted.contains(keep) {
            wanted.append(keep)
        }
        return try names.flatMap { name, isOneOfAll in
            let (method, options) = try method(name)
            do {
                return try wanted.map { keep in
                    Trial(
                        name: name, keep: keep,
                        reducers: try method.reducers(keeping: keep, in: place, options: options),
                        isOneOfAll: isOneOfAll)
                }
            } catch let error as ModuleInputError {
                try Self.leaveOut(name, isOneOfAll: isOneOfAll, "\(error)")
                return []
            }
        }
    }

    /// A method and its options, from name:key=value,key=value.
    private func method(_ argument: String) throws -> (ReductionMethod, [String: ConfigurationValue]) {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let method = ReductionMethod.named(parts[0]) else {
            if parts[0] == "all" { throw CommandError("--reducer \(argument): all of them have no options") }
            throw CommandError(
                "--reducer \(parts[0]): there is no such reducer"
                    + suggestion(for: parts[0], among: ReductionMethod.all.map(\.name)))
        }
        guard parts.count > 1 else { return (method, [:]) }
        let assignments = parts[1].split(separator: ",").map(String.init)
        guard !assignments.isEmpty else {
            throw CommandError("--reducer \(argument): expected behind the colon is key=value, or no colon")
        }
        return (method, try configurationValues(assignments, of: "--reducer \(argument):"))
    }

    /// A number of tokens, or a share of n in per cent.
    private func budget(_ argument: String, of n: Int) throws -> Int {
        let keep = try tokenBudget(argument, of: n)
        guard (1...n).contains(keep) else {
            throw CommandError("--keep \(argument): a picture has \(n) tokens; expected is 1 to \(n)")
        }
        return keep
    }
}
