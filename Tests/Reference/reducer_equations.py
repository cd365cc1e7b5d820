"""The equations of the token reducers and samplers, for one sample at a time and for clarity alone, in float64.

`reducer_cases.py` holds `fovea apply` against them. Where rounding decides, or the equations leave something open,
`Undecided` is raised.
"""

import collections
import itertools
import math

import torch

CLOSE = 1e-12


class Undecided(Exception):
    """Rounding decides in this case, or the equations leave it open."""


# Decisions


def apart(values, bound, scale=0.0):
    """Refuses values that are not equal to the bound, but so close that rounding decides on which side they are."""
    gap = (values - bound).abs()
    size = torch.maximum(torch.maximum(values.abs(), bound.abs()), torch.as_tensor(scale, dtype=values.dtype))
    if ((gap > 0) & gap.isfinite() & (gap <= CLOSE * size)).any():
        raise Undecided


def fixed(scores):
    return torch.where(scores.isnan(), -torch.inf, scores).detach()


def ranked(scores):
    """Indices by descending score, then ascending index."""
    return torch.sort(fixed(scores), descending=True, stable=True).indices


def clamped(count, least, most):
    return max(least, min(count, most))


def top(scores, count, scale=0.0):
    """The first of the ranking, ascending."""
    scores, order = fixed(scores), ranked(scores)
    count = clamped(count, 1, len(scores))
    if count < len(scores):
        apart(scores, scores[order[count - 1]], scale)
        apart(scores, scores[order[count]], scale)
    return order[:count].sort().values


def first(scores, scale=0.0):
    """The argmax."""
    scores = fixed(scores)
    apart(scores, scores.max(), scale)
    return ranked(scores)[0].item()


def rest(count, taken):
    mask = torch.ones(count, dtype=torch.bool)
    mask[taken] = False
    return mask.nonzero().flatten()


def cosine(a, b, floor=1e-12):
    """[n, d] and [m, d]: [n, m]. Summed in one order for all pairs, so that a matrix with itself is symmetric."""
    a, b = (x.detach() / x.detach().norm(dim=-1, keepdim=True).clamp_min(floor) for x in (a, b))
    return (a[:, None] * b[None]).sum(-1)


def place(share, count):
    """Where a quantile lies between sorted numbers: (index, fraction)."""
    position = share * (count - 1)
    if 0 < abs(position - round(position)) < 1e-9:
        raise Undecided
    return math.floor(position), position - math.floor(position)


def quantile(values, share):
    """Along the last axis, with linear interpolation."""
    values = values.detach().sort(-1).values
    low, fraction = place(share, values.shape[-1])
    high = min(low + 1, values.shape[-1] - 1)
    return values[..., low] + (values[..., high] - values[..., low]) * fraction


def padded(tensors):
    """Stacks tensors of different lengths: indices are padded with -1, others with zeros."""
    shape = [max(sizes) for sizes in zip(*(x.shape for x in tensors))]
    fill = -1 if tensors[0].dtype == torch.int64 else 0
    rows = []
    for x in tensors:
        pad = [size for have, want in zip(reversed(x.shape), reversed(shape)) for size in (0, want - have)]
        rows.append(torch.nn.functional.pad(x, pad, value=fill))
    return torch.stack(rows)


# The equations: of a configuration, weights and the inputs of one sample, the outputs of that sample


def tome(config, weights, x, metric, size):
    distill = config.get("protect_distill", False)
    n = len(x)
    count = min(config["r"], (n - config["protect_cls"] - distill) // 2)
    if count <= 0:
        return {"tokens": x, "size_out": size}
    a, b = torch.arange(0, n, 2), torch.arange(1, n, 2)
    similarity = fixed(cosine(metric[a], metric[b]))
    if distill:
        similarity[:, 0] = -torch.inf
    best = torch.tensor([first(row, 1.0) for row in similarity])
    score = similarity.max(-1).values
    # Whatever the others are, the class token is none of them.
    skipped = int(config["protect_cls"])
    sources = skipped + top(score[skipped:], count, 1.0)
    left = a[rest(len(a), sources)]
    target, sources = best[sources], a[sources]
    total = size[b].index_add(0, target, size[sources])
    sums = (size[b, None] * x[b]).index_add(0, target, size[sources, None] * x[sources])
    return {"tokens": torch.cat([x[left], sums / total[:, None]]), "size_out": torch.cat([size[left], total])}


def fastv(config, weights, x, last_row_attention):
    kept = top(last_row_attention.mean(0), config["keep"])
    return {"kept": kept, "tokens": x[kept]}


def prumerge(config, weights, x, keys, cls_attention):
    n, a = len(x), cls_attention
    if config["keep"] is not None:
        count = config["keep"]
    else:
        low, high = quantile(a, 0.25), quantile(a, 0.75)
        bound = high + 1.5 * (high - low)
        apart(a.detach(), bound)
        count = int((a > bound).sum())
    count = clamped(count, 1, n)
    kept = set(top(a, count).tolist())
    if config["plus"]:
        kept |= set(range(0, n - 1, max(1, n // count // 3)))
    if count == n or len(kept) == n:
        return {"tokens": x, "mask": torch.ones(n, dtype=torch.bool)}
    kept = torch.tensor(sorted(kept))
    tokens = [x[i] + around(i, n, keys, config["neighbours"], a, x) for i in kept.tolist()]
    dropped = rest(n, kept)
    tokens.append((a[dropped, None] * x[dropped]).sum(0))
    return {"tokens": torch.stack(tokens), "mask": torch.ones(len(tokens), dtype=torch.bool)}


def around(i, n, keys, count, a, x):
    """The weighted sum of the tokens with the keys most similar to that of token i."""
    others = rest(n, torch.tensor([i]))
    if count < 1:
        return torch.zeros_like(x[i])
    near = others[top(cosine(keys[i:i + 1], keys[others])[0], count, 1.0)]
    return (a[near, None] * x[near]).sum(0)


def visionzip(config, weights, x, keys, cls_attention):
    n, count = len(x) - 1, config["contextual"]
    dominant = clamped(config["dominant"], 1, 1 + n)
    if dominant + count >= 1 + n:
        return {"tokens": x}
    kept = torch.tensor([0])
    if dominant > 1:
        kept = torch.cat([kept, 1 + top(cls_attention.sum(0), dominant - 1)])
    others = rest(1 + n, kept)
    targets = others[::max(1, len(others) // count)][:count]
    groups = collections.defaultdict(list)
    for i in others.tolist():
        if i not in targets:
            groups[first(cosine(keys[i:i + 1], keys[targets])[0], 1.0)].append(i)
    contextual = [x[t] + (x[groups[k]].mean(0) if groups[k] else 0) for k, t in enumerate(targets.tolist())]
    return {"tokens": torch.cat([x[kept], torch.stack(contextual)])}


def sparsevlm(config, weights, x, text, attention):
    relevance = (x @ text.T).detach().softmax(-1).mean(0)
    apart(relevance, relevance.mean())
    raters = relevance > relevance.mean()
    if len(relevance) == 1 or not raters.any():
        raters[:] = True
    score = attention[:, raters].mean((0, 1))
    n = len(x)
    kept = top(score, config["keep"])
    if len(kept) == n or not config["recycle"]:
        return {"kept": kept, "tokens": x[kept]}
    dropped = rest(n, kept)
    recycled = dropped[top(score[dropped], min(len(dropped), 3 * len(dropped) // 10 + 1))]
    return {"kept": kept, "tokens": torch.cat([x[kept], clustered(x[recycled])])}


def clustered(z):
    """The means of clusters around peaks of density."""
    q, count = len(z), len(z) // 10 + 1
    values = z.detach()
    distance = torch.stack([(row - values).square().sum(-1).sqrt() for row in values]) / z.shape[-1] ** 0.5
    density = (-distance.sort(-1).values[:, :min(count, q)].square().mean(-1)).exp()
    for i in range(q):
        apart(density, density[i])
    earlier = torch.arange(q)[None] < torch.arange(q)[:, None]
    denser = (density[None] > density[:, None]) | ((density[None] == density[:, None]) & earlier)
    separation = torch.where(denser, distance, torch.inf).min(-1).values
    separation = torch.where(denser.any(-1), separation, distance.max())
    centres = top(separation * density, count)
    members = torch.tensor([first(-row[centres]) for row in distance])
    members[centres] = torch.arange(count)
    return torch.stack([z[members == k].mean(0) for k in range(count)])


def pyramiddrop(config, weights, x, query_row_logits):
    return {"kept": top(query_row_logits.softmax(-1).mean(0), math.floor(config["ratio"] * len(x)))}


def divprune(config, weights, x):
    n = len(x)
    if config["keep"] >= n:
        return {"kept": torch.arange(n)}
    distance = 1 - cosine(x, x, 1e-6)
    nearest = distance.clone().fill_diagonal_(torch.inf).min(-1).values
    picked = [first(nearest, 1.0)]
    while len(picked) < config["keep"]:
        nearest = distance[:, picked].min(-1).values
        nearest[picked] = -torch.inf
        picked.append(first(nearest, 1.0))
    return {"kept": torch.tensor(sorted(picked))}


def cdpruner(config, weights, x, relevance):
    n, theta = len(x), config["theta"]
    if config["keep"] >= n:
        return {"kept": torch.arange(n)}
    low, high = relevance.min(), relevance.max()
    r = torch.ones(n, dtype=x.dtype) if low == high else (relevance.detach() - low + 1e-6) / (high - low)
    if theta is not None:
        r = (theta / (2 * (1 - theta)) * r).exp()
    similarity = cosine(x, x, 1e-6)
    # A cosine with itself is 1, but for rounding and for what has no direction.
    similarity.diagonal()[similarity.diagonal().sub(1).abs() < 1e-9] = 1
    kernel = r[:, None] * similarity * r[None]
    exact = ((kernel == 0) | (kernel == 1)).all()
    gains, rows, picked = kernel.diag().clone(), [], []
    for _ in range(config["keep"]):
        open_gains = gains.clone()
        open_gains[picked] = -torch.inf
        j = ranked(open_gains)[0].item()
        apart(open_gains, open_gains[j], torch.maximum(kernel.diag(), kernel[j, j]))
        if not exact and gains[j] <= CLOSE * kernel[j, j]:
            raise Undecided
        row = (kernel[j] - sum(c[j] * c for c in rows)) / gains[j].clamp_min(1e-12).sqrt()
        rows.append(row)
        gains = gains - row.square()
        picked.append(j)
    return {"kept": torch.tensor(sorted(picked))}


def mustdrop_merge(config, weights, x):
    (height, width), w = config["grid"], config["window"]
    grid = torch.arange(height * width).reshape(height, width)
    found = {i: (x[i], 1.0) for i in range(height * width)}
    for row, column in itertools.product(range(0, height - w + 1, w), range(0, width - w + 1, w)):
        window = grid[row:row + w, column:column + w].flatten()
        cosines = cosine(x[window], x[window])
        similarity = cosines[~torch.eye(w * w, dtype=torch.bool)].mean()
        apart(similarity, torch.as_tensor(config["threshold"], dtype=x.dtype), 1.0)
        if similarity >= config["threshold"]:
            for i in window.tolist():
                del found[i]
            found[grid[row + w // 2, column + w // 2].item()] = (x[window].mean(0), float(w * w))
    positions = sorted(found)
    return {
        "tokens": torch.stack([found[i][0] for i in positions]), "mask": torch.ones(len(positions), dtype=torch.bool),
        "positions": torch.tensor(positions), "size": torch.tensor([found[i][1] for i in positions], dtype=x.dtype),
    }


def mustdrop_keys(config, weights, cls_attention, mask):
    valid = mask.nonzero().flatten()
    count = math.ceil(config["fraction"] * len(valid) - 1e-9)
    keys = valid[top(cls_attention.mean(0)[valid], count)]
    key_mask = torch.zeros_like(mask)
    key_mask[keys] = True
    return {"keys": keys, "key_mask": key_mask}


def mustdrop_filter(config, weights, attention, key_mask):
    mean = attention.detach().mean(0)
    received, most = mean.sum(0), mean.max(0).values
    share = config["alpha"] * received.sum()
    beta = torch.as_tensor(config["beta"], dtype=mean.dtype)
    if config["target_count"] is None:
        apart(received, share)
        apart(most, beta)
        return {"keep": ~((received < share) & (most < beta) & ~key_mask)}
    keep, others = key_mask.clone(), (~key_mask).nonzero().flatten()
    count = clamped(config["target_count"], 1, len(key_mask)) - int(key_mask.sum())
    if count > 0:
        keep[others[top(torch.maximum(received / share, most / beta)[others], count)]] = True
    return {"keep": keep}


def mustdrop_cache(config, weights, survivors):
    system, text, cuts = config["system_tokens"], config["text_tokens"], config["cut_layers"]
    lists = [row[row >= 0] for row in survivors]
    visual = [config["visual_tokens"], *map(len, lists)]
    layers = []
    for layer in range(config["layers"]):
        stage = sum(cut < layer for cut in cuts)
        kept = torch.arange(visual[stage])
        if layer >= cuts[0]:
            for survived in lists[stage:]:
                kept = kept[survived]
        behind = system + visual[stage]
        layers.append(torch.cat([torch.arange(system), system + kept, torch.arange(behind, behind + text)]))
    return {"indices": padded(layers)}


def ficoco_v(config, weights, x, logits, positions):
    share, ratio = config["lambda"], config["mode"] == "probabilities"
    a = (logits.softmax(-1) if ratio else logits).mean(0)
    patches = a[1:, 1:]
    v, cls = patches.detach().mean(0 if ratio else 1), a[0, 1:].detach()
    if v.norm() == 0 or cls.norm() == 0:
        raise Undecided
    terms = share * v / v.norm(), (1 - share) * cls / cls.norm()
    score, scale = terms[0] - terms[1], max(term.abs().max().item() for term in terms)
    apart(score, torch.zeros_like(score), scale)
    width, w = config["grid"][1], config["window"]
    windows = collections.defaultdict(list)
    for i, cell in enumerate(positions.tolist()):
        windows[cell // width // w, cell % width // w].append(i)
    for members in windows.values():
        i = members[first(score[members], scale)]
        score[i] = score[i] * config["c"] if score[i] > 0 else score[i] / config["c"]
    return absorbed(x, score, patches, config, ratio, scale * max(1.0, config["c"]))


def ficoco_l(config, weights, x, visual_logits, text_logits):
    ratio = config.get("mode", "probabilities") == "probabilities"
    visual, text = ((logits.softmax(-1) if ratio else logits).mean(0) for logits in (visual_logits, text_logits))
    beta, gamma = config["beta"], config["gamma"]
    seen, asked = visual.detach().mean(0 if ratio else 1), text.detach().mean(0)
    if not ratio:
        if seen.norm() == 0 or asked.norm() == 0:
            raise Undecided
        seen, asked = seen / seen.norm(), asked / asked.norm()
    terms = beta * seen, (1 - beta) * asked
    correlation = gamma * visual + (1 - gamma) / len(text) * text.T @ text
    scale = max(term.abs().max().item() for term in terms)
    return absorbed(x, terms[0] - terms[1], correlation, config, ratio, scale)


def absorbed(x, score, correlation, config, ratio, scale):
    """The tokens of the highest scores go into those of the others that they are correlated with."""
    n = len(x)
    count = clamped(config["remove"], 0, n - 1)
    if count == 0:
        return {"tokens": x, "kept": torch.arange(n)}
    sources = top(score, count, scale)
    kept = rest(n, sources)
    rows = correlation[sources][:, kept]
    bound = quantile(rows, config["epsilon"])[:, None]
    apart(rows.detach(), bound, rows.detach().abs().max())
    share = (rows if ratio else rows.softmax(-1)) * (rows >= bound)
    if (share.sum(-1) == 0).any():
        raise Undecided
    share = share / share.sum(-1, keepdim=True)
    return {"tokens": (x[kept] + share.T @ x[sources]) / (1 + share.sum(0)[:, None]), "kept": kept}


def downsample(config, weights, x):
    (height, width), (h, w) = config["grid"], config["target"]
    grid = x.reshape(height, width, -1)
    rows, columns = (
        [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in [(height, h), (width, w)]
    )
    return {"tokens": torch.stack([grid[r, c].mean((0, 1)) for r in rows for c in columns])}


def cells(top_row, left, window, side):
    """The cells of a window, each with the places of its patches, which may lie outside of the raster."""
    for row, column in itertools.product(range(0, window, side), repeat=2):
        places = itertools.product(range(side), repeat=2)
        yield [(top_row + row + r, left + column + c) for r, c in places]


def real(places, height, width):
    return [(r, c) for r, c in places if r < height and c < width]


def corners(height, width, window):
    return itertools.product(range(0, height, window), range(0, width, window))


def maximum(x, places):
    return torch.stack([x[r, c] for r, c in places]).amax(0)


def centre(places):
    return [sum(place[k] for place in places) / len(places) for k in range(2)]


def layer_norm(x, weights, epsilon):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weights["norm.weight"] + weights["norm.bias"]


def described(places, like):
    positions = torch.tensor([centre(p) for p in places], dtype=like.dtype)
    return {"positions": positions, "size": torch.tensor([float(len(p)) for p in places], dtype=like.dtype)}


def focus_tokens(config, weights, x):
    height, width, channels = x.shape
    candidates = [
        places for row, column in corners(height, width, config["window"]) for side in config["scales"]
        for cell in cells(row, column, config["window"], side)
        if (places := real(cell, height, width))
    ]
    tokens = torch.stack([maximum(x, places) for places in candidates])
    queries = layer_norm(tokens, weights, config["norm_eps"]) @ weights["query.weight"].T
    keys = layer_norm(x.reshape(-1, channels), weights, config["norm_eps"]) @ weights["key.weight"].T
    logits = (queries[:, None] * keys[None]).sum(-1).mean(-1) / keys.shape[-1] ** 0.5
    gate = logits.softmax(0)
    kept = top(gate, config["keep"])
    factor = 1 + gate - gate.detach()
    chosen = [candidates[i] for i in kept.tolist()]
    return {"tokens": tokens[kept] * factor[kept, None], "kept": kept, **described(chosen, x)}


def focus_scale(config, weights, x):
    height, width, _ = x.shape
    window, scales = config["window"], config["scales"]
    tokens, places, choices, shares = [], [], [], []
    for row, column in corners(height, width, window):
        p = routed(config, weights, x, row, column)
        apart(p.detach(), p.detach().max())
        choice = max((s for s in range(len(scales)) if p[s] == p.max()), key=lambda s: scales[s])
        for cell in cells(row, column, window, scales[choice]):
            if inside := real(cell, height, width):
                tokens.append(maximum(x, inside) * (p[choice] / p[choice].detach()))
                places.append(inside)
        choices.append(choice)
        shares.append(p)
    scale = torch.tensor(choices).reshape(-1, -(-width // window))
    mask = torch.ones(len(tokens), dtype=torch.bool)
    found = {"tokens": torch.stack(tokens), "mask": mask, "scale": scale, "shares": torch.stack(shares)}
    return {**found, **described(places, x)}


def routed(config, weights, x, row, column):
    """The probabilities of the scales for one block."""
    (height, width, _), side = x.shape, max(config["scales"])
    window = config["window"]
    rows = (row + torch.arange(window)).clamp_max(height - 1)
    columns = (column + torch.arange(window)).clamp_max(width - 1)
    block = x[rows][:, columns]
    pooled = torch.stack([maximum(block, cell) for cell in cells(0, 0, window, side)])
    pooled = pooled.reshape(window // side, window // side, -1)
    up = pooled.repeat_interleave(side, 0).repeat_interleave(side, 1)
    features = torch.cat([block.mean((0, 1)), x.mean((0, 1)), (block - up).abs().mean()[None]])
    hidden = layer_norm(features, weights, config["norm_eps"]) @ weights["fc1.weight"].T + weights["fc1.bias"]
    z = torch.nn.functional.gelu(hidden) @ weights["fc2.weight"].T + weights["fc2.bias"]
    return (z / config["tau"]).softmax(-1)


def focus_text(config, weights, x, attention, text_mask):
    kept = top(attention[:, text_mask].mean((0, 1)), config["keep"])
    return {"kept": kept, "tokens": x[kept]}


# Batches
