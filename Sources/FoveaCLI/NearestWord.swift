/// The end of a sentence about a wrong word: what was meant, or where nothing known is like it, what is known.
func suggestion(for word: String, among known: [String]) -> String {
    if let nearest = nearestWord(to: word, among: known) { return "; did you mean \(nearest)?" }
    let more = known.count > 24 ? " and \(known.count - 24) more" : ""
    return "; known are \(known.prefix(24).joined(separator: ", "))\(more)"
}

/// The known word that is closest to a wrong one; nil where none is like it.
///
/// Alike are words of which one is part of the other, and those that differ in a third of their letters or in two.
func nearestWord(to word: String, among known: [String]) -> String? {
    let word = word.lowercased()
    let nearest = known.min { edits($0.lowercased(), word) < edits($1.lowercased(), word) }
    if let nearest, edits(nearest.lowercased(), word) <= mostEdits(of: word) { return nearest }
    guard word.count > 2 else { return nil }
    return known.filter { $0.lowercased().contains(word) || word.contains($0.lowercased()) }
        .min { edits($0.lowercased(), word) < edits($1.lowercased(), word) }
}

/// How many letters a slip of the keys may change.
func mostEdits(of word: String) -> Int { max(2, word.count / 3) }

/// Letters to insert, delete or replace (Levenshtein).
func edits(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a), Array(b))
    var row = Array(0...b.count)
    for i in a.indices {
        var diagonal = row[0]
        row[0] = i + 1
        for j in b.indices {
            let replaced = diagonal + (a[i] == b[j] ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
