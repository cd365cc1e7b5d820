#!/usr/bin/env python3
"""Times how a module of a released model's size loads and runs.

    python3 Benchmarks/loading.py --fovea .build/release/fovea [NAME …]

For each geometry: a safetensors file of the published names and shapes is written to a temporary folder, then
`fovea apply` runs the module on a small input, which maps the file, and on one of the released size. Prints parameters,
seconds of the whole command, and its peak memory. Needs NumPy and safetensors.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy
from safetensors.numpy import save_file


def flamingo():
    """The resampler of the released open_flamingo models: ViT-L/14, 256 tokens a picture."""
    width, inner = 1024, 512
    shapes = {"latents": (64, width), "norm.weight": (width,), "norm.bias": (width,)}
    for i in range(6):
        for norm in ["0.norm_media", "0.norm_latents", "1.0"]:
            shapes |= {f"layers.{i}.{norm}.weight": (width,), f"layers.{i}.{norm}.bias": (width,)}
        shapes |= {f"layers.{i}.0.to_q.weight": (inner, width), f"layers.{i}.0.to_kv.weight": (2 * inner, width),
                   f"layers.{i}.0.to_out.weight": (width, inner), f"layers.{i}.1.1.weight": (4 * width, width),
                   f"layers.{i}.1.3.weight": (width, 4 * width)}
    return ("perceiver-resampler", "open-flamingo", "perceiver.", {}, shapes, lambda n: {"x": (1, 1, 1, n, width)}, 256,
            63_019_008)


def llava():
    """The projector of LLaVA-1.5 7B: 576 tokens of CLIP ViT-L/14 at 336 pixels, 1024 → 4096."""
    shapes = {"0.weight": (4096, 1024), "0.bias": (4096,), "2.weight": (4096, 4096), "2.bias": (4096,)}
    return ("mlp-projector", "llava", "model.mm_projector.", {}, shapes, lambda n: {"x": (1, n, 1024)}, 576, 20_979_712)


def blip2():
    """The Q-Former of BLIP-2: 32 queries read 257 tokens of ViT-g/14."""
    width, vision, inner = 768, 1408, 3072

    def linear(name, outputs, inputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name):
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes = norm("layernorm")
    for i in range(12):
        layer = f"encoder.layer.{i}"
        for kind, inputs in [("attention", width)] + ([("crossattention", vision)] if i % 2 == 0 else []):
            shapes |= {**linear(f"{layer}.{kind}.attention.query", width, width),
                       **linear(f"{layer}.{kind}.attention.key", width, inputs),
                       **linear(f"{layer}.{kind}.attention.value", width, inputs),
                       **linear(f"{layer}.{kind}.output.dense", width, width), **norm(f"{layer}.{kind}.output.LayerNorm")}
        shapes |= {**linear(f"{layer}.intermediate_query.dense", inner, width),
                   **linear(f"{layer}.output_query.dense", width, inner), **norm(f"{layer}.output_query.LayerNorm")}
    return ("q-former", "blip2", "qformer.", {}, shapes,
            lambda n: {"query_embeds": (1, 32, width), "encoder_hidden_states": (1, n, vision)}, 257, 105_137_664)


GEOMETRIES = {"flamingo": flamingo, "llava": llava, "blip2": blip2}


def apply(fovea, folder, module, layout):
    """Seconds and peak memory in MiB of one command."""
    command = [fovea, "apply", module, "--layout", layout, "--config", folder / "c.json", "--weights",
               folder / "w.safetensors", "--inputs", folder / "i.safetensors", "--output", folder / "o.safetensors"]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"fovea apply failed: {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fovea", required=True, type=pathlib.Path)
    parser.add_argument("names", nargs="*", help=", ".join(GEOMETRIES))
    arguments = parser.parse_args()
    for name in arguments.names or GEOMETRIES:
        module, layout, prefix, config, shapes, inputs, released, wanted = GEOMETRIES[name]()
        generator = numpy.random.default_rng(0)
        normal = lambda shape: generator.standard_normal(shape, dtype=numpy.float32) * 0.02
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            save_file({prefix + key: normal(shape) for key, shape in shapes.items()}, folder / "w.safetensors")
            (folder / "c.json").write_text(json.dumps(config))
            listing = json.loads(subprocess.run(
                [arguments.fovea, "inspect", folder / "w.safetensors", "--json"], check=True, capture_output=True,
                text=True).stdout)
            parameters = sum(int(numpy.prod(tensor["shape"])) for tensor in listing["tensors"])
            assert parameters == wanted, f"{name}: {parameters} parameters, the specification says {wanted}"
            print(f"{name}: {parameters:,} parameters, {os.path.getsize(folder / 'w.safetensors') >> 20} MiB")
            for tokens in [1, released]:
                save_file({key: normal(shape) for key, shape in inputs(tokens).items()}, folder / "i.safetensors")
                times = [apply(arguments.fovea, folder, module, layout) for _ in range(3)]
                seconds, memory = min(times)
                print(f"  {tokens} tokens: {seconds:.2f} s for the whole command, {memory:.0f} MiB at most")


if __name__ == "__main__":
    main()
