import Foundation

extension Reference {
    /// Factorizations by the textbook, each matrix on its own.
    static let linearAlgebra: [String: Reference] = [
        "qr": Reference((1e-10, 1), (64, 4)) { label, inputs in
            eachMatrix(conditioned(inputs[0])) { a in
                let (q, r) = gramSchmidt(a)
                switch label {
                case "Q alone": return q.map { $0 * $0 }
                case "R alone": return r.map { $0 * $0 * 0.1 }
                default: return vector(q.values.map { $0 * $0 } + r.values.map { $0 * $0 * 0.1 })
                }
            } empty: { n, m in
                let k = min(n, m)
                return [n * k + k * m]
            }
        },
        "svd": Reference((1e-10, 1), (64, 4)) { label, inputs in
            eachMatrix(conditioned(inputs[0])) { a in
                let (u, s, vt) = singular(a)
                switch label {
                case "values alone": return vector(s)
                case "left alone": return u.map { $0 * $0 }
                case "right alone": return vt.map { $0 * $0 }
                default: return vector((u.values + vt.values).map { $0 * $0 } + s.map { $0 * 0.5 })
                }
            } empty: { n, m in
                let k = min(n, m)
                return [n * k + k * m + k]
            }
        },
        "symmetricEigen": Reference((1e-10, 1), (64, 4)) { label, inputs in
            eachMatrix(conditioned(inputs[0])) { a in
                let (values, vectors) = jacobi(a)
                switch label {
                case "values alone": return vector(values)
                case "vectors alone": return vectors.map { $0 * $0 }
                default: return vector(values.map { $0 * 0.5 } + vectors.values.map { $0 * $0 })
                }
            } empty: { n, _ in
                [n + n * n]
            }
        },
        "cholesky": Reference((1e-10, 1), (32, 2)) { _, inputs in
            eachMatrix(conditioned(inputs[0])) { a in
                let n = a.shape[0]
                var l = Grid([n, n]) { _ in 0 }
                for i in 0..<n {
                    for j in 0...i {
                        let known = (0..<j).reduce(0) { $0 + l[[i, $1]] * l[[j, $1]] }
                        let rest = (a[[i, j]] + a[[j, i]]) / 2 - known
                        l[[i, j]] = i == j ? rest.squareRoot() : rest / l[[j, j]]
                    }
                }
                return l
            } empty: { n, m in
                [n, m]
            }
        },
        "solve": Reference((1e-10, 1), (64, 2)) { _, inputs in
            let a = conditioned(inputs[0])
            let isVector = inputs[1].shape.count == 1
            let b = isVector ? Grid(inputs[1].shape + [1], inputs[1].values) : inputs[1]
            let x = product(eachMatrix(a, inverse, empty: { [$0, $1] })!, b)
            return isVector ? Grid(Array(x.shape.dropLast()), x.values) : x
        },
        "determinant": Reference((1e-10, 1), (64, 8)) { _, inputs in
            eachMatrix(inputs[0]) {
                Grid([], [laplace($0)])
            } empty: { _, _ in
                []
            }
        },
        "logDeterminant": Reference((1e-10, 1), (64, 2)) { label, inputs in
            eachMatrix(conditioned(label == "negative" ? inputs[0].map { -$0 - 10 } : inputs[0])) { a in
                let value = laplace(a)
                return Grid([], [(value > 0 ? 3 : -3) + Foundation.log(value.magnitude)])
            } empty: { _, _ in
                []
            }
        },
        "einsum": summing(units: 8, floor: 64) { label, inputs in contraction(label, inputs) },
        "outer": elementwise(units: 1) { _, inputs in
            Grid([inputs[0].shape[0], inputs[1].shape[0]]) { inputs[0].values[$0[0]] * inputs[1].values[$0[1]] }
        },
    ]

    private static func vector(_ values: [Double]) -> Grid { Grid([values.count], values) }

    /// What the samples make of numbers in −2 … 2.
    private static func conditioned(_ x: Grid) -> Grid {
        let rank = x.shape.count
        return Grid(x.shape) { index in
            let (row, column) = (index[rank - 2], index[rank - 1])
            return x[index] / 2 + (row == column ? 4 + 3 * Double(row) : 0)
        }
    }

    /// f of each matrix; `empty` is the shape of a result where there is none.
    private static func eachMatrix(_ x: Grid, _ f: (Grid) -> Grid, empty: (Int, Int) -> [Int]) -> Grid? {
        let (batch, size) = (Array(x.shape.dropLast(2)), Array(x.shape.suffix(2)))
        let step = size[0] * size[1]
        let results = (0..<batch.reduce(1, *)).map { f(Grid(size, Array(x.values[$0 * step..<($0 + 1) * step]))) }
        return Grid(batch + (results.first?.shape ?? empty(size[0], size[1])), results.flatMap(\.values))
    }

    private static func transpose(_ a: Grid) -> Grid { Grid([a.shape[1], a.shape[0]]) { a[[$0[1], $0[0]]] } }

    /// Column after column, minus what the earlier ones explain.
    private static func gramSchmidt(_ a: Grid) -> (q: Grid, r: Grid) {
        let (n, m) = (a.shape[0], a.shape[1])
        let k = min(n, m)
        var (q, r) = (Grid([n, k]) { _ in 0 }, Grid([k, m]) { _ in 0 })
        for column in 0..<m {
            var rest = (0..<n).map { a[[$0, column]] }
            for known in 0..<min(column, k) {
                let part = (0..<n).reduce(0) { $0 + q[[$1, known]] * rest[$1] }
                r[[known, column]] = part
                for row in 0..<n { rest[row] -= part * q[[row, known]] }
            }
            guard column < k else { continue }
            let length = rest.reduce(0) { $0 + $1 * $1 }.squareRoot()
            r[[column, column]] = length
            for row in 0..<n { q[[row, column]] = rest[row] / length }
        }
        return (q, r)
    }

    /// Eigenvalues, ascending, and eigenvectors of the symmetric part, by rotations that clear one element at a time.
    private static func jacobi(_ matrix: Grid) -> (values: [Double], vectors: Grid) {
        let n = matrix.shape[0]
        var a = Grid([n, n]) { (matrix[$0] + matrix[[$0[1], $0[0]]]) / 2 }
        var v = Grid([n, n]) { $0[0] == $0[1] ? 1 : 0 }
        for _ in 0..<12 {
            for p in 0..<n {
                for q in (p + 1)..<max(n, p + 1) where a[[p, q]] != 0 {
                    let angle = 0.5 * atan2(2 * a[[p, q]], a[[q, q]] - a[[p, p]])
                    let (c, s) = (cos(angle), sin(angle))
                    for k in 0..<n {
                        let (x, y) = (a[[k, p]], a[[k, q]])
                        (a[[k, p]], a[[k, q]]) = (c * x - s * y, s * x + c * y)
                    }
                    for k in 0..<n {
                        let (x, y) = (a[[p, k]], a[[q, k]])
                        (a[[p, k]], a[[q, k]]) = (c * x - s * y, s * x + c * y)
                    }
                    for k in 0..<n {
                        let (x, y) = (v[[k, p]], v[[k, q]])
                        (v[[k, p]], v[[k, q]]) = (c * x - s * y, s * x + c * y)
                    }
                }
            }
        }
        let order = (0..<n).sorted { a[[$0, $0]] < a[[$1, $1]] }
        return (order.map { a[[$0, $0]] }, Grid([n, n]) { v[[$0[0], order[$0[1]]]] })
    }

    /// From the eigenvectors of AᵀA; a wide matrix through its transpose.
    private static func singular(_ a: Grid) -> (u: Grid, s: [Double], vt: Grid) {
        guard a.shape[0] >= a.shape[1] else {
            let (u, s, vt) = singular(transpose(a))
            return (transpose(vt), s, transpose(u))
        }
        let k = a.shape[1]
        let (squares, vectors) = jacobi(product(transpose(a), a))
        let s = squares.reversed().map { $0.squareRoot() }
        let v = Grid([k, k]) { vectors[[$0[0], k - 1 - $0[1]]] }
        let moved = product(a, v)
        return (Grid(moved.shape) { moved[$0] / s[$0[1]] }, s, transpose(v))
    }

    /// Gauss and Jordan, with the largest pivot.
    private static func inverse(_ matrix: Grid) -> Grid {
        let n = matrix.shape[0]
        var rows = (0..<n).map { row in
            (0..<2 * n).map { $0 < n ? matrix[[row, $0]] : $0 - n == row ? 1.0 : 0 }
        }
        for column in 0..<n {
            rows.swapAt(column, (column..<n).max { rows[$0][column].magnitude < rows[$1][column].magnitude }!)
            let pivot = rows[column][column]
            rows[column] = rows[column].map { $0 / pivot }
            for row in 0..<n where row != column {
                let factor = rows[row][column]
                rows[row] = zip(rows[row], rows[column]).map { $0 - factor * $1 }
            }
        }
        return Grid([n, n]) { rows[$0[0]][n + $0[1]] }
    }

    /// Along the first row.
    private static func laplace(_ a: Grid) -> Double {
        let n = a.shape[0]
        guard n > 0 else { return 1 }
        return (0..<n).reduce(0) { total, column in
            let minor = Grid([n - 1, n - 1]) { a[[$0[0] + 1, $0[1] < column ? $0[1] : $0[1] + 1]] }
            return total + (column % 2 == 0 ? 1 : -1) * a[[0, column]] * laplace(minor)
        }
    }

    /// The sum over all letters, one product at a time.
    private static func contraction(_ label: String, _ inputs: [Grid]) -> Grid? {
        let spelledOut = [
            "ij,jk": "ij,jk->ik", "ba": "ba->ab", "ii": "ii->", "...ij,...jk->...ik": "XYij,Yjk->XYik",
            "...i,i": "Xi,i->X",
        ]
        let sides = (spelledOut[label] ?? label.replacing(" ", with: "")).components(separatedBy: "->")
        let operands = sides[0].components(separatedBy: ",").map(Array.init)
        guard sides.count == 2, operands.count == inputs.count else { return nil }
        var lengths: [Character: Int] = [:]
        for (letters, input) in zip(operands, inputs) {
            for (letter, length) in zip(letters, input.shape) where (lengths[letter] ?? 1) == 1 {
                lengths[letter] = length
            }
        }
        let letters = lengths.keys.sorted()
        let places = Dictionary(uniqueKeysWithValues: letters.enumerated().map { ($1, $0) })
        let result = Array(sides[1])
        var sums = Grid(result.map { lengths[$0]! }) { _ in 0 }
        Grid.forEachIndex(in: letters.map { lengths[$0]! }) { index in
            var term = 1.0
            for (letters, input) in zip(operands, inputs) {
                term *= input[broadcast: letters.map { index[places[$0]!] }]
            }
            sums[result.map { index[places[$0]!] }] += term
        }
        return sums
    }
}
