#!/usr/bin/env python3
"""Writes the parity cases of VLoRA, computed by its published code.

    python3 vlora_cases.py --sources FOLDER

FOLDER holds a clone of VLoRA (see README.md). Its generator is loaded by itself, and how its weights are applied is read
from its language model.
"""

import argparse
import importlib.util
import pathlib

import torch

import cases


def main():
    parser = argparse.ArgumentParser(description="Writes the parity cases of VLoRA.")
    parser.add_argument("--sources", type=pathlib.Path, required=True, help="the folder of clones")
    folder = parser.parse_args().sources / "VLoRA/llava/model/VLoRA"
    spec = importlib.util.spec_from_file_location("weights_generater", folder / "weights_generater.py")
    generater = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generater)
    apply_vlora = cases.methods(folder / "modeling_llama_vlora.py", ["apply_vlora"], {"torch": torch})["apply_vlora"]
    torch.set_num_threads(1)

    def call(module, inputs):
        deltas = {}
        for layer, weights in enumerate(module(inputs["img_feature"])):
            for kind, (a, b) in weights.items():
                if a is not None:
                    deltas[f"delta.{layer}.{kind}"] = apply_vlora(inputs["x"], a, b)
        return deltas

    sizes = {"dim": 8, "depth": 1, "visual_dim": 5, "pos_num": 4, "llm_dim": 6, "llm_depth": 6, "lora_rank": 2,
             "num_heads": 2}
    variants = {
        # one generator for all types, another order of them, the rank as alpha
        "b": ({"weights_sep": False, "lora_type": "ovk", "skip_layers": 3}, ""),
        # all five types by default, in every layer, two layers in a generator, in a file of the whole model
        "c": ({"depth": 2, "llm_depth": 2, "mlp_ratio": 1.5, "vlora_alpha": 0.5}, "model.mm_projector."),
        # a stride that leaves layers over at the end
        "d": ({"llm_depth": 5, "skip_layers": 2, "lora_type": "o", "vlora_alpha": 4}, ""),
    }
    for seed, (tag, (changes, prefix)) in enumerate(variants.items(), start=81):
        normal = cases.numbers(seed)
        config = {**sizes, **changes}
        module = generater.LoRAGenerater(**config).eval()
        cases.write(f"vlora.published.{tag}", config, cases.of_module(module, call),
                    cases.random_weights(module, normal), {"img_feature": normal(3, 4, 5), "x": normal(3, 4, 6)},
                    prefix=prefix, seed=seed)


if __name__ == "__main__":
    main()
