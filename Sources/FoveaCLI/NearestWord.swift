/// The known word that is closest to a wrong one; there must be one.
func nearestWord(to word: String, among known: [String]) -> String {
    known.min { edits($0.lowercased(), word.lowercased()) < edits($1.lowercased(), word.lowercased()) }!
}

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
