#!/usr/bin/env python3
"""Writes the parity cases of the methods on rasters, each computed by the published code.

    python3 spatial_cases.py --sources FOLDER [NAME …]

FOLDER holds clones of InternVL, LLaVA-NeXT, honeybee, MobileVLM and TokenPacker (see README.md). What is in
transformers is taken from there. NAME picks cases by the beginning of their names; all of them unless given.
"""

import argparse
import importlib.util
import math
import pathlib
import sys
import types

import torch
from torch import nn

import cases


def patch_merger(sources):
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger
    normal = cases.numbers(31)
    config = {"dim": 5, "context_dim": 4, "spatial_merge_size": 3}
    module = PatchMerger(**config)
    cases.write("patch-merger.qwen2-vl.b", config, cases.of_module(module), cases.random_weights(module, normal),
                {"x": normal(18, 4)}, prefix="visual.merger.", seed=31)


def mlp_projector(sources):
    from transformers import LlavaConfig, LlamaConfig, CLIPVisionConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
    build = cases.methods(sources / "MobileVLM/mobilevlm/model/vision_projector.py", ["build_vision_projector"],
                          {"nn": nn, "re": __import__("re")})["build_vision_projector"]
    for tag, kind in [("b", "mlp3x_gelu"), ("c", "linear"), ("d", "mlp1x_gelu")]:
        normal = cases.numbers(32)
        config = {"mm_hidden_size": 5, "hidden_size": 4, "mm_projector_type": kind}
        module = build(types.SimpleNamespace(**config))
        cases.write(f"mlp-projector.llava.{tag}", config, cases.of_module(module),
                    cases.random_weights(module, normal), {"x": normal(2, 3, 5)}, prefix="model.mm_projector.",
                    seed=32)
    for tag, act, bias in [("a", "gelu", True), ("b", "gelu_pytorch_tanh", False)]:
        normal = cases.numbers(33)
        module = LlavaMultiModalProjector(LlavaConfig(
            vision_config=CLIPVisionConfig(hidden_size=5, num_attention_heads=1),
            text_config=LlamaConfig(hidden_size=4, num_attention_heads=2),
            projector_hidden_act=act, multimodal_projector_bias=bias))
        config = {"vision_hidden_size": 5, "text_hidden_size": 4, "projector_hidden_act": act,
                  "multimodal_projector_bias": bias}
        cases.write(f"mlp-projector.llava-hf.{tag}", config, cases.of_module(module),
                    cases.random_weights(module, normal), {"image_features": normal(2, 3, 5)},
                    prefix="model.multi_modal_projector.", seed=33)


def spatial_pool(sources):
    architecture = sources / "LLaVA-NeXT/llava/model/llava_arch.py"
    scope = {"nn": nn, "math": math, "torch": torch}
    published = cases.methods(architecture, ["get_2dPool", "add_token_per_grid", "add_token_per_frame"], scope)

    def owner(side, mode, newline=None):
        return types.SimpleNamespace(
            get_vision_tower=lambda: types.SimpleNamespace(num_patches_per_side=side),
            config=types.SimpleNamespace(mm_spatial_pool_mode=mode), model=types.SimpleNamespace(image_newline=newline))

    for tag, mode, stride, side in [("b", "average", 2, 7), ("c", "max", 3, 7), ("d", "bilinear", 3, 8)]:
        normal = cases.numbers(34)
        config = {"mm_spatial_pool_mode": mode, "mm_spatial_pool_stride": stride, "num_patches_per_side": side}
        cases.write(f"spatial-pool.llava-onevision.{tag}", config,
                    lambda _, inputs: published["get_2dPool"](owner(side, mode), inputs["x"], stride), {},
                    {"x": normal(2, side * side, 3)}, seed=34)

    # A video: pooled, then marked as `prepare_inputs_labels_for_multimodal` does.
    def video(weights, inputs, mode, position):
        newline = weights["image_newline"]
        videos = []
        for frames in inputs["x"]:
            side = math.isqrt(frames.shape[1])
            pooled = published["get_2dPool"](owner(side, mode), frames, 2)
            if position == "grid":
                pooled = published["add_token_per_grid"](
                    types.SimpleNamespace(config=types.SimpleNamespace(),
                                          model=types.SimpleNamespace(image_newline=newline)), pooled)
            elif position == "frame":
                pooled = published["add_token_per_frame"](owner(side, mode, newline), pooled).flatten(0, 1)
            elif position == "one_token":
                pooled = torch.cat((pooled.flatten(0, 1), newline[None]), dim=0)
            else:
                pooled = pooled.flatten(0, 1)
            videos.append(pooled)
        return torch.stack(videos)

    for tag, mode, position in [("a", "bilinear", "one_token"), ("b", "average", "grid"), ("c", "max", "frame"),
                                ("d", "bilinear", "no_token")]:
        normal = cases.numbers(35)
        config = {"mm_spatial_pool_mode": mode, "mm_spatial_pool_stride": 2, "num_patches_per_side": 5,
                  "mm_newline_position": position, "hidden_size": 3}
        cases.write(f"spatial-pool.llava-onevision-video.{tag}", config,
                    lambda weights, inputs: video(weights, inputs, mode, position), {"image_newline": normal(3)},
                    {"x": normal(2, 3, 25, 3)}, prefix="model.", seed=35)


def any_resolution(sources):
    from transformers.models.llava_onevision.modeling_llava_onevision import (
        LlavaOnevisionModel, image_size_to_num_patches)
    pinpoints = [[6, 6], [6, 12], [12, 6], [12, 12], [6, 18], [18, 6]]
    # With a letterbox above and below, resized; beside it, with an odd line over; not tiled.
    for tag, size, aspect, tiled in [("a", [7, 11], "anyres_max_1", True), ("b", [17, 5], "anyres_max_9", True),
                                     ("c", [11, 11], "anyres_max_2", True), ("d", [5, 6], "anyres_max_9", False)]:
        normal = cases.numbers(36)
        config = {"hidden_size": 3, "original_size": size, "image_size": 6, "patch_size": 2,
                  "image_grid_pinpoints": pinpoints, "vision_aspect_ratio": aspect}
        owner = types.SimpleNamespace(config=types.SimpleNamespace(
            vision_config=types.SimpleNamespace(image_size=6, patch_size=2), image_grid_pinpoints=pinpoints))
        crops = image_size_to_num_patches(size, pinpoints, 6) if tiled else 1

        def run(weights, inputs):
            pictures = list(inputs["image_features"])
            packed, _ = LlavaOnevisionModel.pack_image_features(
                owner, pictures, torch.tensor([size] * len(pictures)), image_newline=weights["image_newline"],
                vision_aspect_ratio=aspect)
            return torch.stack(packed)

        cases.write(f"any-resolution.llava-onevision.{tag}", config, run, {"image_newline": normal(3)},
                    {"image_features": normal(2, crops, 9, 3)}, prefix="model.", seed=36)


def pixel_shuffle(sources):
    from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig
    from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector
    published = cases.methods(
        sources / "InternVL/internvl_chat/internvl/model/internvl_chat/modeling_internvl_chat.py", ["pixel_shuffle"],
        {"torch": torch, "warnings": types.SimpleNamespace(warn=lambda *_: None)})["pixel_shuffle"]

    def mlp1(width, ratio, outputs):
        # As the constructor of InternVLChatModel has it.
        stacked = width * int(1 / ratio) ** 2
        rows = nn.Sequential(nn.LayerNorm(stacked), nn.Linear(stacked, outputs), nn.GELU(), nn.Linear(outputs, outputs))
        return nn.ModuleDict({"mlp1": rows})

    for tag, version, ratio, shape in [("b", "v1", 0.5, (2, 4, 4, 3)), ("c", "v2", 1 / 3, (2, 6, 6, 2)),
                                       ("d", "v1", 0.25, (1, 8, 8, 1))]:
        normal = cases.numbers(37)
        config = {"vit_hidden_size": shape[3], "llm_hidden_size": 4, "downsample_ratio": ratio, "ps_version": version}
        module = mlp1(shape[3], ratio, 4)

        def call(module, inputs):
            shuffled = published(types.SimpleNamespace(ps_version=version), inputs["x"], ratio)
            return module["mlp1"](shuffled.reshape(shuffled.shape[0], -1, shuffled.shape[-1]))

        cases.write(f"pixel-shuffle.internvl.{tag}", config, cases.of_module(module, call),
                    cases.random_weights(module, normal), {"x": normal(*shape)}, seed=37)

    normal = cases.numbers(38)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(hidden_size=3, num_attention_heads=1),
        text_config=LlamaConfig(hidden_size=4, num_attention_heads=2), downsample_ratio=0.5)
    module = InternVLMultiModalProjector(config)

    def call(module, inputs):
        shuffled = InternVLModel.pixel_shuffle(None, inputs["vision_features"], 0.5)
        return module(shuffled.reshape(shuffled.shape[0], -1, shuffled.shape[-1]))

    cases.write("pixel-shuffle.internvl-hf.a",
                {"vision_hidden_size": 3, "text_hidden_size": 4, "downsample_ratio": 0.5},
                cases.of_module(module, call), cases.random_weights(module, normal),
                {"vision_features": normal(2, 4, 4, 3)}, prefix="model.multi_modal_projector.", seed=38)


def load(path, name, text=None, package=None):
    """A published file as a module, by itself."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    module = importlib.util.module_from_spec(spec)
    module.__package__ = package or ""
    exec(compile(text or path.read_text(), str(path), "exec"), module.__dict__)
    return module


def c_abstractor(sources):
    for name in ["honeybee", "honeybee.projectors"]:
        sys.modules.setdefault(name, types.ModuleType(name))
    configuration = types.ModuleType("honeybee.configuration_honeybee")
    configuration.HoneybeeVisualProjectorConfig = object
    sys.modules["honeybee.configuration_honeybee"] = configuration
    published = load(sources / "honeybee/honeybee/projectors/projectors.py", "honeybee.projectors.projectors",
                     package="honeybee.projectors")
    base = {"encoder_hidden_size": 8, "hidden_size": 6, "output_hidden_size": 5, "depth": 2, "mlp_depth": 2,
            "num_query_tokens": 4, "num_eos_tokens": 0, "num_input_tokens": 25, "prenorm": False}
    for tag, changed in [("a", {}), ("b", {"num_eos_tokens": 2, "prenorm": True, "mlp_depth": 3, "hidden_size": 8}),
                         ("c", {"depth": 0, "num_input_tokens": None})]:
        normal = cases.numbers(39)
        config = {**base, **changed}
        fields = types.SimpleNamespace(
            **config, pos_emb=config["num_input_tokens"] is not None, initializer_range=0.02)
        module = published.CAbstractor(fields, config["num_input_tokens"] or 25)

        # The embeddings are added in place, which a leaf does not take.
        def call(module, inputs):
            return module(inputs["x"].clone()).last_hidden_state

        if config["depth"] == 0:
            del config["hidden_size"]
        cases.write(f"c-abstractor.honeybee.{tag}", config, cases.of_module(module, call),
                    cases.random_weights(module, normal), {"x": normal(2, 25, 8)}, prefix="abstractor.", seed=39)


def ldp(sources):
    published = load(sources / "MobileVLM/mobilevlm/model/vision_projector.py", "vision_projector")
    for layout, make in [("ldpnet", published.LDPNetProjector), ("ldpnetv2", published.LDPNetV2Projector)]:
        # Widths in multiples of eight, as torchvision's blocks want them; at 40 the squeezed width is rounded up twice.
        for tag, side, width in [("a", 5, 8), ("b", 4, 40)]:
            normal = cases.numbers(40)
            config = {"mm_hidden_size": 5, "hidden_size": width}
            module = make(types.SimpleNamespace(**config))
            cases.write(f"ldp.{layout}.{tag}", config, cases.of_module(module), cases.random_weights(module, normal),
                        {"x": normal(2, side * side, 5)}, prefix="model.mm_projector.", seed=40)


def token_packer(sources):
    path = sources / "TokenPacker/llava/model/multimodal_projector/builder.py"
    # Two widths stand in the published code as numbers: they are made small.
    text = path.read_text().replace("nn.Linear(4096, 1024)", "nn.Linear(10, 8)").replace("1024", "8")
    published = load(path, "builder", text)
    for tag, scale, heads in [("a", 2, 2), ("b", 3, 4)]:
        normal = cases.numbers(41)
        module = published.TokenPacker(raw_grid=6, embed_dim=8, num_heads=heads, kv_dim=5, hidden_size=7,
                                       scale_factor=scale)
        config = {"raw_grid": 6, "kv_dim": 5, "multi_level_dim": 10, "embed_dim": 8, "num_heads": heads,
                  "hidden_size": 7, "scale_factor": scale}

        # The coarse tokens are resized in float32 whatever the type: here in the type of the rest.
        def call(module, inputs):
            keep = torch.Tensor.float
            torch.Tensor.float = lambda tensor: tensor
            try:
                return module((inputs["x"], inputs["x_multi"]))
            finally:
                torch.Tensor.float = keep

        cases.write(f"token-packer.token-packer.{tag}", config, cases.of_module(module, call),
                    cases.random_weights(module, normal), {"x": normal(2, 36, 5), "x_multi": normal(2, 36, 10)},
                    prefix="model.mm_projector.", seed=41)


MODULES = {"patch-merger": patch_merger, "mlp-projector": mlp_projector, "spatial-pool": spatial_pool,
           "any-resolution": any_resolution, "pixel-shuffle": pixel_shuffle, "c-abstractor": c_abstractor, "ldp": ldp,
           "token-packer": token_packer}


def main():
    parser = argparse.ArgumentParser(description="Writes the parity cases of the methods on rasters.")
    parser.add_argument("--sources", type=pathlib.Path, required=True, help="the folder of the clones")
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], help="which modules; all unless given")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.modules or MODULES:
        MODULES[name](arguments.sources)


if __name__ == "__main__":
    main()
