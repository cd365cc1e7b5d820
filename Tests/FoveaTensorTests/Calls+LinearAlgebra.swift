extension ShapedCall {
    /// Calls of linear algebra with more matrices than one worker takes at once.
    static let largeProducts: [String: [ShapedCall]] = [
        "qr": [.init("batch", [50, 90, 4, 2])],
        "svd": [.init("batch", [70, 9, 4, 2])],
        "symmetricEigen": [.init("batch", [30, 12, 3, 3])],
        "cholesky": [.init("batch", [50, 50, 3, 3])],
        "solve": [.init("batch", [2500, 3, 3], [2500, 3, 1])],
        "determinant": [.init("batch", [50, 50, 3, 3])],
        "logDeterminant": [.init("batch", [50, 50, 3, 3])],
        "einsum": [.init("ij,jk->ik", [70, 60], [60, 50]), .init("bij,bkj->bik", [10, 20, 15], [10, 25, 15])],
        "outer": [.init("vectors", [300], [301])],
    ]
}
