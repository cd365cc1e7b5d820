import CKernels

// Products along named axes.

// MARK: einsum

extension Op {
    public static let einsum = Op("einsum", "sums of products along named axes", linearIn: [0, 1, 2]) {
        func sample(_ subscripts: String, _ operands: Tensor...) -> OpSample {
            OpSample(subscripts, operands) { contracted(subscripts, $0) }
        }
        return [
            sample("ij,jk->ik", $0.uniform([3, 4]), $0.uniform([4, 2])),
            sample("ij,jk", $0.uniform([3, 4]), $0.uniform([4, 2])),
            sample("bij,bkj->bik", $0.uniform([2, 3, 4]), $0.uniform([2, 5, 4])),
            sample("i,i->", $0.uniform([4]), $0.uniform([4])),
            sample("i,j->ji", $0.uniform([3]), $0.uniform([2])),
            sample("ij->ji", $0.uniform([3, 2])),
            sample("ba", $0.uniform([3, 2])),
            sample("ijk->j", $0.uniform([2, 3, 4])),
            sample("ii->i", $0.uniform([3, 3])),
            sample("ii", $0.uniform([3, 3])),
            sample("iji,jk->ki", $0.uniform([2, 3, 2]), $0.uniform([3, 4])),
            sample("...ij,...jk->...ik", $0.uniform([2, 1, 3, 2]), $0.uniform([3, 2, 2])),
            sample("...i,i", $0.uniform([2, 3]), $0.uniform([3])),
            sample(
                "bhnd,bhmd,bhme->bhne", $0.uniform([1, 2, 3, 2]), $0.uniform([1, 2, 2, 2]), $0.uniform([1, 2, 2, 3])),
            sample("ij,ij,j->i", $0.uniform([3, 2]), $0.uniform([3, 2]), $0.uniform([2])),
            sample("ij , jk -> ki", $0.uniform([3, 4]).sliced(axis: 1, 0..<4, step: 2), $0.uniform([1, 2])),
            sample("ij,jk->ki", $0.uniform([0, 4]), $0.uniform([4, 2])),
            sample("ik,kj->ij", $0.uniform([2, 0]), $0.uniform([0, 2])),
        ]
    }
}

/// Σ of products along named axes, as in `einsum("bij,bjk->bik", a, b)`.
///
/// Each operand has a list of letters, one for each of its axes. A letter that the result does not have is summed over; one
/// that stands twice in an operand takes its diagonal; `...` stands for the axes without a letter, which broadcast. Axes of
/// one letter have the same length or 1. Without an arrow, the result has the axes of `...` and then the letters that occur
/// once, capitals first, as in PyTorch. Operands are multiplied from left to right, each two as a batch of matrix products.
///
/// NaN and infinities spread as in products and sums, though PyTorch may sum an operand before it multiplies; sums over
/// nothing are 0. Traps, naming the subscripts, when they and
/// the shapes do not fit.
public func einsum(_ subscripts: String, _ operands: Tensor...) -> Tensor { contracted(subscripts, operands) }

private func contracted(_ subscripts: String, _ operands: [Tensor]) -> Tensor {
    let plan = Subscripts(subscripts, operands)
    // The lengths of the letters, after broadcasting.
    var lengths: [Label: Int] = [:]
    var terms = zip(operands, plan.operands).map { Term($0, $1).withDiagonals() }
    for term in terms {
        for (label, length) in zip(term.labels, term.tensor.shape) {
            let known = lengths[label] ?? 1
            guard known == length || known == 1 || length == 1 else {
                trap("einsum", "\(label) of “\(subscripts)” has the lengths \(known) and \(length)", operands)
            }
            lengths[label] = known == 1 ? length : known
        }
    }
    terms = terms.map { $0.expanded(to: lengths) }
    var product = terms.removeFirst()
    while !terms.isEmpty {
        let next = terms.removeFirst()
        let wanted = Set(plan.result).union(terms.flatMap(\.labels))
        product = product.multiplied(by: next, keeping: wanted)
    }
    return product.summed(keeping: Set(plan.result)).permuted(to: plan.result).tensor
}

/// A letter, or an axis of the ellipsis, counted from the last.
private enum Label: Hashable, CustomStringConvertible {
    case letter(Character)
    case other(Int)

    var description: String {
        switch self {
        case .letter(let letter): "“\(letter)”"
        case .other: "an axis of “...”"
        }
    }
}

/// What the subscripts say about the axes of the operands and of the result.
private struct Subscripts {
    private(set) var operands: [[Label]] = []
    private(set) var result: [Label] = []

    init(_ text: String, _ tensors: [Tensor]) {
        func fail(_ problem: String) -> Never { trap("einsum", "\(problem) in “\(text)”", tensors) }
        let sides = text.filter { $0 != " " }.replacing("...", with: "…").split(
            separator: "->", omittingEmptySubsequences: false)
        guard sides.count <= 2 else { fail("there is more than one arrow") }
        let inputs = sides[0].split(separator: ",", omittingEmptySubsequences: false)
        guard inputs.count == tensors.count, !tensors.isEmpty else {
            fail("there are \(inputs.count) operands, not \(tensors.count),")
        }
        func check(_ part: Substring) {
            for character in part where character != "…" && !(character.isASCII && character.isLetter) {
                fail("“\(character)” is neither a letter nor “...”")
            }
            guard part.filter({ $0 == "…" }).count <= 1 else { fail("“...” stands twice in one place") }
        }
        var most = 0
        for (input, tensor) in zip(inputs, tensors) {
            check(input)
            let letters = input.filter { $0 != "…" }.count
            let others = tensor.rank - letters
            guard input.contains("…") ? others >= 0 : others == 0 else {
                fail("“\(input.replacing("…", with: "..."))” does not name the \(tensor.rank) axes of its operand")
            }
            most = max(most, others)
            operands.append(Subscripts.labels(input, others))
        }
        let known = operands.flatMap { $0 }
        guard sides.count == 2 else {
            let letters = sides[0].filter { $0 != "…" && $0 != "," }
            let once = Set(letters).filter { letter in letters.filter { $0 == letter }.count == 1 }
            result = Subscripts.labels("…", most) + once.sorted().map { .letter($0) }
            return
        }
        check(sides[1])
        result = Subscripts.labels(sides[1], most)
        for label in result where !known.contains(label) { fail("\(label) of the result is in no operand") }
        guard Set(result).count == result.count else { fail("a letter stands twice in the result") }
    }

    private static func labels(_ part: some StringProtocol, _ others: Int) -> [Label] {
        part.flatMap { character -> [Label] in
            character == "…" ? (0..<others).reversed().map { .other($0) } : [.letter(character)]
        }
    }
}

/// A tensor with a label for each axis.
private struct Term {
    let tensor: Tensor
    let labels: [Label]

    init(_ tensor: Tensor, _ labels: [Label]) { (self.tensor, self.labels) = (tensor, labels) }

    /// Each label once: of a pair of axes with one label, the diagonal.
    func withDiagonals() -> Term {
        for (first, label) in labels.enumerated() {
            guard let second = labels[(first + 1)...].firstIndex(of: label) else { continue }
            guard tensor.shape[first] == tensor.shape[second] else {
                trap("einsum", "\(label) stands for two lengths of one operand", tensor)
            }
            var rest = labels
            rest.remove(at: second)
            return Term(tensor.diagonal(first, second), rest).withDiagonals()
        }
        return self
    }

    func expanded(to lengths: [Label: Int]) -> Term {
        Term(tensor.expanded(to: labels.map { lengths[$0]! }), labels)
    }

    func summed(keeping wanted: Set<Label>) -> Term {
        let axes = labels.indices.filter { !wanted.contains(labels[$0]) }
        return axes.isEmpty ? self : Term(tensor.sum(axes: axes), labels.filter(wanted.contains))
    }

    func permuted(to order: [Label]) -> Term {
        Term(tensor.permuted(to: order.map { labels.firstIndex(of: $0)! }), order)
    }

    /// One batch of matrix products: [shared and wanted, own, summed] · [shared and wanted, summed, own].
    func multiplied(by other: Term, keeping wanted: Set<Label>) -> Term {
        let left = summed(keeping: wanted.union(other.labels))
        let right = other.summed(keeping: wanted.union(labels))
        let shared = left.labels.filter(right.labels.contains)
        let (batch, inner) = (shared.filter(wanted.contains), shared.filter { !wanted.contains($0) })
        let rows = left.labels.filter { !shared.contains($0) }
        let columns = right.labels.filter { !shared.contains($0) }
        func matrices(_ term: Term, _ first: [Label], _ second: [Label]) -> Tensor {
            let ordered = term.permuted(to: batch + first + second).tensor
            let (lead, middle) = (batch.count, batch.count + first.count)
            return ordered.reshaped(
                to: Array(ordered.shape[..<lead]) + [
                    ordered.shape[lead..<middle].reduce(1, *), ordered.shape[middle...].reduce(1, *),
                ])
        }
        let product = matmul(matrices(left, rows, inner), matrices(right, inner, columns))
        func lengths(_ labels: [Label], in term: Term) -> [Int] {
            labels.map { term.tensor.shape[term.labels.firstIndex(of: $0)!] }
        }
        let shape = lengths(batch + rows, in: left) + lengths(columns, in: right)
        return Term(product.reshaped(to: shape), batch + rows + columns)
    }
}

extension Tensor {
    /// The elements with equal indices along two axes, of which the second is dropped. A view.
    fileprivate func diagonal(_ first: Int, _ second: Int) -> Tensor {
        var (lengths, steps) = (shape, layoutStrides)
        steps[first] += steps[second]
        lengths.remove(at: second)
        steps.remove(at: second)
        return view(shape: lengths, strides: steps, offset: offset).derived(by: .einsum, from: self) { [shape] g in
            let whole = Tensor.zeros(shape, dtype: g.dtype)
            var steps = Tensor.rowMajorStrides(shape)
            steps[first] += steps[second]
            steps.remove(at: second)
            whole.view(shape: lengths, strides: steps, offset: 0).overwrite(with: g)
            return whole
        }
    }
}

// MARK: outer

extension Op {
    public static let outer = Op("outer", "all products of the elements of two vectors", linearIn: [0, 1]) {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.outer($0[0], $0[1]) }
        return [
            OpSample("vectors", [$0.uniform([3]), $0.uniform([4])], run: run),
            OpSample("one", [$0.uniform([1]), $0.uniform([19])], run: run),
            OpSample("nothing", [$0.uniform([0]), $0.uniform([3])], run: run),
            OpSample("steps", [$0.uniform([6]).sliced(axis: 0, 0..<6, step: 2), $0.uniform([2])], run: run),
        ]
    }
}

/// a [n], b [m] → the products a_i · b_j [n, m]. Traps on anything but vectors.
public func outer(_ a: Tensor, _ b: Tensor) -> Tensor {
    guard a.rank == 1, b.rank == 1 else { trap("outer", "two vectors are needed", a, b) }
    guard a.dtype == b.dtype else { trap("outer", "the types differ; cast(to:) one of them", a, b) }
    let y = Tensor.combined(a.detached.unsqueezed(1), b.detached, CK_MULTIPLY, "outer")
    return y.derived(
        by: .outer, from: a,
        { g in Tensor.product(g, b.detached.unsqueezed(1)).squeezed(1) }, and: b,
        { g in Tensor.product(a.detached.unsqueezed(0), g).squeezed(0) })
}
