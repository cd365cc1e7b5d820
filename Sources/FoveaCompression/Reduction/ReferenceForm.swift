import FoveaNN
import FoveaTensor

// What the catalogue entries of reducers have in common.

extension ConfigurationKey {
    /// The budget of a reducer.
    static func keep(default defaultValue: ConfigurationValue? = nil) -> ConfigurationKey {
        .size("keep", "how many tokens remain, at most all", default: defaultValue)
    }

    /// Rows and columns of the patches.
    static let grid = ConfigurationKey.sizes("grid", "rows and columns of the patches", count: 2)

    /// The same, where a compressor knows it.
    static let knownGrid = ConfigurationKey.sizes(
        "grid", "rows and columns of the patches; a compressor knows them", count: 2, default: .null)

    /// Where the importance of patches comes from between encoder and language model.
    static let importance = ConfigurationKey.choice(
        "importance", "where a compressor's importance of patches comes from",
        of: ImportanceSource.allCases.map(\.rawValue),
        default: .string(ImportanceSource.available.rawValue))
}

extension Configuration {
    /// The raster that "grid" says.
    var grid: VisualTokens.Grid {
        let sides = ints("grid")
        return .init(rows: sides[0], columns: sides[1])
    }

    var importance: ImportanceSource { ImportanceSource(rawValue: string("importance"))! }
}

extension ModuleInputs {
    /// An input [B, N, …] whose N are the cells of the raster that "grid" says.
    func raster(_ name: String) throws -> (Tensor, VisualTokens.Grid) {
        guard configuration.values["grid"] != .null else {
            throw ModuleInputError("\"grid\" is needed: tokens alone do not tell their rows and columns")
        }
        let (x, grid) = (self[name], configuration.grid)
        guard x.shape[1] == grid.count else {
            throw ModuleInputError("input \(name) is \(x.shape), but a grid of \(grid) has \(grid.count) tokens")
        }
        return (x, grid)
    }

    /// An input whose axis holds something.
    func filled(_ name: String, axis: Int = 1) throws -> Tensor {
        let x = self[name]
        guard x.shape[axis] > 0 else { throw ModuleInputError("input \(name) is \(x.shape): there are no tokens") }
        return x
    }
}

extension [TokenReduction] {
    /// The kept tokens of each sample, for reductions that merge nothing away from its place: [B, longest].
    var keptIndices: Tensor { .paddedIndices(map { $0.kept.map { $0 ?? -1 } }) }

    /// Which places are real, [B, longest].
    var mask: Tensor { .prefixMask(map(\.kept.count)) }

    /// How much of x [B, N] each place has in all, whatever the weights of the merges: [B, longest], zeros behind.
    func totals(_ x: Tensor) -> Tensor {
        guard !isEmpty else { return x }
        let length = map(\.kept.count).max() ?? 0
        return stacked(
            zip(x.members, self).map { x, reduction in
                let own = x.selecting(axis: 0, .indices(reduction.kept.map { $0 ?? 0 }))
                let standing = own.maskedFill(
                    Tensor(reduction.kept.map { $0 == nil }, shape: [reduction.kept.count]), 0)
                return standing.addingAt(
                    axis: 0, .indices(reduction.merges.map(\.place)),
                    x.selecting(axis: 0, .indices(reduction.merges.map(\.source)))
                ).padded([(0, length - reduction.kept.count)])
            }, axis: 0)
    }
}
