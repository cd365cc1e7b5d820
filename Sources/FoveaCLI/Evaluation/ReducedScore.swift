import Fovea

/// How a trained model does with one reducer and one budget: what it answers, what is left of the pictures, what it takes.
struct ReducedScore: Encodable {
    let reducer: String
    /// How many tokens of each picture are left in the end, by the budget.
    let keep: Int
    let asked: Int
    /// The share of right answers, and the interval that the true one lies in with a probability of 95 %.
    let accuracy: Double
    let lower: Double
    let upper: Double
    /// The share of right answers with all tokens.
    let unreduced: Double
    /// The share of answers that are the unreduced model's.
    let agreement: Double
    /// The share of the patches that show what is asked about which is in some token that is left.
    let evidence: Double
    /// How much of such a patch there is in the token that has most of it: 1 for one that is kept alone, ½ for one that
    /// shares a token with another evenly.
    let undiluted: Double
    /// Tokens of a picture that the decoder's first layer gets, and those in its layers on average.
    let entering: Double
    let mean: Double
    /// Of the answer to one question about one picture, as the methods state it, and the part that the reducer takes.
    let multiplyAdds: Int
    let reducerMultiplyAdds: Int
    /// Of keys and values once the question has been read.
    let cacheBytes: Int
    /// From the picture to what the decoder gets; the decoder's reading of one question; one more token; and what of these
    /// the reducer takes.
    let visionMilliseconds: Double
    let prefillMilliseconds: Double
    let decodeMilliseconds: Double
    let reducerMilliseconds: Double
}

extension [ReducedScore] {
    /// Three tables with a line for each: what it answers, what is left and what that takes, and how long it takes.
    var table: String {
        [
            table(["right %", "95 % range", "agrees %", "evidence %", "undiluted %"]) {
                [
                    perCent($0.accuracy), "\(perCent($0.lower))–\(perCent($0.upper))",
                    perCent($0.agreement), perCent($0.evidence), perCent($0.undiluted),
                ]
            },
            table(["tokens", "mean", "M multiply-adds", "reducer's", "cache KiB"]) {
                [
                    $0.entering.fixed(0), $0.mean.fixed(0), (Double($0.multiplyAdds) / 1e6).fixed(1),
                    (Double($0.reducerMultiplyAdds) / 1e6).fixed(2), (Double($0.cacheBytes) / 1024).fixed(0),
                ]
            },
            table(["vision ms", "prefill ms", "decode ms", "reducer's ms"]) {
                [
                    $0.visionMilliseconds.fixed(2), $0.prefillMilliseconds.fixed(2), $0.decodeMilliseconds.fixed(2),
                    $0.reducerMilliseconds.fixed(2),
                ]
            },
        ].joined(separator: "\n\n")
    }

    private func table(_ header: [String], _ cells: (ReducedScore) -> [String]) -> String {
        var table = TextTable(["reducer", "keep"] + header, right: Set(1...header.count + 1))
        for score in self { table.add([score.reducer, "\(score.keep)"] + cells(score)) }
        return table.text
    }

    private func perCent(_ share: Double) -> String { (100 * share).fixed(1) }
}
