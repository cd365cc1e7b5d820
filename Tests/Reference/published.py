"""What the scripts of this folder share: the published Perceiver Resampler, and how a parity case is written."""

import importlib.util
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "Fixtures"


def helpers():
    """The file of the installed package open_flamingo with its resampler and its gated cross-attention.

    It is loaded by itself: importing the package would pull in language models and image libraries that neither uses.
    """
    package = importlib.util.find_spec("open_flamingo")
    if package is None:
        sys.exit("open_flamingo is not installed: see Tests/Reference/README.md")
    path = pathlib.Path(package.submodule_search_locations[0]) / "src" / "helpers.py"
    spec = importlib.util.spec_from_file_location("open_flamingo_helpers", path)
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    return helpers


def perceiver_resampler():
    """open_flamingo's class `PerceiverResampler`."""
    return helpers().PerceiverResampler


def evaluate(config, weights, x, cotangent, dtype):
    """The latents in `dtype`, and the gradient of sum(latents * cotangent) for `x` and every weight, by name."""
    module = perceiver_resampler()(**config).to(dtype).eval()
    module.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, strict=True)
    x = x.detach().to(dtype, copy=True).requires_grad_()
    latents = module(x)
    wanted = {**dict(module.named_parameters()), "x": x}
    # `grad` refuses a tensor without influence on the output; this class has none.
    gradients = torch.autograd.grad((latents * cotangent.to(dtype)).sum(), list(wanted.values()))
    gradients = dict(zip(wanted, gradients))
    return latents.detach(), gradients


def write_case(folder, config, weights, x, cotangent):
    """Writes one parity case of `perceiver-resampler`, layout `open-flamingo`.

    Weights, input and cotangent are stored in float32. Output and gradients are computed in float64 from those stored
    values, and stored in float64.
    """
    for name, value in {**weights, "x": x, "cotangent.latents": cotangent}.items():
        if value.dtype != torch.float32:
            raise TypeError(f"{name} is {value.dtype}, expected float32")
    latents, gradients = evaluate(config, weights, x, cotangent, torch.float64)
    folder.mkdir(parents=True, exist_ok=True)
    case = {"module": "perceiver-resampler", "layout": "open-flamingo", "config": config, "outputs": ["latents"]}
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file(weights, folder / "weights.safetensors")
    save_file({"x": x, "cotangent.latents": cotangent}, folder / "inputs.safetensors")
    save_file({"latents": latents}, folder / "outputs.safetensors")
    save_file({name: value.contiguous() for name, value in gradients.items()}, folder / "gradients.safetensors")
    return latents
