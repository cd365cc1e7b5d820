#!/usr/bin/env python3
"""Compares exported weights and latents of Fovea with the published open_flamingo Perceiver Resampler.

    python3 open_flamingo_check.py --weights W.safetensors --features F.safetensors --latents L.safetensors \
        --heads 4 --dim-head 16

W holds weights that `fovea export --layout open-flamingo` wrote. They are loaded strictly: a missing, unexpected or
differently shaped tensor is an error. F holds `x` [B, N, F, V, D], L holds `latents` [B, N, R, D] as Fovea computed
them. All sizes but the number of heads and their width follow from the weights. Exits 0 when the largest absolute
difference is at most 1e-5, 1 when it is more or when something does not fit.
"""

import argparse
import re
import sys

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from published import perceiver_resampler


def fail(message):
    sys.exit(f"open_flamingo_check: {message}")


def load(path):
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        fail(f"{path}: {error}")


def tensor(path, name, rank):
    tensors = load(path)
    if name not in tensors:
        fail(f"{path}: no tensor '{name}'; it holds {', '.join(sorted(tensors)) or 'nothing'}")
    if tensors[name].dim() != rank:
        fail(f"{path}: '{name}' has shape {list(tensors[name].shape)}, expected rank {rank}")
    return tensors[name]


def configuration(weights, heads, dim_head):
    """The constructor arguments that the shapes of the weights tell."""
    if "latents" not in weights or weights["latents"].dim() != 2:
        fail("the weights have no tensor 'latents' [R, D]")
    num_latents, dim = weights["latents"].shape
    layers = {int(match[1]) for name in weights if (match := re.match(r"layers\.(\d+)\.", name))}
    config = dict(dim=dim, depth=max(layers, default=-1) + 1, dim_head=dim_head, heads=heads, num_latents=num_latents)
    for argument, name in (("max_num_frames", "frame_embs"), ("max_num_media", "media_time_embs")):
        if name in weights:
            config[argument] = weights[name].shape[0]
    if "layers.0.1.1.weight" in weights:
        hidden = weights["layers.0.1.1.weight"].shape[0]
        # The class takes the whole part of dim * ff_mult; half a unit more survives the rounding of the division.
        config["ff_mult"] = hidden // dim if hidden % dim == 0 else (hidden + 0.5) / dim
    return config


def main():
    parser = argparse.ArgumentParser(description="Compares Fovea's resampler with the published open_flamingo class.")
    parser.add_argument("--weights", required=True, help="safetensors, exported with layout open-flamingo")
    parser.add_argument("--features", required=True, help="safetensors with x [B, N, F, V, D]")
    parser.add_argument("--latents", required=True, help="safetensors with latents [B, N, R, D], computed by Fovea")
    parser.add_argument("--heads", required=True, type=int)
    parser.add_argument("--dim-head", required=True, type=int)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32",
                        help="what the published class computes in (default: float32)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest absolute difference (default: 1e-5)")
    arguments = parser.parse_args()

    dtype = getattr(torch, arguments.dtype)
    weights = load(arguments.weights)
    features = tensor(arguments.features, "x", rank=5)
    ours = tensor(arguments.latents, "latents", rank=4)

    config = configuration(weights, arguments.heads, arguments.dim_head)
    print("config   " + ", ".join(f"{name} {value}" for name, value in config.items()))
    module = perceiver_resampler()(**config).eval()
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        fail(f"{arguments.weights}: {error}")
    print(f"weights  {len(weights)} tensors, {sum(w.numel() for w in weights.values()):,} values, loaded strictly")

    try:
        with torch.no_grad():
            published = module.to(dtype)(features.to(dtype))
    except RuntimeError as error:
        fail(f"{arguments.features}: 'x' {list(features.shape)} does not fit the weights: {error}")
    if ours.shape != published.shape:
        fail(f"{arguments.latents}: 'latents' has shape {list(ours.shape)}, the published class gives "
             f"{list(published.shape)}")

    difference = (ours.double() - published.double()).abs().max().item() if ours.numel() else 0.0
    passed = difference <= arguments.tolerance  # a NaN does not pass
    print(f"latents  {list(ours.shape)}, max abs diff {difference:.3e} ({arguments.dtype}), tolerance "
          f"{arguments.tolerance:g}: {'same' if passed else 'DIFFERENT'}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
