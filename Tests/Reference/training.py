#!/usr/bin/env python3
"""Trains CompressorClassifier for ten steps in plain PyTorch and stores what happens.

    python3 training.py [--output FOLDER]

An encoder, a resampler and a classifier with fixed weights, on fixed pictures: cross-entropy with label smoothing, the
gradients clipped to a norm, AdamW with a warm-up and a cosine. `training.safetensors` holds

    images.<batch>, labels.<batch>        batches 0 ... 2, taken in turn
    start.<parameter>                     float32: both runs begin with the same numbers
    float64.losses, float64.norms         [10], the norms before clipping
    float64.gradient.<parameter>          of the first step, before clipping
    float64.<step>.<parameter>            after the steps 1 and 10
    float32.losses, float32.10.<parameter>, …

Parameters have the paths that Fovea gives them. The sizes stand in SIZES and in the test that reads the file.
"""

import argparse
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from published import FIXTURES

STEPS, BATCHES, BATCH = 10, 3, 6
SIZES = {"image": 8, "patch": 2, "classes": 5, "width": 12, "depth": 2, "heads": 2, "latents": 3, "layers": 2}
PEAK, WARMUP, TOTAL, DECAY, CLIP, SMOOTHING = 0.02, 3, 12, 0.1, 1.0, 0.1

# Neither norms nor biases decay, nor what is learned in place of a token.
SPARED = ("latents", "positions")


def shapes():
    s = SIZES
    width, patches = s["width"], (s["image"] // s["patch"]) ** 2

    def linear(path, inputs, outputs, bias=True):
        return {f"{path}.weight": (outputs, inputs)} | ({f"{path}.bias": (outputs,)} if bias else {})

    def norm(path):
        return {f"{path}.weight": (width,), f"{path}.bias": (width,)}

    def attention(path, bias):
        found = {}
        for part in ("query", "key", "value", "output"):
            found |= linear(f"{path}.{part}", width, width, bias)
        return found

    def mlp(path, bias):
        return linear(f"{path}.expand", width, 4 * width, bias) | linear(f"{path}.contract", 4 * width, width, bias)

    found = {"patches.weight": (width, 1, s["patch"], s["patch"]), "patches.bias": (width,)}
    found |= {"patches.positions": (patches, width)}
    for i in range(s["depth"]):
        block = f"encoder.{i}"
        found |= norm(f"{block}.attentionNorm") | attention(f"{block}.attention", True)
        found |= norm(f"{block}.mlpNorm") | mlp(f"{block}.mlp", True)
    found |= norm("encoderNorm") | {"compressor.latents": (s["latents"], width)}
    for i in range(s["layers"]):
        layer = f"compressor.layers.{i}"
        found |= norm(f"{layer}.mediaNorm") | norm(f"{layer}.latentNorm") | attention(f"{layer}.attention", False)
        found |= norm(f"{layer}.feedForwardNorm") | mlp(f"{layer}.feedForward", False)
    return found | norm("compressor.norm") | linear("classifier", s["latents"] * width, s["classes"])


class Model:
    """The model over a table of parameters."""

    def __init__(self, parameters):
        self.p = parameters

    def linear(self, path, x):
        return F.linear(x, self.p[f"{path}.weight"], self.p.get(f"{path}.bias"))

    def norm(self, path, x):
        return F.layer_norm(x, x.shape[-1:], self.p[f"{path}.weight"], self.p[f"{path}.bias"])

    def attention(self, path, x, context):
        def heads(part, of):
            return self.linear(f"{path}.{part}", of).unflatten(-1, (SIZES["heads"], -1)).transpose(1, 2)

        q, k, v = heads("query", x), heads("key", context), heads("value", context)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.linear(f"{path}.output", (weights @ v).transpose(1, 2).flatten(-2))

    def mlp(self, path, x):
        return self.linear(f"{path}.contract", F.gelu(self.linear(f"{path}.expand", x)))

    def __call__(self, images):
        # The projection of patches is a convolution whose kernel and stride are the patch.
        x = F.conv2d(images, self.p["patches.weight"], self.p["patches.bias"], stride=SIZES["patch"])
        x = x.flatten(2).mT + self.p["patches.positions"]
        for i in range(SIZES["depth"]):
            block = f"encoder.{i}"
            normal = self.norm(f"{block}.attentionNorm", x)
            x = x + self.attention(f"{block}.attention", normal, normal)
            x = x + self.mlp(f"{block}.mlp", self.norm(f"{block}.mlpNorm", x))
        x = self.norm("encoderNorm", x)
        z = self.p["compressor.latents"].expand(len(x), -1, -1)
        for i in range(SIZES["layers"]):
            layer = f"compressor.layers.{i}"
            queries = self.norm(f"{layer}.latentNorm", z)
            context = torch.cat([self.norm(f"{layer}.mediaNorm", x), queries], 1)
            z = z + self.attention(f"{layer}.attention", queries, context)
            z = z + self.mlp(f"{layer}.feedForward", self.norm(f"{layer}.feedForwardNorm", z))
        return self.linear("classifier", self.norm("compressor.norm", z).flatten(1))


def started():
    """Weights large enough that every part of the model matters, and norms away from 1 and 0."""
    weights = {}
    for path, shape in shapes().items():
        noise = torch.randn(shape)
        if "orm." in path:
            weights[path] = 0.2 * noise + (1 if path.endswith("weight") else 0)
        else:
            weights[path] = noise / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * noise
    return weights


def train(weights, batches, dtype):
    """The run in one type: what the file's head says."""
    name = str(dtype).removeprefix("torch.")
    parameters = {path: torch.nn.Parameter(value.to(dtype, copy=True)) for path, value in weights.items()}
    model = Model(parameters)

    def decays(path, parameter):
        return parameter.dim() > 1 and not path.endswith(SPARED)

    groups = [
        {"params": [p for path, p in parameters.items() if decays(path, p)], "weight_decay": DECAY},
        {"params": [p for path, p in parameters.items() if not decays(path, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, foreach=False)
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP, 1, WARMUP - 1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL - WARMUP)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [WARMUP])
    losses, norms, stored = [], [], {}
    for step in range(STEPS):
        images, labels = batches[step % BATCHES]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(dtype)), labels, label_smoothing=SMOOTHING)
        loss.backward()
        if step == 0:
            stored |= {f"{name}.gradient.{path}": p.grad.clone() for path, p in parameters.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP))
        losses.append(loss.detach())
        optimizer.step()
        schedule.step()
        if step + 1 in (1, STEPS):
            stored |= {f"{name}.{step + 1}.{path}": p.detach().clone() for path, p in parameters.items()}
    return stored | {f"{name}.losses": torch.stack(losses), f"{name}.norms": torch.stack(norms)}


def main():
    parser = argparse.ArgumentParser(description="Trains CompressorClassifier in plain PyTorch.")
    parser.add_argument("--output", type=pathlib.Path, default=FIXTURES / "training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weights = started()
    size = SIZES["image"]
    batches = [(torch.rand(BATCH, 1, size, size), torch.randint(SIZES["classes"], (BATCH,))) for _ in range(BATCHES)]
    tensors = {f"start.{path}": value for path, value in weights.items()}
    for i, (images, labels) in enumerate(batches):
        tensors |= {f"images.{i}": images, f"labels.{i}": labels}
    for dtype in (torch.float64, torch.float32):
        tensors |= train(weights, batches, dtype)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "training.safetensors"
    save_file(tensors, path, metadata={"torch": torch.__version__})
    print(f"wrote {path}; losses {[round(x, 4) for x in tensors['float64.losses'].tolist()]}")
    print(f"norms {[round(x, 3) for x in tensors['float64.norms'].tolist()]}")


if __name__ == "__main__":
    main()
