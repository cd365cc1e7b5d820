"""What PyTorch calls each op of the catalogue, sample by sample.

An op has one expression for all of its samples, or a table of them by the sample's label, where "" stands for the
others. In an expression a, b, … are the sample's inputs, None where there are fewer; `inputs` is the list of them, and
`label` the sample's name. Beside torch, F and math it may use the functions at the end of this file.
"""

import math

import torch
import torch.nn.functional as F


def along(expression, **more):
    """The samples that every reduction has: {} stands for the axes."""
    axes = {
        "all": "", "last": "dim=-1", "first": "dim=0, keepdim=True", "middle": "dim=1",
        "several": "dim=(0, 2), keepdim=True", "scalar": "", "transposed": "dim=1", "empty": "dim=0", **more,
    }  # fmt: skip
    return {label: expression.format(dims).replace("(, ", "(").replace(", )", ")") for label, dims in axes.items()}


def losses(expression):
    """The samples that every loss of two operands has; {} stands for the reduction."""
    return {
        "sum": expression.format("sum"),
        "batch mean": expression.format("sum") + " / a.shape[0]",
        "none": expression.format("none"),
        "": expression.format("mean"),
    }


def compared(operator):
    return {"number": f"a {operator} 1", "": f"a {operator} b"}


MASK = {"none true": "dim=1", "all true": "dim=1", "a view of a mask": "dim=1"}
VARIANCE = {"population": "dim=1, correction=0", "half a correction": "dim=1, correction=1.5", "no rows": "dim=1"}

# Agreement to 1e-12 of the largest element.
ELEMENTWISE = {
    "add": "a + b",
    "subtract": "a - b",
    "multiply": "a * b",
    "divide": "a / b",
    "negate": "-a",
    "maximum": "torch.maximum(a, b)",
    "minimum": "torch.minimum(a, b)",
    "exp": "torch.exp(a)",
    "log": "torch.log(a)",
    "sqrt": "torch.sqrt(a)",
    "square": "torch.square(a)",
    "abs": "torch.abs(a)",
    "tanh": "torch.tanh(a)",
    "sigmoid": "torch.sigmoid(a)",
    "erf": "torch.erf(a)",
    "relu": "F.relu(a)",
    "gelu": "F.gelu(a)",
    "power": {
        "cubed": "a ** 3",
        "to the −2": "a ** -2",
        "to the 0": "a ** 0",
        "to the 1": "a ** 1",
        "to the 2.5": "a ** 2.5",
        "negative base": "a ** 3",
        "2 to the x": "2 ** a",
        "": "torch.pow(a, b)",
    },
    "reciprocal": "torch.reciprocal(a)",
    "rsqrt": "torch.rsqrt(a)",
    "log1p": "torch.log1p(a)",
    "expm1": "torch.expm1(a)",
    "sin": "torch.sin(a)",
    "cos": "torch.cos(a)",
    "sign": "torch.sign(a)",
    "floor": "torch.floor(a)",
    "ceil": "torch.ceil(a)",
    "round": "torch.round(a)",
    "squaredRelu": "F.relu(a) ** 2",
    "leakyRelu": {"slope": "F.leaky_relu(a, 0.25)", "": "F.leaky_relu(a)"},
    "geluTanh": "F.gelu(a, approximate='tanh')",
    "silu": "F.silu(a)",
    "swiGLU": "F.silu(a) * b",
    "softplus": {"beta": "F.softplus(a, 4)", "threshold": "F.softplus(a, 2, 1)", "": "F.softplus(a)"},
    "elu": {"alpha": "F.elu(a, 0.5)", "": "F.elu(a)"},
    "clamp": {"below": "a.clamp(min=0.25)", "above": "a.clamp(max=0.25)", "": "a.clamp(-0.5, 1.25)"},
    "equal": compared("=="),
    "notEqual": compared("!="),
    "less": compared("<"),
    "lessOrEqual": compared("<="),
    "greater": compared(">"),
    "greaterOrEqual": compared(">="),
    "isNaN": "torch.isnan(a)",
    "isFinite": "torch.isfinite(a)",
    "logicalAnd": "a & b",
    "logicalOr": "a | b",
    "logicalXor": "a ^ b",
    "logicalNot": "~a",
    "where": {
        "else a number": "torch.where(a, b, -1.5)",
        "a number": "torch.where(a, 2.5, b)",
        "": "torch.where(a, b, c)",
    },
    "straightThrough": {"square": "a * a + (a.square() - a * a).detach()", "": "a + (a - a).detach()"},
}

SHAPE = {
    "reshape": {
        "split": "a.reshape(2, 3, 2)",
        "inferred": "a.reshape(-1, 4)",
        "transposed": "a.reshape(12)",
        "to scalar": "a.reshape(())",
        "empty": "a.reshape(3, 0)",
    },
    "permute": {
        "rotated": "a.permute(2, 0, 1)",
        "swapped": "a.transpose(-1, -2)",
        "twice": "a.permute(1, 2, 0)",
        "empty": "a.transpose(0, 1)",
    },
    "expand": {
        "rows": "a.expand(4, 3)",
        "ranks": "a.expand(2, 3, 2)",
        "scalar": "a.expand(2, 2)",
        "to nothing": "a.expand(0, 2)",
    },
    "slice": {
        "range": "a[1:4]",
        "steps": "a[:, 1:7:3]",
        "one": "a[2]",
        "none": "a[2:2]",
        "of a view": "a[::2]",
    },
    "concatenate": {"columns": "torch.cat(inputs, -1)", "views": "torch.cat(inputs, 1)", "": "torch.cat(inputs, 0)"},
    "cast": "a.float().double()",
    "stack": {"last": "torch.stack(inputs, -1)", "empty": "torch.stack(inputs, 1)", "": "torch.stack(inputs, 0)"},
    "split": {
        "swapped": "torch.cat(a.split([2, 3])[::-1])",
        "middle": "a.split([1, 2, 3], -1)[1]",
        "with nothing": "a.split([0, 4, 0])[1]",
        "of a view": "a.split([2, 3])[1]",
    },
    "pad": {
        "columns": "F.pad(a, (1, 2))",
        "planes": "F.pad(a, (0, 2, 1, 0), value=-1.5)",
        "nothing": "F.pad(a, (0, 0))",
        "empty": "F.pad(a, (0, 1, 2, 1), value=0.5)",
        "of a view": "F.pad(a, (0, 1, 1, 1))",
    },
    "replace": {
        "range": "torch.slice_scatter(a, b, 0, 1, 3)",
        "steps": "torch.slice_scatter(a, b, -1, 0, 7, 3)",
        "broadcast": "torch.slice_scatter(a, b.expand(2, 2), 1, 2, 4)",
        "everything": "torch.slice_scatter(a, b.expand(2, 3), 0, 0, 2)",
        "nothing": "torch.slice_scatter(a, b, 0, 1, 1)",
    },
    "repeatInterleave": {
        "rows": "a.repeat_interleave(3, 0)",
        "columns": "a.repeat_interleave(2, -1)",
        "never": "a.repeat_interleave(0, 0)",
        "of a view": "a.repeat_interleave(2, 1)",
        "counts": "a.repeat_interleave(torch.tensor([2, 0, 3]), 1)",
    },
    "tile": {
        "both": "a.tile(2, 3)",
        "last": "a.tile(2)",
        "ranks": "a.tile(2, 1, 2)",
        "scalar": "a.tile(3)",
        "never": "a.tile(0, 2)",
    },
    "flip": {"last": "a.flip(-1)", "both": "a.flip(0, 1)", "none": "a.flip(())", "": "a.flip(0)"},
    "roll": {
        "forward": "a.roll(2, -1)",
        "backward": "a.roll(-1, 0)",
        "around": "a.roll(13, 0)",
        "empty": "a.roll(1, 0)",
        "of a view": "a.roll(1, 1)",
    },
    "tril": {
        "wide, above": "a.tril(1)",
        "tall, below": "a.tril(-2)",
        "far out": "a.tril(7)",
        "": "a.tril()",
    },
    "triu": {
        "wide, above": "a.triu(1)",
        "tall, below": "a.triu(-2)",
        "far out": "a.triu(7)",
        "": "a.triu()",
    },
    "gather": {"first": "a.gather(0, b)", "last": "a.gather(-1, b)", "": "a.gather(1, b)"},
    "scatterAdd": {"first": "a.scatter_add(0, b, c)", "": "a.scatter_add(1, b, c)"},
    "indexSelect": {
        "columns": "a.index_select(-1, b)",
        "middle": "a.index_select(1, b)",
        "": "a.index_select(0, b)",
    },
    "indexAdd": {
        "columns": "a.index_add(-1, b, c)",
        "middle": "a.index_add(1, b, c)",
        "none": "a.index_add(1, b, c)",
        "": "a.index_add(0, b, c)",
    },
    "embedding": "F.embedding(b, a)",
    "embeddingBag": {
        "weighted": 'F.embedding_bag(b, a, torch.tensor([0, 3, 3, 4]), mode="sum", per_sample_weights=c)',
        "sums": 'F.embedding_bag(b, a, torch.tensor([0, 2]), mode="sum")',
        "empty bags": 'F.embedding_bag(b, a, torch.tensor([0, 0]), mode="sum", per_sample_weights=c)',
        "": 'F.embedding_bag(b, a, torch.tensor([0, 1]), mode="sum")',
    },
    "oneHot": {
        "vector": "F.one_hot(a, len(a)).float()",
        "matrix": "F.one_hot(a, 4).double()",
        "": "F.one_hot(a, 4).float()",
    },
    "bincount": {"longer": "torch.bincount(a, minlength=9)", "": "torch.bincount(a)"},
    "maskedSelect": {"nothing": "a[torch.zeros(3, dtype=torch.bool)]", "": "a[b.bool()]"},
    "maskedFill": {
        "equal": "a.masked_fill(b.bool(), 0.5)",
        "row": "a.masked_fill(b.bool(), -1)",
        "column of a view": "a.masked_fill(b.bool(), 3)",
        "empty": "a.masked_fill(torch.tensor([True]), 1)",
    },
    "sort": {
        "ascending": "a.sort(dim=-1, stable=True)[0]",
        "descending": "a.sort(dim=0, descending=True, stable=True)[0]",
        "with indices": "torch.cat(a.sort(dim=1, stable=True), 1)",
        "": "a.sort(dim=1, stable=True)[0]",
    },
    "argsort": {
        "ascending": "a.argsort(dim=-1, stable=True)",
        "descending": "a.argsort(dim=0, descending=True, stable=True)",
        "ties, descending": "a.argsort(dim=1, descending=True, stable=True)",
        "": "a.argsort(dim=1, stable=True)",
    },
    "topK": {
        "largest": "a.topk(3, -1)[0]",
        "smallest": "a.topk(2, 0, largest=False)[0]",
        "all, with indices": "torch.cat(a.topk(a.shape[1], 1), 1)",
        "of a view": "a.topk(2, 1)[0]",
        "none": "a.topk(0, 1)[0]",
    },
    "unfold": {
        "plain": "F.unfold(a, (2, 3))",
        "no images": "F.unfold(a, 2)",
        "": "F.unfold(a, (3, 2), dilation=(1, 2), padding=(1, 2), stride=(2, 1))",
    },
    "fold": {
        "plain": "F.fold(a, (4, 5), (2, 3))",
        "everything": "F.fold(a, (5, 6), (3, 2), dilation=(1, 2), padding=(1, 2), stride=(2, 1))",
        "": "F.fold(a, (3, 3), 2)",
    },
    "pixelShuffle": {"thrice": "F.pixel_shuffle(a, 3)", "one": "F.pixel_shuffle(a, 1)", "": "F.pixel_shuffle(a, 2)"},
    "pixelUnshuffle": {
        "thrice": "F.pixel_unshuffle(a, 3)",
        "one": "F.pixel_unshuffle(a, 1)",
        "": "F.pixel_unshuffle(a, 2)",
    },
    "nearestInterpolation": {"down": "F.interpolate(a, (2, 4))", "": "F.interpolate(a, (5, 7))"},
}

# Agreement to 1e-9 of the largest element: sums, whose order differs.
REST = {
    "sum": along("a.sum({})"),
    "mean": along("a.mean({})"),
    "max": along("a.amax({})"),
    "argmax": {"last": "a.argmax(-1)", "first": "a.argmax(0)", "": "a.argmax(1)"},
    "min": along("a.amin({})"),
    "argmin": {"last": "a.argmin(-1)", "first": "a.argmin(0)", "": "a.argmin(1)"},
    "any": along("(F.relu(a) != 0).any({})", **MASK),
    "all": along("(F.relu(a) != 0).all({})", **MASK),
    "product": along("a.prod({})", zeros="dim=1") | {"several": "a.prod(2, True).prod(0, True)"},
    "cumulativeSum": {"last": "a.cumsum(-1)", "first": "a.cumsum(0)", "empty": "a.cumsum(0)", "": "a.cumsum(1)"},
    "variance": along("a.var({})", **VARIANCE),
    "standardDeviation": along("a.std({})", **VARIANCE),
    "l2Norm": along("torch.linalg.vector_norm(a, {})"),
    "logSumExp": along("torch.logsumexp(a, {})", all="dim=(0, 1)", scalar="dim=0"),
    "matmul": "torch.matmul(a, b)",
    "linear": "F.linear(a, b, c)",
    "joinedLinear": {
        "broadcast": "torch.cat([F.linear(*inputs[:3]), F.linear(*inputs[3:]).expand(3, -1, -1)], -2)",
        "one part of one sample": "F.linear(*inputs)",
        "without biases, views": "torch.cat([F.linear(a, b), F.linear(c, d)], -2)",
        "": "torch.cat([F.linear(*inputs[:3]), F.linear(*inputs[3:])], -2)",
    },
    "joinedAffine": {
        "scaled, shifted and as it is": "torch.cat([a * b, c + d, e], -2)",
        "one part": "a * b + c",
        "broadcast": "torch.cat([(a * b + c).expand(2, 3, 2, 4), d.expand(2, 3, 3, 4)], -2)",
        "views and nothing": "torch.cat([d, a * b + c], -2)",
    },
    "groupedLinear": {
        "transposed": "torch.einsum('...gd,gdc->...gc', a.unflatten(-1, (2, -1)), b.unflatten(0, (2, -1))).flatten(-2)",
        "views transposed": "torch.einsum('...gd,gdc->...gc', a.unflatten(-1, (2, -1)), b.unflatten(0, (2, -1))).flatten(-2)",
        "": "torch.einsum('...gc,gdc->...gd', a.unflatten(-1, (2, -1)), b.unflatten(0, (2, -1))).flatten(-2)",
    },
    "einsum": "torch.einsum(label, *inputs)",
    "outer": "torch.outer(a, b)",
    "qr": {
        "Q alone": "torch.linalg.qr(well(a))[0].square()",
        "R alone": "torch.linalg.qr(well(a))[1].square() * 0.1",
        "": "side_by_side(torch.linalg.qr(well(a)), 1, 0.1)",
    },
    "svd": {
        "values alone": "torch.linalg.svd(well(a), False)[1]",
        "left alone": "torch.linalg.svd(well(a), False)[0].square()",
        "right alone": "torch.linalg.svd(well(a), False)[2].square()",
        "": "singular(*torch.linalg.svd(well(a), False))",
    },
    "symmetricEigen": {
        "values alone": "torch.linalg.eigh(symmetric(well(a)))[0]",
        "vectors alone": "torch.linalg.eigh(symmetric(well(a)))[1].square()",
        "": "eigen(*torch.linalg.eigh(symmetric(well(a))))",
    },
    "cholesky": "torch.linalg.cholesky(symmetric(well(a)))",
    "solve": "torch.linalg.solve(well(a), b)",
    "determinant": "torch.linalg.det(a)",
    "logDeterminant": {
        "negative": "signed(*torch.linalg.slogdet(well(-a - 10)))",
        "": "signed(*torch.linalg.slogdet(well(a)))",
    },
    "softmax": {"last": "a.softmax(-1)", "first": "a.softmax(0)", "view": "a.softmax(-1)", "": "a.softmax(1)"},
    "logSoftmax": {"last": "a.log_softmax(-1)", "first": "a.log_softmax(0)", "": "a.log_softmax(1)"},
    "layerNorm": "F.layer_norm(a, a.shape[-1:], b, c)",
    "rmsNorm": "F.rms_norm(a, a.shape[-1:], b, eps=1e-6)",
    "groupNorm": "F.group_norm(a, 2, b, c)",
    "batchNorm": "batch_norm(a, b, c)",
    "batchNormInference": "F.batch_norm(a, b.detach(), c.detach(), d, e)",
    "attention": {
        "mask": "F.scaled_dot_product_attention(a, b, c, attn_mask=visible(3, 3, [0, 3, 4]), scale=0.3)",
        "grouped": "F.scaled_dot_product_attention(a, b, c, enable_gqa=True)",
        "shared keys": "F.scaled_dot_product_attention(a, b.repeat_interleave(2, 2), c)",
        "padding and causal": "F.scaled_dot_product_attention(a, b, c, attn_mask=padded_and_causal(), enable_gqa=True)",
        "bias of heads": "F.scaled_dot_product_attention(a, b, c, attn_mask=d, enable_gqa=True)",
        "bias of keys": "F.scaled_dot_product_attention(a, b, c, attn_mask=d, enable_gqa=True)",
        "bias of samples": "F.scaled_dot_product_attention(a, b, c, attn_mask=d, enable_gqa=True)",
        "grouped and masked": "F.scaled_dot_product_attention(a, b, c, attn_mask=hidden_in_places(), enable_gqa=True)",
        "keys are values": "F.scaled_dot_product_attention(a, b, b, enable_gqa=True)",
        "causal": "F.scaled_dot_product_attention(a, b, c, is_causal=True)",
        "bias": "F.scaled_dot_product_attention(a, b, c, attn_mask=d)",
        "": "F.scaled_dot_product_attention(a, b, c)",
    },
    "dropout": "F.dropout(a, 0.0)",
    "crossEntropy": {
        "sequence": "F.cross_entropy(a.flatten(0, 1), b.flatten())",
        "smoothing": "F.cross_entropy(a, b, label_smoothing=0.1)",
        "": "F.cross_entropy(a, b)",
    },
    "softCrossEntropy": {
        "sequence": "F.cross_entropy(a.flatten(0, 1), b.flatten(0, 1))",
        "smoothing": "F.cross_entropy(a, b, label_smoothing=0.1)",
        "": "F.cross_entropy(a, b)",
    },
    "binaryCrossEntropy": losses("F.binary_cross_entropy_with_logits(a, b, reduction='{}')")
    | {
        "positive weight": "F.binary_cross_entropy_with_logits(a, b, "
        "pos_weight=torch.tensor([0.5, 1, 3], dtype=a.dtype))"
    },
    "meanSquaredError": losses("F.mse_loss(a, b, reduction='{}')"),
    "huberLoss": losses("F.huber_loss(a, b, reduction='{}', delta=0.7)"),
    "klDivergence": losses("F.kl_div(a, b, reduction='{}')") | {"log target": "F.kl_div(a, b, log_target=True)"},
    "cosineSimilarity": {"first": "F.cosine_similarity(a, b, 0)", "": "F.cosine_similarity(a, b, -1)"},
    "convolution": {
        "patches": "F.conv2d(a, b, c, 2)",
        "padding and dilation": "F.conv2d(a, b, c, (2, 1), (2, 1), (2, 3))",
        "groups": "F.conv2d(a, b, c, groups=2)",
        "depthwise": "F.conv2d(a, b, c, padding=1, groups=3)",
        "": "F.conv2d(a, b, c)",
    },
    "averagePooling": {
        "padding": "F.avg_pool2d(a, (3, 2), (2, 1), 1)",
        "padding apart": "F.avg_pool2d(a, (3, 2), (2, 1), 1, count_include_pad=False)",
        "": "F.avg_pool2d(a, 2)",
    },
    "maxPooling": {"padding": "F.max_pool2d(a, (3, 2), (2, 1), 1)", "": "F.max_pool2d(a, 2)"},
    "adaptiveAveragePooling": {
        "even": "F.adaptive_avg_pool2d(a, (2, 3))",
        "uneven": "F.adaptive_avg_pool2d(a, (3, 2))",
        "larger": "F.adaptive_avg_pool2d(a, (3, 5))",
        "one": "F.adaptive_avg_pool2d(a, 1)",
        "empty": "F.adaptive_avg_pool2d(a, 2)",
    },
    "bilinearInterpolation": {
        "down": "F.interpolate(a, (2, 4), mode='bilinear')",
        "corners up": "F.interpolate(a, (5, 7), mode='bilinear', align_corners=True)",
        "corners down": "F.interpolate(a, (1, 4), mode='bilinear', align_corners=True)",
        "": "F.interpolate(a, (5, 7), mode='bilinear')",
    },
    "bicubicInterpolation": {
        "down": "F.interpolate(a, (2, 4), mode='bicubic')",
        "one pixel": "F.interpolate(a, (3, 3), mode='bicubic')",
        "": "F.interpolate(a, (5, 7), mode='bicubic')",
    },
    "rotaryEmbedding": {
        "interleaved": "rotated_pairs(a, [0, 1, 5])",
        "heads": "rotated_halves(a, [[[0.5, 1, 2]], [[7, 3, 11]]], 100)",
        "vector": "rotated_halves(a, 3)",
        "": "rotated_halves(a, [0, 1, 5])",
    },
}

OPS = ELEMENTWISE | SHAPE | REST

# Ops without a counterpart, and samples (op, label) that have none: why.
WITHOUT = {
    "gumbelSoftmax": "both draw their own noise; what follows, (x + noise) / τ and softmax, is compared above",
    ("dropout", "half"): "both draw their own elements; the scale and the gradient have tests of their own",
    ("attention", "dropout"): "both draw their own elements",
    ("attention", "bias, causal and dropout"): "both draw their own elements",
    ("attention", "bias of rows"): "it changes nothing; its gradient is 0 but for rounding",
    ("attention", "bias of all"): "it changes nothing; its gradient is 0 but for rounding",
}


def tolerance(op):
    return 1e-9 if op in REST else 1e-12


def evaluated(op, label, inputs):
    """The expression of one sample, and what it gives."""
    table = OPS[op]
    expression = table if isinstance(table, str) else table[label if label in table else ""]
    names = dict(zip("abcde", list(inputs) + [None] * 5))
    return expression, eval(expression, globals(), names | {"inputs": list(inputs), "label": label})


def well(x):
    """Small numbers beside a diagonal of 4, 7, 10, …"""
    rows, columns = x.shape[-2:]
    base = torch.zeros(rows, columns, dtype=x.dtype)
    for i in range(min(rows, columns)):
        base[i, i] = 4 + 3 * i
    return x * 0.5 + base


def symmetric(x):
    return (x + x.mT) / 2


def side_by_side(matrices, *factors):
    return torch.cat([matrix.square().flatten(-2) * factor for matrix, factor in zip(matrices, factors)], -1)


def singular(u, s, vt):
    return torch.cat([u.square().flatten(-2), vt.square().flatten(-2), s * 0.5], -1)


def eigen(values, vectors):
    return torch.cat([values * 0.5, vectors.square().flatten(-2)], -1)


def signed(sign, logarithm):
    return sign * 3 + logarithm


def batch_norm(x, weight, bias):
    axes = [0, *range(2, x.dim())]
    y = F.batch_norm(x, None, None, weight, bias, training=True)
    return torch.cat([y.flatten(), x.mean(axes), x.var(axes, correction=0)])


def visible(rows, columns, places):
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[places] = True
    return mask.reshape(rows, columns)


def hidden_in_places():
    return torch.tensor([i % 5 != 0 and i % 7 != 3 for i in range(24)]).reshape(4, 2, 3)


def padded_and_causal():
    visible = torch.tensor([i % 4 != 1 for i in range(10)]).reshape(2, 1, 1, 5)
    return visible & torch.ones(3, 5, dtype=torch.bool).tril()


def angles(x, positions, base):
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.tensor(positions, dtype=torch.float64)[..., None] * frequencies


def rotated_pairs(x, positions, base=10_000):
    """PyTorch has no rotary embedding, but complex numbers, whose product turns."""
    turn = angles(x, positions, base)
    turn = torch.polar(torch.ones_like(turn), turn)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def rotated_halves(x, positions, base=10_000):
    pairs = x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    return rotated_pairs(pairs, positions, base).unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
