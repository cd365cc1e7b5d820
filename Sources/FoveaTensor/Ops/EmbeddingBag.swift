import CKernels

// MARK: embeddingBag

extension Op {
    public static let embeddingBag = Op(
        "embeddingBag", "weighted sums of the rows of a table that bags of ids name", linearIn: [0, 2]
    ) {
        [
            OpSample("weighted", [$0.uniform([5, 3]), $0.integers([7], below: 5), $0.uniform([7])]) {
                bagged($0, [0, 3, 3, 4])
            },
            OpSample("sums", [$0.uniform([5, 3]), $0.integers([6], below: 5)]) { bagged($0, [0, 2]) },
            OpSample("table is a view", [$0.uniform([3, 5]).transposed(0, 1), $0.integers([4], below: 5)]) {
                bagged($0, [0, 1])
            },
            OpSample("empty bags", [$0.uniform([5, 3]), $0.integers([0], below: 3), $0.uniform([0])]) {
                bagged($0, [0, 0])
            },
        ]
    }
}

/// A sample's inputs: a table, ids, and weights where there are some.
private func bagged(_ x: [Tensor], _ offsets: [Int64]) -> Tensor {
    embeddingBag(x[1], offsets: Tensor(offsets), table: x[0], weights: x.count > 2 ? x[2] : nil)
}

/// y_p = Σ w_e table[ids_e] over the places e of bag p: table [V, D], int64 ids [K] and offsets [P] to [P, D]. PyTorch's
/// `embedding_bag` with the mode "sum" and weights for each sample.
///
/// Bag p begins at offsets[p] and ends where the next one begins, the last at K; an empty one gives zeros. Sums run in the order of
/// the ids.
///
/// - Parameters:
///   - ids: rows of the table, int64 [K]; they may repeat.
///   - offsets: where each bag begins, int64 [P], ascending from 0.
///   - table: float32 or float64 [V, D].
///   - weights: w, [K], of the table's type; 1 where there are none.
///
/// Traps on other shapes and types, on ids outside the table and on offsets that do not ascend from 0 to at most K.
public func embeddingBag(_ ids: Tensor, offsets: Tensor, table: Tensor, weights: Tensor? = nil) -> Tensor {
    table.requireDifferentiableType("embeddingBag")
    guard table.rank == 2, ids.rank == 1, offsets.rank == 1,
        weights.map({ $0.shape == ids.shape && $0.dtype == table.dtype }) ?? true
    else {
        trap(
            "embeddingBag", "a table [V, D], ids [K], offsets [P] and weights [K] of the table's type are needed",
            [table, ids, offsets] + (weights.map { [$0] } ?? []))
    }
    let index = ids.requireIndices("embeddingBag", below: table.shape[0], "the \(table.shape[0]) rows", for: table)
    let starts = offsets.requireIndices("embeddingBag", below: ids.count + 1, "the \(ids.count) ids", for: ids)
    let bags = Bags(ids: index.scalars(), bounds: starts.scalars() + [Int64(ids.count)])
    guard zip(bags.bounds, bags.bounds.dropFirst()).allSatisfy({ $0 <= $1 }), offsets.count == 0 || bags.bounds[0] == 0
    else { trap("embeddingBag", "the offsets must ascend from 0", offsets, ids) }
    guard offsets.count > 0 || ids.count == 0 else {
        trap("embeddingBag", "\(ids.count) ids are in no bag", offsets, ids)
    }
    let (rows, fixed) = (table.detached, weights?.detached)
    let y = bags.sums(of: rows, fixed)
    let toTable = { (g: Tensor) in
        let turned = bags.turned(rows: rows.shape[0])
        return turned.bags.sums(
            of: g,
            fixed.map { $0.taking(Tensor(turned.places), blocks: 1, as: [turned.places.count]) })
    }
    guard let weights else { return y.derived(by: .embeddingBag, from: table, toTable) }
    return y.derived(by: .embeddingBag, from: table, toTable, and: weights) { g in bags.products(of: rows, g) }
}

/// Ids in bags, one bag after the other.
private struct Bags {
    let ids: [Int64]
    /// Where each bag begins, and the end of the last.
    let bounds: [Int64]

    var count: Int { bounds.count - 1 }

    /// The weighted sum of each bag's rows, [bags, D].
    func sums(of table: Tensor, _ weights: Tensor?) -> Tensor {
        let (x, width) = (table.contiguous(), table.shape[1])
        let y = Tensor(uninitialized: [count, width], table.dtype)
        let weights = weights?.contiguous()
        x.read { x in
            y.write { y in
                let size = table.dtype.size
                func add(_ w: UnsafeRawPointer?) {
                    parallelFor(count, grain: grain(width)) { own in
                        ck_bag_sums(
                            Int32(table.dtype.kernelIndex), x, ids, bounds, w, own.lowerBound, own.count, width,
                            y + own.lowerBound * width * size)
                    }
                }
                if let weights { weights.read { add($0) } } else { add(nil) }
            }
        }
        return y
    }

    /// The product of each id's row with its bag's row of g, [K].
    func products(of table: Tensor, _ g: Tensor) -> Tensor {
        let (x, g, width) = (table.contiguous(), g.contiguous(), table.shape[1])
        let y = Tensor(uninitialized: [ids.count], table.dtype)
        x.read { x in
            g.read { g in
                y.write { y in
                    parallelFor(count, grain: grain(width)) { own in
                        ck_bag_products(
                            Int32(table.dtype.kernelIndex), x, ids, bounds, g, own.lowerBound, own.count, width, y)
                    }
                }
            }
        }
        return y
    }

    /// How many bags are worth a thread.
    private func grain(_ width: Int) -> Int {
        Swift.max(1, Kernels.grain * count / Swift.max(1, (ids.count + count) * width))
    }

    /// For each of the table's rows the bags that it is in, in their order; and where each of these ids stood.
    func turned(rows: Int) -> (bags: Bags, places: [Int64]) {
        var bounds = [Int64](repeating: 0, count: rows + 1)
        for id in ids { bounds[Int(id) + 1] += 1 }
        for row in 0..<rows { bounds[row + 1] += bounds[row] }
        var next = bounds
        var turned = ids
        var places = ids
        for bag in 0..<count {
            for place in Int(self.bounds[bag])..<Int(self.bounds[bag + 1]) {
                let row = Int(ids[place])
                turned[Int(next[row])] = Int64(bag)
                places[Int(next[row])] = Int64(place)
                next[row] += 1
            }
        }
        return (Bags(ids: turned, bounds: bounds), places)
    }
}
