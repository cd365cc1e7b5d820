import FoveaTensor

// What methods on rasters do to what is known of their tokens.

extension VisualTokens {
    /// The features as a picture, [B, rows, columns, C]. Traps where the tokens form no raster.
    public var raster: Tensor {
        guard let grid else { trap("VisualTokens", "the tokens form no raster", features) }
        return features.reshaped(to: [batch, grid.rows, grid.columns, width])
    }

    /// Traps where some of the tokens are masked: what a method sees of a token's neighbours would be padding.
    func requireAllReal(_ method: String) {
        guard let mask, mask.scalars(as: Bool.self).contains(false) else { return }
        trap(
            method, "all tokens of a raster must be real: pictures of different sizes are compressed apart", features,
            mask)
    }

    /// A raster of other tokens: rows and columns are mixed each by themselves, as pooling, merging and resizing do.
    /// What is known follows as in `mixed(features:by:grid:)` with the weights rows[i, r] · columns[j, c].
    ///
    /// - Parameters:
    ///   - features: [B, h' · w', C'], what the method made of the mixture.
    ///   - rows: [h', h], how much of each row goes where; not negative.
    ///   - columns: [w', w], likewise.
    ///
    /// Traps for other weights, and where a token would be made of real tokens and of masked ones.
    public func resampled(features: Tensor, rows: Tensor, columns: Tensor) -> VisualTokens {
        guard let grid, rows.rank == 2, columns.rank == 2, rows.shape[1] == grid.rows, columns.shape[1] == grid.columns
        else {
            trap("VisualTokens", "a raster and weights [h', h] and [w', w] are needed", features, rows, columns)
        }
        let (height, width) = (rows.shape[0], columns.shape[0])
        return withoutGradient {
            let smallest = Tensor([Float(1e-12)], shape: [1, 1])
            /// [B, N, K] → [B, N', K].
            func mixed(_ x: Tensor, _ rows: Tensor, _ columns: Tensor) -> Tensor {
                let depth = x.shape[2]
                let down = matmul(rows, x.reshaped(to: [batch, grid.rows, grid.columns * depth]))
                let across = matmul(columns, down.reshaped(to: [batch * height, grid.columns, depth]))
                return across.reshaped(to: [batch, height * width, depth])
            }
            let sizes = self.sizes.unsqueezed(-1)
            let places = mixed(positions * sizes, rows, columns) / maximum(mixed(sizes, rows, columns), smallest)
            func parts(_ weights: Tensor) -> Tensor {
                weights / maximum(weights.sum(axes: [0], keepingAxes: true), smallest)
            }
            let left = mixed(sizes, parts(rows), parts(columns)).squeezed(-1)
            let real = mask.map { mask in
                let shares = [mask, .!mask].map { mixed($0.cast(to: .float32).unsqueezed(-1), rows, columns) .> 0 }
                if (shares[0] .& shares[1]).scalars(as: Bool.self).contains(true) {
                    trap(
                        "VisualTokens",
                        "masked tokens would be mixed with real ones: pictures of different sizes are compressed apart",
                        self.features, mask)
                }
                return shares[0].squeezed(-1)
            }
            return VisualTokens(
                features: features, positions: places, sizes: left, mask: real,
                grid: Grid(rows: height, columns: width),
                provenance: provenance.map { Provenance(weights: mixed($0.weights, rows, columns)) })
        }.with(features: features)
    }

    /// The same tokens column by column: the raster mirrored at its diagonal.
    public func transposedRaster() -> VisualTokens {
        guard let grid else { trap("VisualTokens", "the tokens form no raster", features) }
        func transposed(_ x: Tensor) -> Tensor {
            x.reshaped(to: [batch, grid.rows, grid.columns] + x.shape[2...]).transposed(1, 2).reshaped(to: x.shape)
        }
        return VisualTokens(
            features: transposed(features), positions: transposed(positions), sizes: transposed(sizes),
            mask: mask.map(transposed), grid: Grid(rows: grid.columns, columns: grid.rows),
            provenance: provenance.map { Provenance(weights: transposed($0.weights)) })
    }

    /// Tokens that stand for no patch, such as the end of a line, to be joined with these.
    ///
    /// - Parameters:
    ///   - features: [B, M, C].
    ///   - positions: [B, M, 2], where in the picture they stand.
    public func marks(features: Tensor, positions: Tensor) -> VisualTokens {
        VisualTokens(
            features: features, positions: positions, sizes: .zeros([batch, features.shape[1]]),
            provenance: provenance.map {
                Provenance(weights: .zeros([batch, features.shape[1], $0.weights.shape[2]], dtype: $0.weights.dtype))
            })
    }

    /// One after the other along the sequence. What comes out forms no raster.
    public static func joined(_ parts: [VisualTokens]) -> VisualTokens {
        let masked = parts.contains { $0.mask != nil }
        let provenances = parts.compactMap(\.provenance?.weights)
        return VisualTokens(
            features: concatenated(parts.map(\.features), axis: 1),
            positions: concatenated(parts.map(\.positions), axis: 1),
            sizes: concatenated(parts.map(\.sizes), axis: 1),
            mask: masked
                ? concatenated(
                    parts.map { $0.mask ?? .full([$0.batch, $0.count], 1, dtype: .bool) }, axis: 1) : nil,
            provenance: provenances.count == parts.count
                ? Provenance(weights: concatenated(provenances, axis: 1)) : nil)
    }
}

extension Tensor {
    /// [n / k, n]: the means of k neighbours. Traps unless k divides n.
    static func blockMeans(_ n: Int, of k: Int) -> Tensor {
        guard k > 0, n % k == 0 else { trap("blockMeans", "\(k) does not divide \(n)") }
        var values = [Float](repeating: 0, count: n / k * n)
        for place in 0..<n { values[place / k * n + place] = 1 / Float(k) }
        return Tensor(values, shape: [n / k, n])
    }

    /// [n', n]: what an op on images makes of each row of a picture of n rows.
    static func rowWeights(_ n: Int, _ op: (Tensor) -> Tensor) -> Tensor {
        withoutGradient {
            var ones = [Float](repeating: 0, count: n * n)
            for place in 0..<n { ones[place * n + place] = 1 }
            let made = op(Tensor(ones, shape: [n, 1, n, 1]))
            return made.reshaped(to: [n, made.shape[2]]).transposed(0, 1).contiguous()
        }
    }
}
