#!/usr/bin/env python3
"""Loads weights that Fovea exported strictly into the published classes and compares the outputs.

    python3 raster_classes.py --fovea PATH [--write ../../docs/published-raster-classes.md] [NAME …]

For each class: random weights go through `fovea apply`, which computes outputs and writes the weights again
(`--export`). That file must hold the same bytes for each tensor and load strictly into the published class, which must
compute the same outputs. One function for each class; each yields what `compare` takes. A row is a class; the page is
the table of all rows.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import types

import torch
from safetensors.torch import load_file, save_file

import cases

# Largest |got − want| / (1e-3 + max|want|) that passes: outputs in float32.
TOLERANCE = 2e-5


def patch_merger():
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger
    config = {"dim": 24, "context_dim": 16, "spatial_merge_size": 2}
    normal = cases.numbers(1)
    yield "qwen2_vl `PatchMerger`", "patch-merger", "qwen2-vl", config, PatchMerger(**config), {"x": normal(32, 16)}, None


def patch_merger_2_5():
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
    config = {"dim": 24, "context_dim": 16, "spatial_merge_size": 2}
    normal = cases.numbers(2)
    yield ("qwen2_5_vl `Qwen2_5_VLPatchMerger`", "patch-merger", "qwen2.5-vl", config, Qwen2_5_VLPatchMerger(**config),
           {"x": normal(32, 16)}, None)


def llava_projector():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
    module = LlavaMultiModalProjector(LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=24, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=32, num_attention_heads=2)))
    normal = cases.numbers(3)
    yield ("llava `LlavaMultiModalProjector`", "mlp-projector", "llava-hf", {}, module,
           {"image_features": normal(2, 49, 24)}, None)


def internvl_projector():
    from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig
    from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector
    module = InternVLMultiModalProjector(InternVLConfig(
        vision_config=InternVLVisionConfig(hidden_size=16, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=24, num_attention_heads=2), downsample_ratio=0.5))
    normal = cases.numbers(4)

    def call(module, inputs):
        shuffled = InternVLModel.pixel_shuffle(None, inputs["vision_features"], 0.5)
        return module(shuffled.reshape(shuffled.shape[0], -1, shuffled.shape[-1]))

    yield ("internvl `InternVLMultiModalProjector` after `InternVLModel.pixel_shuffle`", "pixel-shuffle", "internvl-hf",
           {"downsample_ratio": 0.5}, module, {"vision_features": normal(2, 8, 8, 16)}, call)


class Newline(torch.nn.Module):
    """The one parameter of `LlavaOnevisionModel` that packing takes, and what its methods read of the configuration."""

    def __init__(self, width, pinpoints, image_size=384, patch_size=14):
        super().__init__()
        self.image_newline = torch.nn.Parameter(torch.zeros(width))
        self.config = types.SimpleNamespace(
            vision_config=types.SimpleNamespace(image_size=image_size, patch_size=patch_size),
            image_grid_pinpoints=pinpoints)


def onevision_packing():
    from transformers.models.llava_onevision.modeling_llava_onevision import (
        LlavaOnevisionModel, image_size_to_num_patches)
    pinpoints = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]

    def call(module, inputs, size):
        packed, _ = LlavaOnevisionModel.pack_image_features(
            module, list(inputs["image_features"]), torch.tensor([size]), image_newline=module.image_newline,
            vision_aspect_ratio="anyres_max_9")
        return torch.stack(packed)

    for size in [(384, 384), (500, 700), (1000, 750), (1080, 1920), (2304, 2304), (3000, 400), (100, 2000)]:
        normal = cases.numbers(5)
        crops = image_size_to_num_patches(list(size), pinpoints, 384)
        yield ("llava_onevision `LlavaOnevisionModel.pack_image_features`, seven pictures", "any-resolution",
               "llava-onevision", {"original_size": list(size)}, Newline(4, pinpoints),
               {"image_features": normal(1, crops, 729, 4)}, lambda module, inputs, size=size: call(module, inputs, size))


def onevision_video():
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
    normal = cases.numbers(6)

    def call(module, inputs):
        x = inputs["x"]
        pooled = LlavaOnevisionModel.apply_pooling(module, x.flatten(0, 1))
        # As `get_video_features` ends.
        pooled = pooled.reshape(x.shape[0], -1, x.shape[-1])
        newline = module.image_newline[None, None, :].repeat(x.shape[0], 1, 1)
        return torch.cat((pooled, newline), dim=1)

    yield ("llava_onevision `LlavaOnevisionModel.apply_pooling` and the end token", "spatial-pool",
           "llava-onevision-video", {"num_patches_per_side": 27}, Newline(4, None), {"x": normal(2, 3, 729, 4)}, call)


CLASSES = [patch_merger, patch_merger_2_5, llava_projector, internvl_projector, onevision_packing, onevision_video]


def compare(fovea, entry, layout, config, module, inputs, call):
    """The largest difference of the outputs, and how many tensors were loaded strictly."""
    normal = cases.numbers(99)
    weights = cases.random_weights(module, normal)
    with tempfile.TemporaryDirectory() as folder:
        path = {name: str(pathlib.Path(folder) / f"{name}.safetensors") for name in ["w", "i", "o", "e"]}
        configuration = pathlib.Path(folder) / "config.json"
        configuration.write_text(json.dumps(config))
        save_file(weights, path["w"])
        save_file(inputs, path["i"])
        subprocess.run(
            [fovea, "apply", entry, "--layout", layout, "--config", str(configuration), "--weights", path["w"],
             "--inputs", path["i"], "--output", path["o"], "--export", path["e"]], check=True)
        exported, outputs = load_file(path["e"]), load_file(path["o"])
    for name, value in weights.items():
        if name not in exported or exported[name].dtype != value.dtype or not torch.equal(exported[name], value):
            sys.exit(f"{entry}: {name} is not what was loaded")
    module.load_state_dict(exported, strict=True)
    with torch.no_grad():
        wanted = call(module, inputs) if call else module(*inputs.values())
    (got,) = outputs.values()
    if got.shape != wanted.shape:
        sys.exit(f"{entry}: {list(got.shape)} instead of {list(wanted.shape)}")
    return ((got - wanted).abs().max() / (1e-3 + wanted.abs().max())).item(), len(exported)


def main():
    parser = argparse.ArgumentParser(description="Compares published classes with Fovea through exported weights.")
    parser.add_argument("--fovea", required=True, help="the command line tool")
    parser.add_argument("--write", type=pathlib.Path, help="the page to write")
    parser.add_argument("names", nargs="*", help="functions of this script; all of them unless given")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for function in CLASSES:
        if arguments.names and function.__name__ not in arguments.names:
            continue
        for title, entry, layout, config, module, inputs, call in function():
            difference, tensors = compare(arguments.fovea, entry, layout, config, module.eval(), inputs, call)
            worst = max(difference, rows.get(title, (0,))[0])
            rows[title] = (worst, entry, layout, tensors)
    width = max(len(title) for title in rows)
    for title, (difference, entry, layout, tensors) in rows.items():
        print(f"{title:<{width}}  {entry} ({layout}), {tensors} tensors, {difference:.1e}")
    if arguments.write:
        import transformers
        lines = [
            "# Fovea's exports in published classes", "",
            "Weights that Fovea wrote, loaded strictly into the classes of transformers "
            f"{transformers.__version__} with torch {torch.__version__.split('+')[0]}: each tensor has the bytes that "
            "it was loaded with, none is missing or too many, and the class computes what Fovea computes. A difference "
            f"is max|got − want| / (1e-3 + max|want|) in float32; {TOLERANCE:.0e} passes.", "",
            "`Tests/Reference/raster_classes.py` makes this page.", "",
            "| published | module | layout | tensors | difference |", "|---|---|---|---|---|",
        ]
        lines += [f"| {title} | `{entry}` | `{layout}` | {tensors} | {difference:.1e} |"
                  for title, (difference, entry, layout, tensors) in rows.items()]
        arguments.write.write_text("\n".join(lines) + "\n")
    if max(difference for difference, *_ in rows.values()) > TOLERANCE:
        sys.exit("raster_classes: the outputs differ")


if __name__ == "__main__":
    main()
