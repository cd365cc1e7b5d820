extension Op {
    /// Every op of the library. A test compares this list with the entries that the sources declare.
    public static let catalogue: [Op] = [
        first, powers, trigonometry, rounding, activations, comparisons, logic, choices,
        furtherReductions, linearAlgebra,
        joining, rearranging, indexing, masking, sorting, windows,
        norms, losses, images, encodings,
    ].flatMap { $0 }

    /// The ops of the first training runs.
    private static let first: [Op] = [
        // arithmetic
        .add, .subtract, .multiply, .divide, .negate, .maximum, .minimum,
        // element by element
        .exp, .log, .sqrt, .square, .abs, .tanh, .sigmoid, .erf, .relu, .gelu,
        // reductions
        .sum, .mean, .max, .argmax,
        // shape
        .reshape, .permute, .expand, .slice, .concatenate, .cast,
        // products
        .matmul, .linear, .joinedLinear, .joinedAffine, .groupedLinear,
        // neural
        .softmax, .logSoftmax, .layerNorm, .attention, .dropout, .crossEntropy,
    ]
}
