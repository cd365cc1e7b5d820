import FoveaTensor
import FoveaTestSupport

/// The ways a tensor can lie in memory other than densely.
enum ViewLayout: CaseIterable {
    case transposed, stepped, offset, expanded

    /// A view and a dense tensor of equal values; nil where the shape has no such view.
    func pair(_ x: Tensor) -> (view: Tensor, dense: Tensor)? {
        let values = doubles(of: x)
        let dense = Tensor(values, shape: x.shape)
        guard x.rank > 0 else { return nil }
        switch self {
        case .transposed:
            guard x.rank > 1 else { return nil }
            let order = Array((0..<x.rank).reversed())
            let turned = Tensor(doubles(of: dense.permuted(to: order)), shape: x.shape.reversed())
            return (turned.permuted(to: order), dense)
        case .stepped, .offset:
            // The elements between and around are NaN: reading one of them shows.
            let axis = self == .stepped ? x.rank - 1 : 0
            let (length, step) = (x.shape[axis], self == .stepped ? 3 : 1)
            var shape = x.shape
            shape[axis] = 2 + length * step
            var whole = Grid(shape, [Double](repeating: .nan, count: shape.reduce(1, *)))
            let source = Grid(dense)
            Grid.forEachIndex(in: x.shape) { index in
                var target = index
                target[axis] = 1 + index[axis] * step
                whole[target] = source[index]
            }
            return (whole.tensor.sliced(axis: axis, 1..<1 + length * step, step: step), dense)
        case .expanded:
            guard x.shape[0] > 0 else { return nil }
            let row = Tensor(Array(values.prefix(values.count / x.shape[0])), shape: [1] + x.shape.dropFirst())
            let view = row.expanded(to: x.shape)
            return (view, Tensor(doubles(of: view), shape: x.shape))
        }
    }
}
