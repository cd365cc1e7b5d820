import FoveaNN
import FoveaTensor

/// What a vision encoder hands to a language model, and what is known of where each token comes from.
///
/// Every compressor takes and returns these, so that methods can be stacked, compared and looked at: whatever was kept,
/// merged or pooled, a token still knows its place in the picture, how many patches it stands for, and, when asked to
/// keep track, which ones.
public struct VisualTokens: Sendable {
    /// [B, N, C].
    public var features: Tensor
    /// Centre row and column of each token in patch units, [B, N, 2]: patch (r, c) is at (r, c), a merged 2 × 2 block
    /// at (r + ½, c + ½).
    public var positions: Tensor
    /// How many patches each token stands for, [B, N]; 0 where `mask` is false.
    public var sizes: Tensor
    /// Which tokens are real, [B, N], bool, where members of the batch have different numbers of them; nil when all are.
    public var mask: Tensor? { didSet { checkMask() } }
    /// The rows and columns that the tokens are a raster of; nil when they form none.
    public var grid: Grid?
    /// Which patches each token is made of; nil unless tracked.
    public var provenance: Provenance?
    /// What the encoder's attention says of the tokens; nil where nobody asked it.
    public var signals: EncoderSignals? { didSet { checkSignals() } }
    /// Which tokens must not be taken away later, bool [B, N]; nil where none are marked. What one of them goes into is
    /// marked too.
    public var marks: Tensor?
    /// What the method that made them wants of its choices, for training.
    public var losses: [AuxiliaryLoss] = []

    /// Rows and columns of a raster of tokens.
    public struct Grid: Sendable, Equatable, CustomStringConvertible {
        public var rows: Int
        public var columns: Int

        public init(rows: Int, columns: Int) {
            self.rows = rows
            self.columns = columns
        }

        /// How many cells there are.
        public var count: Int { rows * columns }

        public var description: String { "\(rows) × \(columns)" }
    }

    /// Which patches each token is made of, and with what weight.
    public struct Provenance: Sendable {
        /// [B, N, P]: token n is about Σ_p weights[n, p] · patch p. Rows of real tokens sum to 1 for averages and for
        /// attention, and hold a 1 for each patch whose maximum a pooled token may be.
        public var weights: Tensor

        public init(weights: Tensor) { self.weights = weights }

        /// Each of P patches by itself, for a batch of B.
        public static func identity(batch: Int, patches: Int) -> Provenance {
            var values = [Float](repeating: 0, count: patches * patches)
            for patch in 0..<patches { values[patch * patches + patch] = 1 }
            return Provenance(
                weights: Tensor(values, shape: [patches, patches]).expanded(to: [batch, patches, patches]))
        }

        /// After tokens were mixed by weights [B, N', N], or [N', N] for the whole batch.
        public func mixed(by weights: Tensor) -> Provenance {
            Provenance(weights: withoutGradient { matmul(weights.cast(to: self.weights.dtype), self.weights) })
        }
    }

    /// Tokens with all that is known of them.
    public init(
        features: Tensor, positions: Tensor, sizes: Tensor, mask: Tensor? = nil, grid: Grid? = nil,
        provenance: Provenance? = nil
    ) {
        guard features.rank == 3, positions.shape == Array(features.shape.prefix(2)) + [2],
            sizes.shape == Array(features.shape.prefix(2)), grid == nil || grid!.count == features.shape[1]
        else {
            trap(
                "VisualTokens", "features [B, N, C], positions [B, N, 2] and sizes [B, N] are needed", features,
                positions, sizes)
        }
        self.features = features
        self.positions = positions
        self.sizes = sizes
        self.mask = mask
        self.grid = grid
        self.provenance = provenance
        checkMask()
    }

    private func checkMask() {
        guard let mask, mask.dtype != .bool || mask.shape != [batch, count] else { return }
        trap("VisualTokens", "a mask is bool [B, N], with B and N of the features [B, N, C]", mask, features)
    }

    private func checkSignals() {
        guard let signals else { return }
        for (name, axes, tensor) in [
            ("classAttention", "[B, H, N]", signals.classAttention), ("keys", "[B, N, d]", signals.keys),
            ("relevance", "[B, N]", signals.relevance),
        ] {
            guard let tensor else { continue }
            let n = name == "classAttention" ? 2 : 1
            guard tensor.rank == (name == "relevance" ? 2 : 3), tensor.shape[0] == batch, tensor.shape[n] == count
            else {
                trap(
                    "VisualTokens",
                    "\(name) is \(axes), with B and N of the features [B, N, C], without the class token",
                    tensor, features)
            }
        }
    }

    /// The patches of a picture in raster order, as an encoder makes them.
    ///
    /// - Parameters:
    ///   - features: [B, rows · columns, C].
    ///   - grid: rows and columns of the patches.
    ///   - tracked: whether to keep track of which patches go where. It costs a matrix [B, N, P].
    public init(patches features: Tensor, grid: Grid, tracked: Bool = false) {
        guard features.rank == 3, features.shape[1] == grid.count else {
            trap("VisualTokens", "features [B, \(grid.count), C] are needed for a grid of \(grid)", features)
        }
        let batch = features.shape[0]
        self.init(
            features: features, positions: VisualTokens.cells(grid).expanded(to: [batch, grid.count, 2]),
            sizes: Tensor.ones([1, 1]).expanded(to: [batch, grid.count]), grid: grid,
            provenance: tracked ? .identity(batch: batch, patches: grid.count) : nil)
    }

    /// B.
    public var batch: Int { features.shape[0] }
    /// N.
    public var count: Int { features.shape[1] }
    /// C.
    public var width: Int { features.shape[2] }

    /// Row and column of each cell of a grid, [rows · columns, 2].
    private static func cells(_ grid: Grid) -> Tensor {
        let values = (0..<grid.count).flatMap { [Float($0 / grid.columns), Float($0 % grid.columns)] }
        return Tensor(values, shape: [grid.count, 2])
    }

    /// The same tokens with other features [B, N, C'], as after a projection of each by itself.
    public func with(features: Tensor) -> VisualTokens {
        guard Array(features.shape.prefix(2)) == Array(self.features.shape.prefix(2)) else {
            trap("VisualTokens", "features of another number of tokens", features, self.features)
        }
        var copy = self
        copy.features = features
        return copy
    }

    /// Fewer tokens, each a fixed mixture of these: positions become the means of what is mixed, sizes add
    /// up.
    ///
    /// - Parameters:
    ///   - features: [B, N', C'], what the method made of the mixture.
    ///   - weights: [N', N] or [B, N', N], how much of each token goes where; not negative.
    ///   - grid: the raster that the new tokens form, if any.
    public func mixed(features: Tensor, by weights: Tensor, grid: Grid? = nil) -> VisualTokens {
        withoutGradient {
            let weights = weights.cast(to: .float32)
            // As the features are mixed: what patches a token stands for is in its weight where it counts (ToMe).
            let totals = weights.sum(axes: [-1], keepingAxes: true)
            // Sample by sample, so that a batch has the bits of its members.
            func mixed(_ weights: Tensor, _ x: Tensor) -> Tensor {
                guard batch > 1 else { return matmul(weights, x) }
                return stacked((0..<batch).map { matmul(weights.rank == 3 ? weights[$0] : weights, x[$0]) }, axis: 0)
            }
            let places = mixed(weights, positions) / maximum(totals, Tensor([Float(1e-12)], shape: [1, 1, 1]))
            // A token belongs to whom it gives most of itself, in parts: what it gives away adds up to its size.
            let given = weights.sum(axes: [-2], keepingAxes: true)
            let parts = weights / maximum(given, Tensor([Float(1e-12)], shape: [1, 1]))
            return VisualTokens(
                features: features, positions: places,
                sizes: mixed(parts, sizes.unsqueezed(-1)).squeezed(-1), grid: grid,
                provenance: provenance?.mixed(by: weights))
        }.with(features: features)
    }
}
