"""Where Fovea differs from PyTorch on purpose, and why."""

INFINITE = "infinite|negative infinite|all negative infinite"
SPECIAL = "nan|" + INFINITE

SHOWS = "The gradient at NaN is NaN, so that it shows; PyTorch's is {}."
EMPTY = "Of no elements the loss is 0, since an empty batch teaches nothing; PyTorch gives NaN."
SINGLE = "Of a scalar it is the scalar itself, with the gradient 1, even where that is not finite; PyTorch gives NaN."
BEYOND = (
    "What lies beyond the edge counts for the pixel at the edge, with one weight; PyTorch adds it up pixel by pixel, and "
    "an infinite one with weights of both signs makes NaN."
)

# (op, samples, inputs, what, why): of the first three, "a|b" names several and None all.
DEVIATIONS = [
    ("abs", None, "nan", "gradient 0", SHOWS.format("0")),
    ("relu", None, "nan", "gradient 0", SHOWS.format("that of a positive number")),
    ("leakyRelu", None, "nan", "gradient 0", SHOWS.format("that of a negative number")),
    ("elu", None, "nan", "gradient 0", SHOWS.format("1 or NaN, depending on the element's place in the tensor")),
    ("sign", None, "nan", "output", "NaN stays NaN, so that it shows in what follows; PyTorch makes it 0."),
    ("gelu", None, INFINITE, "gradient 0", "The gradient at ∞ and −∞ is its limit, 1 and 0; PyTorch gives NaN."),
    ("geluTanh", None, INFINITE, "gradient 0", "The gradient at ∞ and −∞ is its limit, 1 and 0; PyTorch gives NaN."),
    (
        "softmax", None, "negative infinite|all negative infinite", "output|gradient 0",
        "A row of −∞ alone gives zeros, and a gradient of zeros: who may attend to nothing takes nothing. PyTorch gives NaN, "
        "except in its attention, which does the same.",
    ),
    (
        "attention", None, SPECIAL, "output|gradient 0|gradient 1|gradient 2|gradient 3",
        "What a mask, a bias of −∞ or the causal order hides is as good as absent, NaN and infinities with it; PyTorch "
        "multiplies them by 0.",
    ),
    (
        "logSumExp", None, "all negative infinite", "gradient 0",
        "Of −∞ alone the gradient is 0, as softmax has it; PyTorch gives NaN.",
    ),
    (
        "logSumExp", None, "infinite", "gradient 0",
        "With an ∞ the whole row's gradient is NaN, as softmax has it; PyTorch gives 0 for the finite elements.",
    ),
    ("logSumExp", "scalar", "nan|negative infinite", "gradient 0", SINGLE),
    ("max", "scalar", "nan", "gradient 0", SINGLE),
    ("min", "scalar", "nan", "gradient 0", SINGLE),
    (
        "product", None, SPECIAL, "gradient 0",
        "The gradient is the product of the other elements, also where one is NaN or infinite; PyTorch divides the "
        "product by the element and gives NaN.",
    ),
    (
        "determinant", None, "drawn|whole", "gradient 0",
        "The gradient of a singular matrix is that of its cofactors; PyTorch's is wrong or not finite there.",
    ),
    (
        "determinant", None, SPECIAL, "gradient 0",
        "Of a matrix that is not finite the gradient is determinant · inverse, in which NaN and infinities stand where "
        "the factorization puts them.",
    ),
    ("qr", None, SPECIAL, "output", "NaN and infinities spread; how far depends on the LAPACK that both call."),
    (
        "einsum", None, "negative infinite", "output",
        "Operands are multiplied before they are summed; PyTorch sums an axis that one operand alone has first, so that "
        "∞ − ∞ arises in other places.",
    ),
    (
        "topK", None, "whole|zeros|all negative infinite", "output|gradient 0",
        "Of equal elements the first come first; PyTorch leaves the order open.",
    ),
    (
        "straightThrough", None, INFINITE, "output",
        "Infinities stay; PyTorch's idiom, a sum of differences, makes them NaN.",
    ),
    ("bicubicInterpolation", "down|up|view", "infinite|negative infinite", "output", BEYOND),
    ("bicubicInterpolation", "one pixel", INFINITE, "output", BEYOND),
    (
        "bilinearInterpolation", None, "all negative infinite", "output",
        "A pixel of weight 0 does not count; in PyTorch 0 · ∞ makes NaN.",
    ),
    (
        "layerNorm", "affine|tail", INFINITE, "gradient 0",
        "With an infinite weight the gradient is not finite; which of ∞ and NaN it is depends on the order of the sums.",
    ),
    (
        "groupNorm", "affine|weight alone", INFINITE, "output|gradient 0",
        "With an infinite weight the result is not finite; which of ∞ and NaN it is depends on the order of the products: "
        "PyTorch multiplies the weight by the deviation first.",
    ),
    (
        "batchNormInference", None, None, "gradient 1|gradient 2",
        "The statistics have gradients too; PyTorch gives none.",
    ),
    (
        "crossEntropy", "all ignored", None, "output|gradient 0",
        "With every label ignored the loss is 0, and so is the gradient: such a batch teaches nothing; PyTorch gives NaN.",
    ),
    (
        "crossEntropy", "ignored", "all negative infinite", "gradient 0",
        "An ignored row has the gradient 0 whatever its logits are; PyTorch lets NaN through.",
    ),
    ("softCrossEntropy", "empty", "drawn", "output", EMPTY),
    ("binaryCrossEntropy", "empty", "drawn", "output", EMPTY),
    (
        "binaryCrossEntropy", None, INFINITE, "output|gradient 0|gradient 1",
        "An infinite target is no probability: which of ∞ and NaN the loss is depends on the order of its terms.",
    ),
    ("meanSquaredError", "empty", "drawn", "output", EMPTY),
    ("huberLoss", "empty", "drawn", "output", EMPTY),
    ("klDivergence", "empty", "drawn", "output", EMPTY),
    (
        "klDivergence", None, "whole|zeros", "gradient 1",
        "A target of no mass counts 0 and has the gradient 0; PyTorch's gradient is NaN.",
    ),
    (
        "klDivergence", "log target", "negative infinite|all negative infinite", "output|gradient 1",
        "A target of no mass counts 0 and has the gradient 0, also as a logarithm; PyTorch gives NaN.",
    ),
]  # fmt: skip

# (op, sample): what PyTorch refuses, and Fovea does not.
REFUSED = {
    ("pixelShuffle", "empty"): "A batch of no images has a gradient; PyTorch's has another shape and is refused.",
    ("pixelUnshuffle", "empty"): "A batch of no images keeps its other axes; PyTorch's result has another shape.",
}

# What a call takes or gives otherwise; the samples are compared as the expressions say.
CALLS = {
    "argmax": "Along one axis, not over all elements at once; so `argmin`.",
    "batchNorm": "The statistics come back, with the biased variance, instead of being written into arguments; one value "
    "a channel is allowed.",
    "bincount": "Without weights, for which there is `addingAt`.",
    "cholesky": "Of a matrix that is not symmetric the symmetric part is taken, not the lower triangle; so "
    "`symmetricEigen`.",
    "crossEntropy": "Classes stand on the last axis; without weights of classes.",
    "cumulativeSum": "Not of a scalar, which has no axis.",
    "interpolation": "To a size, not by a factor; `nearestInterpolation` computes places in whole numbers, PyTorch in "
    "float32.",
    "max": "−∞ over nothing, and ∞ for `min`: the neutral elements; PyTorch refuses.",
    "maxPooling": "Of several NaN in a window the first takes the gradient; PyTorch's last.",
    "meanSquaredError": "Input and target have one shape, as in all losses; PyTorch warns and broadcasts.",
    "oneHot": "float32 unless said otherwise, and the number of classes must be given.",
    "pad": "Pairs in the order of the axes, and no negative widths.",
    "rmsNorm": "ε is 10⁻⁶ unless given, as published models have it; PyTorch's is the type's smallest step.",
    "roll": "One axis a call.",
    "scatterAdd": "Indices and source have one shape.",
    "softplus": "β must be positive.",
    "solve": "A batch of vectors is written as one of columns.",
    "sort": "Stable always; so `argsort`.",
}
