#!/usr/bin/env python3
"""Recomputes golden vector G1 with the published open_flamingo class and writes it as a parity case.

    python3 golden_g1.py [--output FOLDER]

G1 is a Perceiver Resampler small enough to follow by hand, whose weights and input follow from a rule:

    tensor k of the order below, element j (row-major):   0.5 * sin(0.37 * j + 1.1 * k)
    input x [1, 2, 2, 2, 4], element j:                   cos(0.21 * j)
    cotangent of the latents, element j:                  cos(0.3 * j)

The script checks the output against the known figures three times: in float64 with the values of the rule, in float64
with the values rounded to float32 (these are what the case stores), and in float32. It writes nothing when one is off.
"""

import argparse
import pathlib
import sys

import torch

from published import FIXTURES, evaluate, perceiver_resampler, write_case

CONFIG = {"dim": 4, "depth": 2, "dim_head": 3, "heads": 2, "num_latents": 3, "max_num_media": 2, "max_num_frames": 2}

LAYER = ["0.norm_media.weight", "0.norm_media.bias", "0.norm_latents.weight", "0.norm_latents.bias", "0.to_q.weight",
         "0.to_kv.weight", "0.to_out.weight", "1.0.weight", "1.0.bias", "1.1.weight", "1.3.weight"]
ORDER = ["latents", "frame_embs", "media_time_embs",
         *(f"layers.{i}.{name}" for i in range(CONFIG["depth"]) for name in LAYER),
         "norm.weight", "norm.bias"]

# The known figures, printed to six decimals.
SHAPE = [1, 2, 3, 4]
SUM = -8.512721
FIRST = [-0.736908, -0.289144, -0.420234, -0.574796]
LAST = [-0.446655, -0.272077]


def cosines(step, *shape):
    return torch.cos(step * torch.arange(torch.Size(shape).numel(), dtype=torch.float64)).reshape(shape)


def weights_of_the_rule():
    shapes = {name: value.shape for name, value in perceiver_resampler()(**CONFIG).state_dict().items()}
    if sorted(shapes) != sorted(ORDER):
        sys.exit(f"golden_g1: the published class has other tensors: {sorted(set(shapes) ^ set(ORDER))}")
    return {
        name: (0.5 * torch.sin(0.37 * torch.arange(shapes[name].numel(), dtype=torch.float64) + 1.1 * k))
        .reshape(shapes[name])
        for k, name in enumerate(ORDER)
    }


def check(title, latents, tolerance):
    values = latents.double().flatten()
    off = max(
        (values[:4] - torch.tensor(FIRST, dtype=torch.float64)).abs().max().item(),
        (values[-2:] - torch.tensor(LAST, dtype=torch.float64)).abs().max().item(),
    )
    off_sum = abs(values.sum().item() - SUM)
    print(f"{title:<34} sum {values.sum().item():.9f}  off by {off_sum:.1e}; first and last values off by {off:.1e}")
    if list(latents.shape) != SHAPE or not off <= tolerance or not off_sum <= tolerance * latents.numel():
        sys.exit(f"golden_g1: {title}: this is not G1")


def main():
    parser = argparse.ArgumentParser(description="Recomputes golden vector G1 and writes it as a parity case.")
    parser.add_argument("--output", type=pathlib.Path, default=FIXTURES / "perceiver-resampler.open-flamingo.g1")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    exact = weights_of_the_rule()
    x = cosines(0.21, 1, 2, 2, 2, 4)
    cotangent = cosines(0.3, *SHAPE)
    check("float64", evaluate(CONFIG, exact, x, cotangent, torch.float64)[0], 6e-7)

    stored = {name: value.float() for name, value in exact.items()}
    stored_case = (CONFIG, stored, x.float(), cotangent.float())
    check("float64, values rounded to float32", evaluate(*stored_case, torch.float64)[0], 1.2e-6)
    check("float32", evaluate(*stored_case, torch.float32)[0], 3e-6)

    write_case(arguments.output, *stored_case)
    print(f"wrote {arguments.output.name}")


if __name__ == "__main__":
    main()
