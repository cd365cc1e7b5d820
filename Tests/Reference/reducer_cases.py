#!/usr/bin/env python3
"""Compares the token reducers and samplers with their equations on random cases, in float64.

    python3 reducer_cases.py --fovea PATH [--cases N] [--seed S] [--only MODULE]

The equations of `reducer_equations.py` are first held against the stored cases of `Tests/Fixtures`, then `fovea apply`
against them: indices and masks exactly, numbers and gradients as closely as parity cases ask for. A case in which
rounding decides, where two scores differ by less than 1e-12 of their size, is drawn again; equal scores are drawn on
purpose, from numbers whose sums are exact. Prints a line for each difference and exits with 1 if there is one.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy
import torch
from safetensors.torch import load_file, save_file

import cases
from reducer_equations import (
    Undecided,
    cdpruner,
    corners,
    divprune,
    downsample,
    fastv,
    ficoco_l,
    ficoco_v,
    focus_scale,
    focus_text,
    focus_tokens,
    mustdrop_cache,
    mustdrop_filter,
    mustdrop_keys,
    mustdrop_merge,
    padded,
    prumerge,
    pyramiddrop,
    sparsevlm,
    tome,
    visionzip,
)

OUTPUT, GRADIENT = 4e-6, 4e-5
ATTEMPTS = 200


def computed(equations, config, weights, inputs):
    count = len(next(iter(inputs.values())))
    samples = [
        equations(config, weights, **{name: value[b] for name, value in inputs.items()}) for b in range(count)
    ]
    shares = [sample.pop("shares") for sample in samples if "shares" in sample]
    outputs = {name: padded([sample[name] for sample in samples]) for name in samples[0]}
    if shares:
        chosen = outputs["scale"].flatten()
        used = torch.stack([(chosen == s).double().mean() for s in range(len(config["scales"]))])
        outputs["balance_loss"] = (len(used) * (used * torch.cat(shares).mean(0)).sum())[None]
    return outputs


def expected(equations, config, weights, inputs, cotangents=None):
    """Outputs and, for cotangents by the outputs' names, gradients."""
    weights, inputs = (
        {name: value.double().requires_grad_() if value.is_floating_point() else value for name, value in x.items()}
        for x in (weights, inputs)
    )
    outputs = computed(equations, config, weights, inputs)
    values = {name: value.detach() for name, value in outputs.items()}
    if not cotangents:
        return values, {}
    cotangents = cotangents(values) if callable(cotangents) else cotangents
    objective = sum((outputs[name] * value.double()).sum() for name, value in cotangents.items())
    leaves = {name: x for name, x in {**weights, **inputs}.items() if x.is_floating_point()}
    found = [None] * len(leaves)
    if objective.requires_grad:
        found = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found)
    }
    return values, {"cotangents": cotangents, **gradients}


# Random cases


class Draw:
    """Random sizes, options and tensors of one case."""

    def __init__(self, seed, large):
        self.random = numpy.random.default_rng(seed)
        self.large = large
        self.tied = not large and self.chance(0.3)
        self.batch = 1 if large else self.whole(1, 3)
        self.without = set()

    def chance(self, share):
        return self.random.random() < share

    def whole(self, low, high):
        return int(self.random.integers(low, high + 1))

    def pick(self, *choices):
        return choices[self.whole(0, len(choices) - 1)]

    def share(self, *corners):
        return self.pick(*corners) if corners and self.chance(0.3) else round(float(self.random.random()), 3)

    def grid(self):
        if self.large:
            return [40, 23]
        return [self.whole(1, self.pick(3, 6, 12)), self.whole(1, self.pick(3, 5, 9))]

    def count(self):
        return math.prod(self.grid())

    def budget(self, n, least=1):
        return max(least, self.pick(0, 1, n - 1, n, n + 3)) if self.chance(0.25) else self.whole(1, n)

    def width(self):
        return self.pick(1, 4, 4, 16) if self.tied else self.whole(1, 8)

    def heads(self):
        return self.pick(1, 1, 2, 4) if self.tied else self.whole(1, 4)

    def normal(self, *shape):
        return torch.from_numpy(self.random.standard_normal(shape)).float()

    def whole_numbers(self, low, high, *shape):
        return torch.from_numpy(self.random.integers(low, high + 1, shape)).float()

    def mask(self, *shape):
        return torch.from_numpy(self.random.random(shape) < self.share(0.0, 1.0))

    def features(self, *shape):
        """Vectors; where ties are wanted, of signs, whose cosines are exact for widths 1, 4 and 16."""
        if self.tied:
            x = self.whole_numbers(0, 1, *shape) * 2 - 1
            return x * (self.whole_numbers(0, 9, *shape[:-1], 1) > 0) * 2.0 ** self.whole(-2, 2)
        x = self.normal(*shape)
        if self.chance(0.1):
            x = x + 3 * self.normal(shape[-1])
        if self.chance(0.2):  # copies of one vector: their cosines are equal however they are rounded
            copies = torch.from_numpy(self.random.random(shape[-2]) < self.pick(0.2, 0.5, 0.9, 1))
            x[:, copies] = x[:, :1].clone()
        return x

    def attention(self, *shape, hollow=False):
        """Rows after a softmax; multiples of 1/8 where ties are wanted."""
        if self.tied:
            x = self.whole_numbers(0, self.pick(0, 2, 5), *shape) / 8
        else:
            x = (self.pick(0.3, 1, 3) * self.normal(*shape)).softmax(-1)
        if hollow and self.chance(0.1):
            x[torch.from_numpy(self.random.random(shape) < 0.2)] = torch.nan
        return x

    def logits(self, *shape):
        """Rows before a softmax; where ties are wanted, such whose softmax is a power of two or zero."""
        if not self.tied:
            return self.pick(0.3, 1, 3) * self.normal(*shape)
        rows = torch.full((math.prod(shape[:-1]), shape[-1]), -1000.0)
        most = int(math.log2(shape[-1]))
        least = self.whole(0, most)
        for row in rows:
            places = self.random.permutation(shape[-1])
            row[torch.from_numpy(places[:2 ** self.whole(least, most)])] = 0
        return rows.reshape(shape)


def draw_tome(draw):
    n, width = draw.count(), draw.width()
    config = {"r": draw.pick(0, 1, n) if draw.chance(0.3) else draw.whole(1, n), "protect_cls": draw.chance(0.5)}
    if draw.chance(0.3):
        config["protect_distill"] = draw.chance(0.7)
    metric = draw.features(draw.batch, n, width)
    if draw.chance(0.05):
        metric[:, draw.whole(0, n - 1)] = torch.nan
    size = draw.whole_numbers(1, 9, draw.batch, n) * draw.pick(1, 0.3)
    return config, {}, {"x": draw.normal(draw.batch, n, draw.whole(1, 6)), "metric": metric, "size": size}


def draw_fastv(draw):
    n = draw.count()
    attention = draw.attention(draw.batch, draw.heads(), n, hollow=True)
    return {"keep": draw.budget(n)}, {}, {"x": draw.normal(draw.batch, n, 3), "last_row_attention": attention}


def draw_prumerge(draw):
    n = draw.count()
    config = {
        "neighbours": draw.pick(0, 1, n - 1, n, 32) if draw.chance(0.4) else draw.whole(1, n),
        "plus": draw.chance(0.5), "keep": draw.pick(None, draw.budget(n)),
    }
    attention = draw.attention(draw.batch, n)
    if draw.chance(0.3):
        attention[:, draw.whole(0, n - 1)] += 1
    keys = draw.features(draw.batch, n, draw.width())
    x = draw.normal(draw.batch, n, draw.whole(1, 6))
    return config, {}, {"x": x, "keys": keys, "cls_attention": attention}


def draw_visionzip(draw):
    n = draw.count()
    config = {"dominant": draw.budget(1 + n), "contextual": draw.whole(1, draw.pick(2, n))}
    return config, {}, {
        "x": draw.normal(draw.batch, 1 + n, draw.whole(1, 6)), "keys": draw.features(draw.batch, 1 + n, draw.width()),
        "cls_attention": draw.attention(draw.batch, draw.heads(), n, hollow=True),
    }


def draw_sparsevlm(draw):
    n, width = draw.count(), draw.pick(1, 1, 4) if draw.tied else draw.whole(1, 6)
    keep = draw.budget(n)
    if draw.chance(0.4) and not draw.large:  # enough for three clusters and more
        n = draw.whole(70, 160)
        keep = draw.whole(1, n // 6)
    words = draw.pick(1, 2, 4, 8) if draw.tied else draw.whole(1, 7)
    text = (draw.pick(0, 1) if draw.tied else 1) * draw.normal(draw.batch, words, width)
    x = draw.pick(0.3, 1) * draw.normal(draw.batch, n, width)
    if draw.tied:
        x = draw.whole_numbers(*draw.pick((-2, 2), (-2, 2), (0, 1), (1, 1)), draw.batch, n, width)
    attention = draw.attention(draw.batch, draw.heads(), words, n, hollow=True)
    return {"keep": keep, "recycle": draw.chance(0.8)}, {}, {"x": x, "text": text, "attention": attention}


def draw_pyramiddrop(draw):
    n = draw.count()
    logits = draw.logits(draw.batch, draw.heads(), n)
    return {"ratio": draw.share(0, 0.5, 1, 1 / n)}, {}, {"x": draw.normal(draw.batch, n, 3), "query_row_logits": logits}


def draw_divprune(draw):
    n = draw.count()
    keep = draw.whole(1, 60) if draw.large else draw.budget(n)
    return {"keep": keep}, {}, {"x": draw.features(draw.batch, n, draw.width())}


def draw_cdpruner(draw):
    n, width = draw.count(), draw.pick(2, 4, 8) if draw.tied else draw.whole(2, 12)
    theta = draw.pick(None, draw.share(0, 0.5, 0.95))
    x, relevance = draw.normal(draw.batch, n, width), draw.normal(draw.batch, n)
    if draw.tied:
        x = 2.0 ** draw.whole_numbers(-2, 2, draw.batch, n, 1) * torch.eye(width)[
            torch.from_numpy(draw.random.integers(0, width, (draw.batch, n)))]
        relevance = draw.whole_numbers(0, draw.pick(0, 0, 2), draw.batch, n)
        theta = draw.pick(theta, None, 0)
    keep = draw.budget(n)
    if not draw.tied and draw.chance(0.8):
        keep = min(keep, width - 1)
    return {"keep": keep, "theta": theta}, {}, {"x": x, "relevance": relevance}


def draw_mustdrop_merge(draw):
    grid, width = draw.grid(), draw.width()
    threshold = draw.pick(-1, 0, 0.25, 0.5, 1, 1.5) if draw.chance(0.5) else draw.share()
    x = draw.features(draw.batch, math.prod(grid), width)
    if draw.tied:
        alike = torch.from_numpy(draw.random.random(x.shape[:2]) < draw.pick(0, 0.7, 0.9, 1))
        x[alike] = x[0, 0].clone()
    elif draw.chance(0.5):
        x = x + draw.pick(0.5, 1, 2) * draw.normal(width)
    return {"grid": grid, "window": draw.whole(2, 4), "threshold": threshold}, {}, {"x": x}


def draw_mustdrop_keys(draw):
    n, fraction = draw.count(), draw.share(0, 0.08, 0.5, 1)
    mask = draw.mask(draw.batch, n)
    mask[:, draw.whole(0, n - 1)] = True
    if draw.chance(0.3):  # products that are whole but for their rounding
        n, fraction = draw.pick(20, 25, 50, 100), draw.whole(0, 100) / 100
        mask = torch.ones(draw.batch, n, dtype=torch.bool)
    attention = draw.attention(draw.batch, draw.heads(), n, hollow=True)
    return {"fraction": fraction}, {}, {"cls_attention": attention, "mask": mask}


def draw_mustdrop_filter(draw):
    n = draw.count()
    attention = draw.attention(draw.batch, draw.heads(), draw.whole(1, 6), n)
    target = draw.pick(None, draw.budget(n))
    alpha = draw.pick(0.25, 0.5, 0.125) if draw.tied else draw.pick(0.01, 1 / n, round(draw.share() + 1e-3, 4))
    beta = draw.pick(0.125, 0.25, 0.5) if draw.tied else draw.pick(0.01, 1 / n, round(draw.share() + 1e-3, 4))
    if target is None and draw.chance(0.3):
        alpha, beta = draw.pick((1, 1), (0, beta), (alpha, 0), (0, 0))
    if target is not None and (attention.sum((1, 2, 3)) == 0).any():
        raise Undecided
    keys = draw.mask(draw.batch, n) & draw.mask(draw.batch, n)
    return {"alpha": alpha, "beta": beta, "target_count": target}, {}, {"attention": attention, "key_mask": keys}


def draw_mustdrop_cache(draw):
    n, layers = draw.count(), draw.whole(1, 10)
    cuts = sorted(draw.random.permutation(layers)[:draw.whole(1, min(4, layers))].tolist())
    survivors = torch.full((draw.batch, len(cuts), n), -1)
    for sample in survivors:
        left = n
        for row in sample:
            entered, left = left, draw.whole(min(left, draw.pick(0, 1, 1, 1)), left)
            row[:left] = torch.from_numpy(numpy.sort(draw.random.permutation(entered)[:left]))
    config = {
        "layers": layers, "cut_layers": cuts, "system_tokens": draw.whole(0, 3), "visual_tokens": n,
        "text_tokens": draw.whole(0, 4),
    }
    return config, {}, {"survivors": survivors}


def draw_ficoco_v(draw):
    grid, mode = draw.grid(), draw.pick("probabilities", "logits")
    if draw.tied and mode == "logits":
        grid = draw.pick([1, 1], [2, 4], [4, 4], [3, 6], [1, 2])
    places = math.prod(grid)
    n = places if draw.chance(0.6) else draw.whole(1, places)
    if draw.tied and mode == "logits":
        n = 2 ** int(math.log2(n))
    positions = [numpy.sort(draw.random.permutation(places)[:n]) for _ in range(draw.batch)]
    config = {
        "mode": mode, "grid": grid, "remove": draw.budget(n, 0), "lambda": draw.share(0, 0.35, 0.5, 1),
        "c": draw.pick(1.0, 2.0, 3.5, 0.5), "window": draw.pick(1, 2, 2, 3, 5, 20),
        "epsilon": draw.share(0, 1, 0.5, 0.998),
    }
    shape = draw.batch, draw.heads(), 1 + n, 1 + n
    logits = draw.logits(*shape)
    if draw.tied and mode == "logits":
        logits = draw.whole_numbers(*draw.pick((1, 1), (0, 1), (-1, 1), (-2, 2)), *shape)
    x = draw.normal(draw.batch, n, draw.whole(1, 6))
    return config, {}, {"x": x, "logits": logits, "positions": torch.from_numpy(numpy.stack(positions))}


def draw_ficoco_l(draw):
    n, heads = draw.count(), draw.heads()
    words = draw.pick(1, 2, 4) if draw.tied else draw.whole(1, 6)
    if draw.tied:
        n = 2 ** int(math.log2(n))
    beta, gamma = (draw.pick(0, 0.5, 1) if draw.tied else draw.share(0, 0.6, 1) for _ in range(2))
    config = {
        "mode": draw.pick("probabilities", "logits"), "remove": draw.budget(n, 0), "beta": beta, "gamma": gamma,
        "epsilon": draw.share(0, 1, 0.5, 0.998),
    }
    x = draw.normal(draw.batch, n, draw.whole(1, 6))
    visual, text = draw.logits(draw.batch, heads, n, n), draw.logits(draw.batch, heads, words, n)
    return config, {}, {"x": x, "visual_logits": visual, "text_logits": text}


def draw_downsample(draw):
    grid = draw.grid()
    target = [draw.pick(1, size, draw.whole(1, size), size + draw.whole(1, 4)) for size in grid]
    return {"grid": grid, "target": target}, {}, {"x": draw.normal(draw.batch, math.prod(grid), draw.whole(1, 6))}


def scales_of(draw, window):
    sides = [side for side in range(1, window + 1) if window % side == 0]
    return [sides[i] for i in draw.random.permutation(len(sides))[:draw.whole(1, len(sides))]]


def pictures(draw, channels):
    """Patches; where ties are wanted, a power of two of signs: maxima are then equal and have no single gradient."""
    if not draw.tied:
        return draw.normal(draw.batch, *draw.grid(), channels)
    draw.without.add("x")
    grid = [2 ** draw.whole(0, 3) for _ in range(2)]
    return 2 * (draw.normal(draw.batch, *grid, channels) > draw.pick(-1, 0, 1)).float() - 1


def draw_focus_tokens(draw):
    channels, width = (2, 4) if draw.tied else (draw.whole(1, 6), draw.whole(1, 6))
    window, x = draw.pick(1, 2, 3, 4, 6), pictures(draw, channels)
    config = {
        "selection": "tokens", "window": window, "scales": scales_of(draw, window),
        "keep": draw.budget(math.prod(x.shape[1:3])), "norm_eps": draw.pick(1e-5, 1e-2, 1.0),
    }
    names = {
        "norm.weight": [channels], "norm.bias": [channels], "query.weight": [width, channels],
        "key.weight": [width, channels],
    }
    weights = {name: draw.normal(*shape) for name, shape in names.items()}
    if draw.tied:
        config["norm_eps"] = 3.0  # (x - mean) / 2 for two different signs
        weights = {name: draw.whole_numbers(-2, 2, *shape) for name, shape in names.items()}
    return config, weights, {"x": x}


def draw_focus_scale(draw):
    channels, hidden = draw.whole(1, 6), draw.whole(1, 6)
    window = draw.pick(1, 2, 3, 4, 6)
    config = {
        "selection": "scale", "window": window, "scales": scales_of(draw, window), "tau": draw.pick(1.0, 0.3, 5.0),
        "norm_eps": draw.pick(1e-5, 1e-2, 1.0),
    }
    names = {
        "norm.weight": [2 * channels + 1], "norm.bias": [2 * channels + 1], "fc1.weight": [hidden, 2 * channels + 1],
        "fc1.bias": [hidden], "fc2.weight": [len(config["scales"]), hidden], "fc2.bias": [len(config["scales"])],
    }
    weights = {name: draw.normal(*shape) for name, shape in names.items()}
    if draw.tied:
        weights["fc2.weight"] *= 0
        weights["fc2.bias"] = draw.whole_numbers(0, 1, *names["fc2.bias"])
    return config, weights, {"x": draw.normal(draw.batch, *draw.grid(), channels)}


def draw_focus_text(draw):
    n, words = draw.count(), draw.whole(1, 6)
    mask = draw.mask(draw.batch, words)
    mask[:, draw.whole(0, words - 1)] = True
    attention = draw.attention(draw.batch, draw.heads(), words, n, hollow=True)
    return {"keep": draw.budget(n)}, {}, {"x": draw.normal(draw.batch, n, 3), "attention": attention, "text_mask": mask}


# Module and layout: the equations, how a case is drawn, and the outputs that have gradients
MODULES = {
    ("tome", "reference"): (tome, draw_tome, ["tokens", "size_out"]),
    ("fastv", "reference"): (fastv, draw_fastv, ["tokens"]),
    ("prumerge", "reference"): (prumerge, draw_prumerge, ["tokens"]),
    ("visionzip", "reference"): (visionzip, draw_visionzip, ["tokens"]),
    ("sparsevlm", "reference"): (sparsevlm, draw_sparsevlm, ["tokens"]),
    ("pyramiddrop", "reference"): (pyramiddrop, draw_pyramiddrop, []),
    ("divprune", "reference"): (divprune, draw_divprune, []),
    ("cdpruner", "reference"): (cdpruner, draw_cdpruner, []),
    ("mustdrop-merge", "reference"): (mustdrop_merge, draw_mustdrop_merge, ["tokens"]),
    ("mustdrop-keys", "reference"): (mustdrop_keys, draw_mustdrop_keys, []),
    ("mustdrop-filter", "reference"): (mustdrop_filter, draw_mustdrop_filter, []),
    ("mustdrop-cache", "reference"): (mustdrop_cache, draw_mustdrop_cache, []),
    ("ficoco-v", "reference"): (ficoco_v, draw_ficoco_v, ["tokens"]),
    ("ficoco-l", "reference"): (ficoco_l, draw_ficoco_l, ["tokens"]),
    ("downsample", "reference"): (downsample, draw_downsample, ["tokens"]),
    ("focus-vision-sampler", "tokens"): (focus_tokens, draw_focus_tokens, ["tokens"]),
    ("focus-vision-sampler", "scale"): (focus_scale, draw_focus_scale, ["tokens", "balance_loss"]),
    ("focus-text-sampler", "reference"): (focus_text, draw_focus_text, ["tokens"]),
}


# Comparison


def difference(got, want):
    """As parity cases measure it; infinite where shapes, types, indices or masks differ."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return math.inf
    if not want.is_floating_point():
        return 0.0 if torch.equal(got, want) else math.inf
    if want.numel() == 0:
        return 0.0
    error = ((got - want).abs().max() / (1e-3 + want.abs().max())).item()
    return math.inf if math.isnan(error) else error


def differences(got, want, accepted, kind):
    """The worst difference, and a line for each tensor that differs."""
    found, worst = [], 0.0
    for name in sorted(set(got) ^ set(want)):
        found.append(f"{kind} {name} {'is missing' if name in want else 'is not expected'}")
    for name in sorted(set(got) & set(want)):
        error = difference(got[name], want[name])
        worst = max(worst, error)
        if error > accepted:
            found.append(f"{kind} {name} {amount(got[name], want[name], error)}")
    return worst, found


def amount(got, want, error):
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"is {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
    if want.is_floating_point():
        return f"differs by {error:.1e}"
    return f"differs in {int((got != want).sum())} of {want.numel()} places"


class Module:
    def __init__(self, name, layout, fovea, scratch):
        self.name, self.layout, self.fovea, self.scratch = name, layout, fovea, pathlib.Path(scratch)
        self.equations, self.draw, self.outputs = MODULES[name, layout]
        self.agreed = self.differ = self.redrawn = 0
        self.worst = [0.0, 0.0]

    def stored(self):
        """Lines for what the equations give otherwise than a stored case."""
        lines = []
        for folder in sorted(cases.FIXTURES.glob(f"{self.name}.{self.layout}.*")):
            config = json.loads((folder / "case.json").read_text())["config"]
            weights, inputs, want = (load_file(folder / f"{x}.safetensors") for x in ["weights", "inputs", "outputs"])
            weights.pop("_empty", None)
            cotangents = {name.split(".")[1]: value for name, value in inputs.items() if name.startswith("cotangent.")}
            inputs = {name: value for name, value in inputs.items() if not name.startswith("cotangent.")}
            got, gradients = expected(self.equations, config, weights, inputs, cotangents)
            lines += [f"{folder.name}: {line}" for line in differences(got, want, OUTPUT, "output")[1]]
            if cotangents:
                gradients.pop("cotangents")
                want = load_file(folder / "gradients.safetensors")
                lines += [f"{folder.name}: {line}" for line in differences(gradients, want, GRADIENT, "gradient")[1]]
        return lines

    def drawn(self, seed, number):
        """The first case of a seed and number in which rounding does not decide, with what is expected of it."""
        for attempt in range(ATTEMPTS):
            draw = Draw([seed, zlib.crc32(f"{self.name}.{self.layout}".encode()), number, attempt], number == 0)
            try:
                config, weights, inputs = self.draw(draw)

                def cotangents(outputs):
                    return {name: draw.normal(*outputs[name].shape) for name in self.outputs}

                found = expected(self.equations, config, weights, inputs, cotangents if self.outputs else None)
                self.redrawn += attempt
                return (config, weights, inputs), found, draw
            except Undecided:
                continue
        raise SystemExit(f"{self.name}.{self.layout}: no case {number} of seed {seed} in {ATTEMPTS} attempts")

    def run(self, config, weights, inputs, gradients):
        """What the command line gives: outputs and gradients, or the message with which it fails."""
        files = {x: str(self.scratch / f"{x}.safetensors") for x in ["weights", "inputs", "outputs", "gradients"]}
        (self.scratch / "config.json").write_text(json.dumps(config))
        save_file(weights or {"_empty": torch.zeros(0)}, files["weights"])
        save_file({name: value.contiguous() for name, value in inputs.items()}, files["inputs"])
        done = subprocess.run(
            [self.fovea, "apply", self.name, "--layout", self.layout, "--config", str(self.scratch / "config.json"),
             "--weights", files["weights"], "--inputs", files["inputs"], "-o", files["outputs"], "--dtype", "float64"]
            + (["--gradients", files["gradients"]] if gradients else []), capture_output=True, text=True)
        if done.returncode != 0:
            return f"exit code {done.returncode}: {done.stderr.strip()[:300]}"
        return load_file(files["outputs"]), load_file(files["gradients"]) if gradients else {}

    def check(self, seed, number):
        """Lines for what differs in one random case."""
        (config, weights, inputs), (outputs, gradients), draw = self.drawn(seed, number)
        cotangents = gradients.pop("cotangents", {})
        given = {**inputs, **{f"cotangent.{name}": value for name, value in cotangents.items()}}
        got = self.run(config, weights, given, bool(cotangents))
        if isinstance(got, str):
            lines = [got]
        else:
            worst, lines = differences(got[0], outputs, OUTPUT, "output")
            for name in draw.without:
                gradients.pop(name, None), got[1].pop(name, None)
            worse, more = differences(got[1], gradients, GRADIENT, "gradient")
            self.worst, lines = [max(self.worst[0], worst), max(self.worst[1], worse)], lines + more
        self.differ += bool(lines)
        self.agreed += not lines
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        where = f"{self.name}.{self.layout}, seed {seed}, case {number}{', ties' if draw.tied else ''}"
        return [f"{where}, {json.dumps(config)}, {shapes}: {line}" for line in lines]

    def summary(self):
        return (f"{self.name}.{self.layout}: {self.agreed} cases agree, {self.differ} differ, {self.redrawn} drawn "
                f"again; outputs within {self.worst[0]:.0e}, gradients within {self.worst[1]:.0e}")


def main():
    parser = argparse.ArgumentParser(description="Compares the reducers with their equations on random cases.")
    parser.add_argument("--fovea", required=True, help="the command line tool")
    parser.add_argument("--cases", type=int, default=200, help="random cases for each module and layout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="MODULE", help="one module")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [key for key in MODULES if arguments.only in (None, key[0])]
    if not chosen:
        raise SystemExit(f"no module {arguments.only}")
    differ = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, layout in chosen:
            module = Module(name, layout, arguments.fovea, scratch)
            lines = module.stored()
            for line in lines:
                print(f"the equations against the stored case {line}")
            for number in range(arguments.cases):
                found = module.check(arguments.seed, number)
                lines += found
                for line in found:
                    print(line, flush=True)
            print(module.summary(), flush=True)
            differ = differ or bool(lines)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
