import FoveaTensor

/// A row-major array of doubles: what the naive references compute with.
///
/// It shares no code with the library: an error in the library's strides or broadcasting cannot hide here.
struct Grid {
    let shape: [Int]
    var values: [Double]

    init(_ shape: [Int], _ values: [Double]) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values do not fill \(shape)")
        self.shape = shape
        self.values = values
    }

    /// The grid whose element at each index is computed from the index.
    init(_ shape: [Int], _ element: ([Int]) -> Double) {
        var values: [Double] = []
        values.reserveCapacity(shape.reduce(1, *))
        Grid.forEachIndex(in: shape) { values.append(element($0)) }
        self.init(shape, values)
    }

    init(_ tensor: Tensor) { self.init(tensor.shape, tensor.cast(to: .float64).scalars(as: Double.self)) }

    var tensor: Tensor { Tensor(values, shape: shape) }

    subscript(index: [Int]) -> Double {
        get { values[position(index)] }
        set { values[position(index)] = newValue }
    }

    /// The element at the end of `index` that broadcasting leads to.
    subscript(broadcast index: [Int]) -> Double {
        let own = index.suffix(shape.count)
        return self[zip(own, shape).map { $1 == 1 ? 0 : $0 }]
    }

    /// The elements along the last axis at the end of `lead` that broadcasting leads to. Read at once: in a debug build an index
    /// for each element of a sum takes longer than everything else.
    func row(broadcast lead: [Int]) -> ArraySlice<Double> {
        let width = shape.last!
        guard width > 0 else { return [] }
        let own = zip(lead.suffix(shape.count - 1), shape).map { $1 == 1 ? 0 : $0 }
        let first = position(own + [0])
        return values[first..<first + width]
    }

    func map(_ f: (Double) -> Double) -> Grid { Grid(shape, values.map(f)) }

    /// f of each pair of elements of two grids whose shapes broadcast.
    static func combine(_ a: Grid, _ b: Grid, _ f: (Double, Double) -> Double) -> Grid {
        if a.shape == b.shape { return Grid(a.shape, zip(a.values, b.values).map(f)) }
        return Grid(broadcast(a.shape, b.shape)) { f(a[broadcast: $0], b[broadcast: $0]) }
    }

    static func broadcast(_ a: [Int], _ b: [Int]) -> [Int] {
        let rank = Swift.max(a.count, b.count)
        let left = [Int](repeating: 1, count: rank - a.count) + a
        let right = [Int](repeating: 1, count: rank - b.count) + b
        return zip(left, right).map { $0 == 1 ? $1 : $0 }
    }

    /// `reduce` over the elements along `axes`, in row-major order; reduced axes are kept with length 1 or dropped.
    func reduced(_ axes: [Int], keeping: Bool, _ reduce: ([Double]) -> Double) -> Grid {
        let kept = shape.indices.map { axes.contains($0) ? 1 : shape[$0] }
        var groups = [[Double]](repeating: [], count: kept.reduce(1, *))
        let target = Grid(kept, [Double](repeating: 0, count: groups.count))
        Grid.forEachIndex(in: shape) { index in
            let home = index.indices.map { axes.contains($0) ? 0 : index[$0] }
            groups[target.position(home)].append(self[index])
        }
        let dropped = shape.indices.filter { !axes.contains($0) }.map { shape[$0] }
        return Grid(keeping ? kept : dropped, groups.map(reduce))
    }

    /// f of each line along `axis`.
    func lines(_ axis: Int, _ f: ([Double]) -> [Double]) -> Grid {
        var result = self
        var start = shape
        start[axis] = Swift.min(1, shape[axis])
        Grid.forEachIndex(in: start) { first in
            var index = first
            let line = f(
                (0..<shape[axis]).map {
                    index[axis] = $0
                    return self[index]
                })
            for (position, value) in line.enumerated() {
                index[axis] = position
                result[index] = value
            }
        }
        return result
    }

    func position(_ index: [Int]) -> Int {
        precondition(index.count == shape.count, "\(index) is no index into \(shape)")
        var position = 0
        for (at, length) in zip(index, shape) {
            precondition(at >= 0 && at < length, "\(index) is outside \(shape)")
            position = position * length + at
        }
        return position
    }

    /// Every index of a shape in row-major order.
    static func forEachIndex(in shape: [Int], _ body: ([Int]) -> Void) {
        guard !shape.contains(0) else { return }
        var index = [Int](repeating: 0, count: shape.count)
        while true {
            body(index)
            var axis = shape.count - 1
            while axis >= 0 {
                index[axis] += 1
                if index[axis] < shape[axis] { break }
                index[axis] = 0
                axis -= 1
            }
            if axis < 0 { return }
        }
    }
}
