#!/usr/bin/env python3
"""Finds the picture that LLaVA-OneVision's packing (anyres_max_9, 36 grids of tiles) gives the most tokens.

    python3 anyres_scan.py [--largest 4000] [--step 1]

It goes through all heights and widths up to a limit, with the rules of transformers' `select_best_resolution`,
`unpad_image` and `pack_image_features` written for arrays, and holds them against these functions at some sizes.
"""

import argparse
import math

import numpy as np

TILE, SIDE, MAX_TILES = 384, 27, 9
GRIDS = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7)]


def counts(height, widths):
    """Tokens of pictures of one height and several widths."""
    shown_most = np.full(widths.shape, -1.0)
    wasted_least = np.full(widths.shape, np.inf)
    rows = np.zeros(widths.shape, dtype=np.int64)
    columns = np.zeros(widths.shape, dtype=np.int64)
    for a, b in GRIDS:
        scale = np.minimum(b * TILE / widths, a * TILE / height)
        shown = np.minimum(np.trunc(widths * scale) * np.trunc(height * scale), widths * float(height))
        wasted = a * b * TILE * TILE - shown
        better = (shown > shown_most) | ((shown == shown_most) & (wasted < wasted_least))
        shown_most, wasted_least = np.where(better, shown, shown_most), np.where(better, wasted, wasted_least)
        rows, columns = np.where(better, a, rows), np.where(better, b, columns)
    h, w = rows * SIDE, columns * SIDE
    wide = widths / height > w / h
    kept = np.trunc(np.round(height * (w / widths), 7)).astype(np.int64)
    h_left = np.where(wide, h - 2 * ((h - np.maximum(kept, 1)) // 2), h)
    kept = np.trunc(np.round(widths * (h / height), 7)).astype(np.int64)
    w_left = np.where(wide, w, w - 2 * ((w - np.maximum(kept, 1)) // 2))
    ratio = np.sqrt(h_left * w_left / (MAX_TILES * SIDE**2))
    resize = ratio > 1.1
    h_left = np.where(resize, h_left // ratio, h_left).astype(np.int64)
    w_left = np.where(resize, w_left // ratio, w_left).astype(np.int64)
    return SIDE**2 + h_left * (w_left + 1)


def published(height, width):
    """Tokens of one picture by the functions of transformers, on features without content."""
    import types

    import torch
    from transformers.models.llava_onevision.modeling_llava_onevision import (
        LlavaOnevisionModel, image_size_to_num_patches)
    pinpoints = [[a * TILE, b * TILE] for a, b in GRIDS]
    owner = types.SimpleNamespace(config=types.SimpleNamespace(
        vision_config=types.SimpleNamespace(image_size=TILE, patch_size=14), image_grid_pinpoints=pinpoints))
    crops = image_size_to_num_patches([height, width], pinpoints, TILE)
    _, lengths = LlavaOnevisionModel.pack_image_features(
        owner, [torch.zeros(crops, SIDE**2, 1)], torch.tensor([[height, width]]), image_newline=torch.zeros(1),
        vision_aspect_ratio="anyres_max_9")
    return lengths.item()


def main():
    parser = argparse.ArgumentParser(description="Finds the picture that gets the most tokens.")
    parser.add_argument("--largest", type=int, default=4000, help="the largest height and width")
    parser.add_argument("--step", type=int, default=1, help="pixels from one size to the next")
    arguments = parser.parse_args()
    for height, width in [(384, 384), (500, 700), (1000, 750), (1080, 1920), (2304, 2304), (3000, 400), (100, 2000),
                          (1156, 946), (777, 1333), (31, 1999)]:
        ours = int(counts(height, np.array([float(width)]))[0])
        if ours != published(height, width):
            raise SystemExit(f"{height} × {width}: {ours} tokens here, {published(height, width)} published")
    widths = np.arange(1, arguments.largest + 1, arguments.step, dtype=np.float64)
    best = (0, 0, 0)
    for height in range(1, arguments.largest + 1, arguments.step):
        tokens = counts(height, widths)
        place = int(tokens.argmax())
        best = max(best, (int(tokens[place]), height, int(widths[place])))
    print(f"{best[0]} tokens at most, of {len(widths) ** 2:,} sizes up to {arguments.largest}: {best[1]} × {best[2]}")


if __name__ == "__main__":
    main()
