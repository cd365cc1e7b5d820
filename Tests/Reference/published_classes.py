#!/usr/bin/env python3
"""Hands weights from published classes to Fovea and back, and writes the result to docs/published-classes.md.

    python3 published_classes.py --fovea .build/release/fovea [NAME …]

For each class: random weights are saved under the names of the class, `fovea export` writes them again (in float32, in
half precision, and in several files), the class loads what came back strictly, and computes the same as `fovea apply`
from it. NAME picks classes by the beginning of their names; the page is written only when all ran.
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
import published
from flamingo_cases import pattern

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "published-classes.md"

# The type that the weights are stored in, and how many bytes a file may hold; None for one file.
STORED = [("float32", None), ("bfloat16", None), ("float16", None), ("float32", 2000)]

# Of the outputs in float32, as max|got - want| / (1e-3 + max|want|): the tolerance of the parity cases.
TOLERANCE = 2e-5


class Published:
    """A class, how it is called, and what Fovea calls it."""

    def __init__(self, name, module, layout, config, make, inputs, output, call=None, prefix=""):
        self.name, self.module, self.layout, self.config = name, module, layout, config
        self.make, self.inputs, self.output, self.prefix = make, inputs, output, prefix
        self.call = call or (lambda module, inputs: module(*inputs.values()))


def open_flamingo_resampler():
    config = {"dim": 12, "depth": 2, "dim_head": 4, "heads": 3, "num_latents": 4, "max_num_media": 2,
              "max_num_frames": 3}
    return Published("open_flamingo `PerceiverResampler`", "perceiver-resampler", "open-flamingo", config,
                     lambda: published.perceiver_resampler()(**config), {"x": cases.numbers(1)(2, 2, 3, 5, 12)},
                     "latents", prefix="perceiver.")


def open_flamingo_cross_attention():
    config = {"dim": 12, "dim_visual": 10, "dim_head": 4, "heads": 3}
    normal = cases.numbers(2)
    return Published(
        "open_flamingo `GatedCrossAttentionBlock`", "gated-cross-attention", "open-flamingo", config,
        lambda: published.helpers().GatedCrossAttentionBlock(**config),
        {"x": normal(2, 6, 12), "media": normal(2, 3, 4, 10), "media_locations": pattern("010010", "100000")}, "hidden",
        lambda module, inputs: module(inputs["x"], inputs["media"], media_locations=inputs["media_locations"]),
        prefix="lang_encoder.transformer.blocks.1.gated_cross_attn_layer.")


def idefics_resampler():
    from transformers import IdeficsConfig
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler
    sizes = {"embed_dim": 12, "depth": 2, "n_heads": 3, "head_dim": 4, "n_latents": 5}
    return Published(
        "transformers `IdeficsPerceiverResampler`", "perceiver-resampler", "idefics",
        {**sizes, "qk_layer_norms_perceiver": True},
        lambda: IdeficsPerceiverResampler(
            IdeficsConfig(vision_config={"embed_dim": 12}, perceiver_config={"qk_layer_norms_perceiver": True}),
            **sizes),
        {"context": cases.numbers(3)(2, 9, 12)}, "latents", prefix="model.perceiver_resampler.")


def idefics_cross_attention():
    from transformers import IdeficsConfig
    from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 16, "qk_layer_norms": True,
             "alpha_type": "vector"}
    normal = cases.numbers(4)
    mask = torch.stack([pattern("00000", "11000", "00111"), pattern("11111", "00100", "00000")])

    def call(module, inputs):
        visible, states = inputs["image_attention_mask"], inputs["hidden_states"]
        # The class takes the softmax in float32: a smaller number would become an infinity there.
        added = torch.zeros(visible.shape, dtype=states.dtype).masked_fill(~visible, torch.finfo(torch.float32).min)
        return module(states, image_hidden_states=inputs["image_hidden_states"], image_attention_mask=added[:, None],
                      cross_attention_gate=visible.any(-1).to(states.dtype))

    return Published(
        "transformers `IdeficsGatedCrossAttentionLayer`", "gated-cross-attention", "idefics",
        {**sizes, "vision_embed_dim": 10},
        lambda: IdeficsGatedCrossAttentionLayer(
            IdeficsConfig(**sizes, vision_config={"embed_dim": 10}, attn_implementation="eager"), layer_idx=0),
        {"hidden_states": normal(2, 3, 12), "image_hidden_states": normal(2, 5, 10), "image_attention_mask": mask},
        "hidden", call, prefix="model.gated_cross_attn_layers.0.")


def idefics2_connector():
    from transformers import Idefics2Config
    from transformers.models.idefics2.modeling_idefics2 import Idefics2Connector
    sizes = {"hidden_size": 16, "resampler_n_latents": 4, "resampler_depth": 2, "resampler_n_heads": 4,
             "num_key_value_heads": 2, "resampler_head_dim": 6, "rms_norm_eps": 1e-6}

    def make():
        config = Idefics2Config(
            vision_config={"hidden_size": 10, "num_attention_heads": 1}, perceiver_config=sizes,
            text_config={"model_type": "mistral", "hidden_size": 16, "intermediate_size": 24,
                         "num_attention_heads": 2})
        config._attn_implementation = "eager"
        return Idefics2Connector(config)

    return Published(
        "transformers `Idefics2Connector`", "perceiver-resampler", "idefics2-connector",
        {**sizes, "vision_hidden_size": 10, "text_intermediate_size": 24}, make,
        {"image_hidden_states": cases.numbers(5)(2, 7, 10), "attention_mask": pattern("1111100", "1111111")}, "latents",
        prefix="model.connector.")


def q_former():
    from transformers import Blip2QFormerConfig, Blip2QFormerModel
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20,
             "encoder_hidden_size": 10, "use_qformer_text_input": True}
    normal = cases.numbers(6)
    return Published(
        "transformers `Blip2QFormerModel`", "q-former", "blip2", {**sizes, "query_length": 4},
        lambda: Blip2QFormerModel(Blip2QFormerConfig(**sizes)),
        {"query_embeds": normal(2, 7, 12), "encoder_hidden_states": normal(2, 6, 10)}, "last_hidden_state",
        lambda module, inputs: module(**inputs, query_length=4).last_hidden_state, prefix="qformer.")


def q_former_image_only():
    from transformers import Blip2QFormerConfig, Blip2QFormerModel
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20,
             "encoder_hidden_size": 10, "cross_attention_frequency": 3}
    normal = cases.numbers(7)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    return Published(
        "transformers `Blip2QFormerModel` without text", "q-former", "blip2", sizes,
        lambda: Blip2QFormerModel(Blip2QFormerConfig(**sizes)),
        {"query_embeds": normal(2, 4, 12), "encoder_hidden_states": normal(2, 6, 10), "encoder_attention_mask": mask},
        "last_hidden_state", lambda module, inputs: module(**inputs).last_hidden_state, prefix="qformer.")


def patch_merger():
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger
    config = {"dim": 24, "context_dim": 16, "spatial_merge_size": 2}
    return Published("transformers `PatchMerger` of Qwen2-VL", "patch-merger", "qwen2-vl", config,
                     lambda: PatchMerger(**config), {"x": cases.numbers(1)(32, 16)}, "tokens", prefix="visual.merger.")


def patch_merger_2_5():
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
    config = {"dim": 24, "context_dim": 16, "spatial_merge_size": 2}
    return Published("transformers `Qwen2_5_VLPatchMerger`", "patch-merger", "qwen2.5-vl", config,
                     lambda: Qwen2_5_VLPatchMerger(**config), {"x": cases.numbers(2)(32, 16)}, "tokens",
                     prefix="visual.merger.")


def llava_projector():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    def make():
        return LlavaMultiModalProjector(LlavaConfig(
            vision_config=CLIPVisionConfig(hidden_size=24, num_attention_heads=2),
            text_config=LlamaConfig(hidden_size=32, num_attention_heads=2)))

    return Published("transformers `LlavaMultiModalProjector`", "mlp-projector", "llava-hf", {}, make,
                     {"image_features": cases.numbers(3)(2, 49, 24)}, "tokens", prefix="multi_modal_projector.")


def internvl_projector():
    from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig
    from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector

    def make():
        return InternVLMultiModalProjector(InternVLConfig(
            vision_config=InternVLVisionConfig(hidden_size=16, num_attention_heads=2),
            text_config=LlamaConfig(hidden_size=24, num_attention_heads=2), downsample_ratio=0.5))

    def call(module, inputs):
        shuffled = InternVLModel.pixel_shuffle(None, inputs["vision_features"], 0.5)
        return module(shuffled.reshape(shuffled.shape[0], -1, shuffled.shape[-1]))

    return Published("transformers `InternVLMultiModalProjector` after `InternVLModel.pixel_shuffle`", "pixel-shuffle",
                     "internvl-hf", {"downsample_ratio": 0.5}, make,
                     {"vision_features": cases.numbers(4)(2, 8, 8, 16)}, "tokens", call,
                     prefix="multi_modal_projector.")


class Newline(torch.nn.Module):
    """The one parameter of `LlavaOnevisionModel` that packing takes, and what its methods read of the configuration."""

    def __init__(self, pinpoints):
        super().__init__()
        self.image_newline = torch.nn.Parameter(torch.zeros(4))
        self.config = types.SimpleNamespace(
            vision_config=types.SimpleNamespace(image_size=384, patch_size=14), image_grid_pinpoints=pinpoints)


def onevision_packing():
    from transformers.models.llava_onevision.modeling_llava_onevision import (
        LlavaOnevisionModel, image_size_to_num_patches)
    pinpoints = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]

    def call(module, inputs, size):
        packed, _ = LlavaOnevisionModel.pack_image_features(
            module, list(inputs["image_features"]), torch.tensor([size]), image_newline=module.image_newline,
            vision_aspect_ratio="anyres_max_9")
        return torch.stack(packed)

    return [
        Published("transformers `LlavaOnevisionModel.pack_image_features`, seven pictures", "any-resolution",
                  "llava-onevision", {"original_size": list(size)}, lambda: Newline(pinpoints),
                  {"image_features": cases.numbers(5)(1, image_size_to_num_patches(list(size), pinpoints, 384), 729, 4)},
                  "tokens", lambda module, inputs, size=size: call(module, inputs, size))
        for size in [(384, 384), (500, 700), (1000, 750), (1080, 1920), (2304, 2304), (3000, 400), (100, 2000)]]


def onevision_video():
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

    def call(module, inputs):
        x = inputs["x"]
        pooled = LlavaOnevisionModel.apply_pooling(module, x.flatten(0, 1))
        # As `get_video_features` ends.
        pooled = pooled.reshape(x.shape[0], -1, x.shape[-1])
        newline = module.image_newline[None, None, :].repeat(x.shape[0], 1, 1)
        return torch.cat((pooled, newline), dim=1)

    return Published("transformers `LlavaOnevisionModel.apply_pooling` and the end token", "spatial-pool",
                     "llava-onevision-video", {"num_patches_per_side": 27}, lambda: Newline(None),
                     {"x": cases.numbers(6)(2, 3, 729, 4)}, "tokens", call)


CLASSES = [open_flamingo_resampler, idefics_resampler, idefics2_connector, open_flamingo_cross_attention,
           idefics_cross_attention, q_former, q_former_image_only, patch_merger, patch_merger_2_5, llava_projector,
           internvl_projector, onevision_packing, onevision_video]


def run(fovea, *arguments):
    done = subprocess.run([fovea, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"fovea {arguments[0]}: {done.stderr.strip()}")


def loaded(path):
    if path.is_file():
        return load_file(path)
    # What fits into one file needs no index.
    if not (path / "model.safetensors.index.json").exists():
        return load_file(path / "model.safetensors")
    files = set(json.loads((path / "model.safetensors.index.json").read_text())["weight_map"].values())
    return {name: value for file in sorted(files) for name, value in load_file(path / file).items()}


def check(fovea, case, folder, dtype, limit):
    """What a row of the table begins with, and the difference that it ends with."""
    module = case.make().eval()
    weights = cases.random_weights(module, cases.numbers(7))
    stored_as = getattr(torch, dtype)
    # What a file in this type holds; rounding is done once, here.
    original = {case.prefix + name: value.to(stored_as) for name, value in weights.items()}
    save_file(original, folder / "w.safetensors")
    save_file(case.inputs, folder / "i.safetensors")
    (folder / "c.json").write_text(json.dumps(case.config))
    back = folder / ("back" if limit else "back.safetensors")
    extra = ["--max-shard-bytes", limit] if limit else []
    common = ["--layout", case.layout, "--config", folder / "c.json"]
    run(fovea, "export", folder / "w.safetensors", "--module", case.module, *common, "--dtype", dtype,
        "--output", back, *extra)
    returned = loaded(back)
    same = set(returned) == set(original) and all(
        value.dtype == returned[name].dtype and torch.equal(value, returned[name]) for name, value in original.items())
    named = {name.removeprefix(case.prefix): value.double() for name, value in returned.items()}
    problems = module.load_state_dict(named, strict=True)
    assert not problems.missing_keys and not problems.unexpected_keys
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in case.inputs.items()}
    with torch.no_grad():
        want = case.call(module.double(), inputs)
    run(fovea, "apply", case.module, *common, "--weights", back, "--inputs", folder / "i.safetensors",
        "--output", folder / "o.safetensors")
    got = load_file(folder / "o.safetensors")[case.output].double()
    difference = ((got - want).abs().max() / (1e-3 + want.abs().max())).item()
    files = len(list(back.glob("*.safetensors"))) if limit else 1
    print(f"{case.name}, {dtype}, {files} file(s): {'same bytes' if same else 'OTHER BYTES'}, {difference:.1e}")
    return (case.name, case.module, case.layout, dtype, files, len(returned), same), difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fovea", required=True, type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = [make() for make in CLASSES]
    chosen = [case for entry in made for case in (entry if isinstance(entry, list) else [entry])
              if not arguments.names or case.module.startswith(tuple(arguments.names))]
    # Several inputs of one class are one row, with the largest of their differences.
    worst = {}
    for case in chosen:
        for dtype, limit in STORED:
            with tempfile.TemporaryDirectory() as folder:
                row, difference = check(arguments.fovea.resolve(), case, pathlib.Path(folder), dtype, limit)
            worst[row] = max(difference, worst.get(row, 0))
    passed = all(row[-1] and difference <= TOLERANCE for row, difference in worst.items())
    rows = [f"| {name} | `{module}`, `{layout}` | {dtype} | {files} | {tensors} | {'same' if same else 'different'} | "
            f"{difference:.1e} |" for (name, module, layout, dtype, files, tensors, same), difference in worst.items()]
    if not passed:
        sys.exit("published_classes: not the same")
    if not arguments.names:
        import transformers
        PAGE.write_text(f"""# Weights to and from published classes

`Tests/Reference/published_classes.py` wrote this page with PyTorch {torch.__version__.split('+')[0]} and transformers
{transformers.__version__}. For each class, random weights were saved under the names that its files have, read and
written again by `fovea export`, and loaded strictly by the class: every tensor has its place, none is missing, none is
left over. The class then computed in float64, and `fovea apply` in float32, from the weights as they came back. The
difference is the largest one, max|got − want| / (10⁻³ + max|want|); at most {TOLERANCE:g} passes.

| class | module, layout | stored as | files | tensors | bytes of each tensor | difference |
|---|---|---|---|---|---|---|
""" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
