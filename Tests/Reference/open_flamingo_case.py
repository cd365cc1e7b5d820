#!/usr/bin/env python3
"""Writes the parity case `perceiver-resampler.open-flamingo.b`: random weights in the published open_flamingo class.

    python3 open_flamingo_case.py [--output FOLDER]

It has what the other cases leave out: frame and media embeddings with more rows than the input has frames and media
(the unused rows get a gradient of zero), heads whose total width is not that of the model, several pictures, and a
feed-forward layer of another width. Seed 1.
"""

import argparse
import pathlib

import torch

from published import FIXTURES, perceiver_resampler, write_case

CONFIG = {"dim": 12, "depth": 1, "dim_head": 5, "heads": 2, "num_latents": 3, "max_num_media": 4, "max_num_frames": 3,
          "ff_mult": 2}
BATCH, MEDIA, FRAMES, PATCHES = 2, 3, 2, 5


def main():
    parser = argparse.ArgumentParser(description="Writes a parity case with random weights.")
    parser.add_argument("--output", type=pathlib.Path, default=FIXTURES / "perceiver-resampler.open-flamingo.b")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    weights = {}
    for name, value in perceiver_resampler()(**CONFIG).state_dict().items():
        if value.dim() == 1:
            # Norms: away from one and zero, so that a forgotten scale or shift shows.
            weights[name] = (1.0 if name.endswith(".weight") else 0.0) + 0.3 * normal(*value.shape)
        elif name.endswith(".weight"):
            weights[name] = normal(*value.shape) / value.shape[1] ** 0.5
        else:
            weights[name] = normal(*value.shape)

    x = normal(BATCH, MEDIA, FRAMES, PATCHES, CONFIG["dim"])
    cotangent = normal(BATCH, MEDIA, CONFIG["num_latents"], CONFIG["dim"])
    latents = write_case(arguments.output, CONFIG, weights, x, cotangent)
    print(f"wrote {arguments.output.name}: latents {list(latents.shape)}, sum {latents.sum().item():.9f}")


if __name__ == "__main__":
    main()
