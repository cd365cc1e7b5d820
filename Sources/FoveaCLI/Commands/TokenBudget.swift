/// What `--keep` says: a number of tokens, or a share of n such as 25%, rounded and 1 at least.
func tokenBudget(_ argument: String, of n: Int) throws -> Int {
    let isDecimal = argument.dropLast().allSatisfy { $0.isNumber || $0 == "." }
    if argument.hasSuffix("%"), isDecimal, let share = Double(argument.dropLast()), share > 0, share <= 100 {
        return max(1, Int((share / 100 * Double(n)).rounded()))
    }
    guard let keep = Int(argument) else {
        throw CommandError("--keep \(argument): expected is a number of tokens, or a share such as 25%, up to 100%")
    }
    return keep
}
