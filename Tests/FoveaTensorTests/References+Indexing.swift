extension Reference {
    /// Joining, rearranging, indexing, masking, sorting, windows.
    static let indexing: [String: Reference] = [
        // joining
        "stack": moving { label, inputs in
            guard let axis = ["first": 0, "last": 2, "scalars": 0, "empty": 1][label] else { return nil }
            var shape = inputs[0].shape
            shape.insert(inputs.count, at: axis)
            return Grid(shape) { index in
                var inner = index
                let which = inner.remove(at: axis)
                return inputs[which][inner]
            }
        },
        "split": moving { label, inputs in
            let parts: [String: (Int, [Int])] = [
                "swapped": (0, [2, 3, 4, 0, 1]), "middle": (1, [1, 2]), "with nothing": (0, [0, 1, 2, 3]),
                "of a view": (0, [2, 3, 4]),
            ]
            return parts[label].map { picked(inputs[0], $0.0, $0.1) }
        },
        "pad": moving { label, inputs in
            let cases: [String: ([(Int, Int)], Double)] = [
                "columns": ([(0, 0), (1, 2)], 0), "planes": ([(0, 0), (1, 0), (0, 2)], -1.5),
                "nothing": ([(0, 0), (0, 0)], 0), "empty": ([(2, 1), (0, 1)], 0.5), "of a view": ([(1, 1), (0, 1)], 0),
            ]
            let x = inputs[0]
            return cases[label].map { widths, value in
                Grid(zip(x.shape, widths).map { $0 + $1.0 + $1.1 }) { index in
                    let source = zip(index, widths).map { $0 - $1.0 }
                    return zip(source, x.shape).allSatisfy { $0 >= 0 && $0 < $1 } ? x[source] : value
                }
            }
        },
        "replace": moving { label, inputs in
            let cases: [String: (axis: Int, sources: [Int: Int])] = [
                "range": (0, [1: 0, 2: 1]), "steps": (1, [0: 0, 3: 1, 6: 2]), "broadcast": (1, [2: 0, 3: 1]),
                "everything": (0, [0: 0, 1: 1]), "nothing": (0, [:]),
            ]
            return cases[label].map { axis, sources in
                Grid(inputs[0].shape) { index in
                    guard let at = sources[index[axis]] else { return inputs[0][index] }
                    var source = index
                    source[axis] = at
                    return inputs[1][broadcast: source]
                }
            }
        },
        "repeatInterleave": moving { label, inputs in
            if label == "counts" { return picked(inputs[0], 1, [0, 0, 2, 2, 2]) }
            let cases = ["rows": (0, 3), "columns": (1, 2), "never": (0, 0), "of a view": (1, 2)]
            return cases[label].map { axis, times in
                picked(inputs[0], axis, (0..<inputs[0].shape[axis]).flatMap { [Int](repeating: $0, count: times) })
            }
        },
        "tile": moving { label, inputs in
            let cases = [
                "both": [2, 3], "last": [1, 2], "ranks": [2, 1, 2], "scalar": [3], "never": [0, 2],
            ]
            let x = inputs[0]
            return cases[label].map { counts in
                let lengths = [Int](repeating: 1, count: counts.count - x.shape.count) + x.shape
                return Grid(zip(counts, lengths).map { $0 * $1 }) { index in
                    x[zip(index.suffix(x.shape.count), x.shape).map { $0 % $1 }]
                }
            }
        },
        // rearranging
        "flip": moving { label, inputs in
            let cases = ["last": [1], "both": [0, 1], "none": [], "empty": [0], "of a view": [0]]
            return cases[label].map { $0.reduce(inputs[0]) { $0.lines($1) { $0.reversed() } } }
        },
        "roll": moving { label, inputs in
            let cases = [
                "forward": (1, 2), "backward": (0, -1), "around": (0, 13), "empty": (0, 1), "of a view": (1, 1),
            ]
            return cases[label].map { axis, shift in
                inputs[0].lines(axis) { line in
                    var moved = line
                    for (place, value) in line.enumerated() {
                        var target = place + shift
                        while target < 0 { target += line.count }
                        moved[target % line.count] = value
                    }
                    return moved
                }
            }
        },
        "tril": moving { label, inputs in triangle(label, inputs[0]) { $0 <= $1 } },
        "triu": moving { label, inputs in triangle(label, inputs[0]) { $0 >= $1 } },
        // indexing
        "gather": moving { label, inputs in
            let axes = ["last": 1, "first": 0, "middle, fewer lines": 1, "of a view": 1, "no indices": 1]
            return axes[label].map { axis in
                Grid(inputs[1].shape) { index in
                    var source = index
                    source[axis] = Int(inputs[1][index])
                    return inputs[0][source]
                }
            }
        },
        "scatterAdd": Reference((1e-13, 8), (8, 8)) { label, inputs in
            let axes = ["last": 1, "first": 0, "views": 1, "nothing": 1]
            return axes[label].map { axis in
                var y = inputs[0]
                Grid.forEachIndex(in: inputs[1].shape) { index in
                    var target = index
                    target[axis] = Int(inputs[1][index])
                    y[target] += inputs[2][index]
                }
                return y
            }
        },
        "indexSelect": moving { label, inputs in
            let axes = ["rows": 0, "columns": 1, "middle": 1, "none": 0, "of a view": 0]
            return axes[label].map { picked(inputs[0], $0, inputs[1].values.map { Int($0) }) }
        },
        "indexAdd": Reference((1e-13, 8), (8, 8)) { label, inputs in
            let axes = ["rows": 0, "columns": 1, "middle": 1, "none": 1, "views": 0]
            return axes[label].map { axis in
                var y = inputs[0]
                Grid.forEachIndex(in: inputs[2].shape) { index in
                    var target = index
                    target[axis] = Int(inputs[1].values[index[axis]])
                    y[target] += inputs[2][index]
                }
                return y
            }
        },
        "embedding": moving { _, inputs in
            Grid(inputs[1].shape + [inputs[0].shape[1]]) { index in
                inputs[0][[Int(inputs[1][Array(index.dropLast())]), index.last!]]
            }
        },
        "embeddingBag": Reference((1e-13, 8), (8, 8)) { label, inputs in
            let starts = [
                "weighted": [0, 3, 3, 4], "sums": [0, 2], "table is a view": [0, 1], "empty bags": [0, 0],
            ]
            return starts[label].map { starts in
                let ends = starts.dropFirst() + [inputs[1].values.count]
                return Grid([starts.count, inputs[0].shape[1]]) { index in
                    (starts[index[0]]..<ends[ends.startIndex + index[0]]).reduce(0) { sum, place in
                        let row = inputs[0][[Int(inputs[1].values[place]), index[1]]]
                        return sum + row * (inputs.count > 2 ? inputs[2].values[place] : 1)
                    }
                }
            }
        },
        "oneHot": moving { label, inputs in
            Grid(inputs[0].shape + [label == "vector" ? inputs[0].values.count : 4]) { index in
                Int(inputs[0][Array(index.dropLast())]) == index.last! ? 1 : 0
            }
        },
        "bincount": moving { label, inputs in
            var counts = [Double](repeating: 0, count: label == "longer" ? 9 : 0)
            for value in inputs[0].values {
                while counts.count <= Int(value) { counts.append(0) }
                counts[Int(value)] += 1
            }
            return Grid([counts.count], counts)
        },
        // masking
        "maskedSelect": moving { label, inputs in
            guard label != "nothing" else { return Grid([0, 2], []) }
            let (x, mask) = (inputs[0], inputs[1])
            let inner = Array(x.shape.dropFirst(mask.shape.count))
            var values: [Double] = []
            Grid.forEachIndex(in: x.shape) { index in
                if mask[Array(index.prefix(mask.shape.count))] != 0 { values.append(x[index]) }
            }
            return Grid([mask.values.count { $0 != 0 }] + inner, values)
        },
        "maskedFill": moving { label, inputs in
            guard label != "empty" else { return inputs[0] }
            return ["equal": 0.5, "row": -1, "column of a view": 3][label].map { value in
                Grid.combine(inputs[0], inputs[1]) { $1 == 0 ? $0 : value }
            }
        },
        // sorting
        "sort": moving { label, inputs in
            let cases = [
                "ascending": (1, false), "descending": (0, true), "middle": (1, false), "with indices": (1, false),
                "of a view": (1, false), "empty": (1, false),
            ]
            return cases[label].map { ordered(inputs[0], $0.0, descending: $0.1, indices: label == "with indices") }
        },
        "argsort": moving { label, inputs in
            let cases = [
                "ascending": (1, false), "descending": (0, true), "ties": (1, false), "ties, descending": (1, true),
                "of a view": (1, false),
            ]
            return cases[label].map { axis, descending in
                inputs[0].lines(axis) { order($0, descending: descending).map(Double.init) }
            }
        },
        "topK": moving { label, inputs in
            let x = inputs[0]
            let cases: [String: (axis: Int, k: Int, largest: Bool)] = [
                "largest": (1, 3, true), "smallest": (0, 2, false), "of a view": (1, 2, true), "none": (1, 0, true),
                "all, with indices": (1, 2 * x.shape[1], true),
            ]
            return cases[label].map { axis, k, largest in
                let all = ordered(x, axis, descending: largest, indices: label == "all, with indices")
                return picked(all, axis, Array(0..<k))
            }
        },
        // windows
        "unfold": moving { label, inputs in
            let x = inputs[0]
            let windows = WindowReference(label, [x.shape[2], x.shape[3]])
            let channels = x.shape[1] * windows.area
            return Grid([x.shape[0], channels, windows.count]) { index in
                windows.pixel(index[1] % windows.area, index[2]).map {
                    x[[index[0], index[1] / windows.area] + $0]
                } ?? 0
            }
        },
        "fold": Reference((1e-13, 8), (8, 8)) { label, inputs in
            let x = inputs[0]
            let image = ["plain": [4, 5], "everything": [5, 6]][label] ?? [3, 3]
            let windows = WindowReference(label == "of a view" ? "no images" : label, image)
            var y = Grid([x.shape[0], x.shape[1] / windows.area] + image) { _ in 0 }
            Grid.forEachIndex(in: x.shape) { index in
                if let pixel = windows.pixel(index[1] % windows.area, index[2]) {
                    y[[index[0], index[1] / windows.area] + pixel] += x[index]
                }
            }
            return y
        },
    ]

    /// The slices of an axis in this order.
    private static func picked(_ x: Grid, _ axis: Int, _ order: [Int]) -> Grid {
        var shape = x.shape
        shape[axis] = order.count
        return Grid(shape) { index in
            var source = index
            source[axis] = order[index[axis]]
            return x[source]
        }
    }

    private static func triangle(_ label: String, _ x: Grid, keeps: (Int, Int) -> Bool) -> Grid? {
        let diagonals = ["square": 0, "wide, above": 1, "tall, below": -2, "far out": 7, "empty": 0, "of a view": 0]
        let rank = x.shape.count
        return diagonals[label].map { diagonal in
            Grid(x.shape) { keeps($0[rank - 1] - $0[rank - 2], diagonal) ? x[$0] : 0 }
        }
    }

    /// The indices that sort a line; of equal elements the first one goes first.
    private static func order(_ line: [Double], descending: Bool) -> [Int] {
        line.indices.sorted { a, b in
            if line[a] == line[b] { return a < b }
            return descending ? line[a] > line[b] : line[a] < line[b]
        }
    }

    /// The lines in order; with their indices behind them where asked.
    private static func ordered(_ x: Grid, _ axis: Int, descending: Bool, indices: Bool) -> Grid {
        let values = x.lines(axis) { line in order(line, descending: descending).map { line[$0] } }
        guard indices else { return values }
        let places = x.lines(axis) { order($0, descending: descending).map(Double.init) }
        var shape = x.shape
        shape[axis] *= 2
        return Grid(shape) { index in
            var source = index
            source[axis] %= x.shape[axis]
            return index[axis] < x.shape[axis] ? values[source] : places[source]
        }
    }
}

/// The windows of the samples, found by trying every position.
private struct WindowReference {
    let image: [Int]
    let (kernel, stride, padding, dilation): ([Int], [Int], [Int], [Int])
    let starts: [[Int]]

    init(_ label: String, _ image: [Int]) {
        self.image = image
        let isSpread = label == "everything" || label == "of a view"
        kernel = isSpread ? [3, 2] : label == "plain" ? [2, 3] : [2, 2]
        stride = isSpread ? [2, 1] : [1, 1]
        padding = isSpread ? [1, 2] : [0, 0]
        dilation = isSpread ? [1, 2] : [1, 1]
        var starts: [[Int]] = [[], []]
        for axis in 0..<2 {
            var start = -padding[axis]
            while start + (kernel[axis] - 1) * dilation[axis] < image[axis] + padding[axis] {
                starts[axis].append(start)
                start += stride[axis]
            }
        }
        self.starts = starts
    }

    var area: Int { kernel[0] * kernel[1] }
    var count: Int { starts[0].count * starts[1].count }

    /// Where an element of the kernel lies in a window; nil on the padding.
    func pixel(_ element: Int, _ window: Int) -> [Int]? {
        let across = starts[1].count
        let row = starts[0][window / across] + element / kernel[1] * dilation[0]
        let column = starts[1][window % across] + element % kernel[1] * dilation[1]
        return row >= 0 && row < image[0] && column >= 0 && column < image[1] ? [row, column] : nil
    }
}
