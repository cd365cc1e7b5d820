import FoveaTensor

/// Blocks of k × k tokens stacked into one: x [B, H, W, C] → [B, H/k, W/k, k²·C].
///
///     y[b, i, j, (a·k + e)·C + c] = x[b, k·i + a, k·j + e, c]
///
/// A block's tokens stand in raster order: for k = 2 top left, top right, bottom left, bottom right. Traps unless k
/// divides both sides.
public func spaceToDepth(_ x: Tensor, by k: Int) -> Tensor {
    guard x.rank == 4, k > 0, x.shape[1] % k == 0, x.shape[2] % k == 0 else {
        trap("spaceToDepth", "[B, H, W, C] with sides that divide by \(k) is needed", x)
    }
    let (batch, rows, columns, width) = (x.shape[0], x.shape[1] / k, x.shape[2] / k, x.shape[3])
    return x.reshaped(to: [batch, rows, k, columns, k, width]).permuted(to: [0, 1, 3, 2, 4, 5])
        .reshaped(to: [batch, rows, columns, k * k * width])
}

/// The inverse of `spaceToDepth`: y [B, h, w, k²·C] → [B, h·k, w·k, C]. Traps unless k² divides the width.
public func depthToSpace(_ y: Tensor, by k: Int) -> Tensor {
    guard y.rank == 4, k > 0, y.shape[3] % (k * k) == 0 else {
        trap("depthToSpace", "[B, h, w, k²·C] with k = \(k) is needed", y)
    }
    let (batch, rows, columns, width) = (y.shape[0], y.shape[1], y.shape[2], y.shape[3] / (k * k))
    return y.reshaped(to: [batch, rows, columns, k, k, width]).permuted(to: [0, 1, 3, 2, 4, 5])
        .reshaped(to: [batch, rows * k, columns * k, width])
}
