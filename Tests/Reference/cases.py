"""How a parity case of any module is made: random weights and inputs, then outputs and gradients of published code."""

import ast
import json
import pathlib
import textwrap

import torch
from safetensors.torch import save_file
from torch.func import functional_call

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "Fixtures"


def numbers(seed):
    """Draws normal float32 tensors of given shapes."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float32)


def random_weights(module, normal):
    """Weights for every tensor of a module: norms away from one and zero, so that a forgotten scale or shift shows."""
    weights = {}
    for name, value in module.state_dict().items():
        if value.dim() < 2:
            weights[name] = (1.0 if name.endswith("weight") else 0.0) + 0.3 * normal(*value.shape)
        else:
            fan = value[0].numel()
            weights[name] = normal(*value.shape) / max(1, fan) ** 0.5
    return weights


def of_module(module, call=None):
    """A call that runs a module with given weights; `call(module, inputs)` unless its forward takes the only input."""
    class Caller(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, inputs):
            return call(self.inner, inputs) if call else self.inner(*inputs.values())

    caller = Caller()

    def run(weights, inputs):
        caller.to(next(iter(inputs.values())).dtype)
        named = {**dict(caller.named_buffers()), **{"inner." + name: value for name, value in weights.items()}}
        return functional_call(caller, named, (inputs,), strict=True)
    return run


def write(name, config, run, weights, inputs, output="tokens", prefix="", seed=0):
    """Writes the case `name` = module.layout.tag, with floats in float32 and masks and indices as they are.

    `run(weights, inputs)` gives the output, or several by their names, from tensors by name. All is computed in float64 from the stored float32
    values. `prefix` stands in front of the weights' names in the files.
    """
    module, tag = name.split(".", 1)
    layout = tag.rsplit(".", 1)[0]
    for key, value in {**weights, **inputs}.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise TypeError(f"{name}: {key} is {value.dtype}, expected float32")
    wide = {key: value.double().requires_grad_() for key, value in weights.items()}
    active = {key: value.double().requires_grad_() for key, value in inputs.items() if value.is_floating_point()}
    found = run(wide, {**inputs, **active})
    outputs = found if isinstance(found, dict) else {output: found}
    normal = numbers(seed + 1000)
    cotangents = {key: normal(*value.shape) for key, value in outputs.items()}
    objective = sum((value * cotangents[key].double()).sum() for key, value in outputs.items())
    leaves = {**{prefix + key: value for key, value in wide.items()}, **active}
    gradients = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
    gradients = {
        key: torch.zeros_like(leaf) if gradient is None else gradient.contiguous()
        for (key, leaf), gradient in zip(leaves.items(), gradients)
    }
    if not all(torch.isfinite(value).all() for value in [*outputs.values(), *gradients.values()]):
        raise ValueError(f"{name}: the published code gives numbers that are not finite")
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    case = {"module": module, "layout": layout, "config": config, "outputs": list(outputs)}
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    stored = {prefix + key: value.contiguous() for key, value in weights.items()}
    save_file(stored or {"_empty": torch.zeros(0)}, folder / "weights.safetensors")
    named = {f"cotangent.{key}": value for key, value in cotangents.items()}
    save_file({**inputs, **named}, folder / "inputs.safetensors")
    save_file({key: value.detach().contiguous() for key, value in outputs.items()}, folder / "outputs.safetensors")
    save_file(gradients, folder / "gradients.safetensors")
    for key, value in outputs.items():
        print(f"wrote {name}: {key} {list(value.shape)}, sum {value.sum().item():.9f}")


def methods(path, names, scope):
    """Functions or methods of a published file by name, without importing what else the file needs.

    `scope` holds what they refer to.
    """
    tree = ast.parse(pathlib.Path(path).read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in names and node.name not in found:
            node.decorator_list = []
            source = textwrap.dedent(ast.unparse(node))
            exec(compile(source, str(path), "exec"), scope)
            found[node.name] = scope[node.name]
    missing = set(names) - set(found)
    if missing:
        raise SystemExit(f"{path}: no function {', '.join(sorted(missing))}")
    return found
