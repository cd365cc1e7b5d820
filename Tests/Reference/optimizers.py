#!/usr/bin/env python3
"""Runs PyTorch's optimizers on fixed gradients, and its schedules, and stores what they give.

    python3 optimizers.py [--output FOLDER]

Two parameters, a matrix `weight` [3, 4] and a vector `bias` [4], in float64. The file `optimizers.safetensors` holds

    start.<parameter>                 before the first step
    gradient.<step>.<parameter>       the gradient of step 0 ... 9
    <run>.<step>.<parameter>          after that step, for each of RUNS
    schedule.<name>                   [200], the rates of each of SCHEDULES
    long-<run>.<step>.<parameter>     after every 20 of 200 steps with a schedule and with clipping, for each of LONG
    muon.gradient.<step>.<matrix>     the gradient of step 0 ... 9 of the matrices of MUON_SHAPES; muon.start.<matrix> before
    muon.<step>.<matrix>              after that step

Muon's iteration runs in float64 instead of bfloat16: what it computes is compared, not its rounding.

The matrix decays and the vector does not, as two parameter groups. The long runs take the ten gradients in turn.
"""

import argparse
import inspect
import pathlib

import torch
from safetensors.torch import save_file

from published import FIXTURES

STEPS, LONG_STEPS = 10, 200
PEAK, WARMUP, FLOOR, CLIP = 0.05, 20, 0.1, 1.0

# Each with the decay of the matrix. The second run has an epsilon large enough to tell where it stands.
RUNS = {
    "adamw": (torch.optim.AdamW, {"lr": 0.05}, 0.1),
    "adamw-epsilon": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 0.1}, 0.0),
    "sgd": (torch.optim.SGD, {"lr": 0.1}, 0.0),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 0.02),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}, 0.03),
}

MUON_SHAPES = {"wide": (3, 5), "tall": (6, 4), "square": (4, 4)}
MUON = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "adjust_lr_fn": "match_rms_adamw"}

# The optimizers and schedules of the long runs.
LONG = {"adamw": "cosine", "sgd-nesterov": "linear"}


def schedules(optimizer):
    """By name: PyTorch's own, put together from a warm-up and what follows."""
    lr = torch.optim.lr_scheduler

    def warmed(after):
        rising = lr.LinearLR(optimizer, 1 / WARMUP, 1, WARMUP - 1)
        return lr.SequentialLR(optimizer, [rising, after], [WARMUP])

    rest = LONG_STEPS - WARMUP
    return {
        "constant": lambda: warmed(lr.ConstantLR(optimizer, 1, 0)),
        "linear": lambda: warmed(lr.LinearLR(optimizer, 1, FLOOR, rest)),
        "cosine": lambda: warmed(lr.CosineAnnealingLR(optimizer, rest, FLOOR * PEAK)),
    }


def rates(name):
    """The rates of 200 steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = schedules(optimizer)[name]()
    found = []
    for _ in range(LONG_STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return torch.tensor(found, dtype=torch.float64)


def started(run, tensors):
    """Fresh parameters and their optimizer."""
    optimizer_class, options, decay = RUNS[run]
    parameters = {name: torch.nn.Parameter(tensors[f"start.{name}"].clone()) for name in ("weight", "bias")}
    groups = [
        {"params": [parameters["weight"]], "weight_decay": decay},
        {"params": [parameters["bias"]], "weight_decay": 0.0},
    ]
    return parameters, optimizer_class(groups, foreach=False, **options)


def muon_steps():
    """Ten steps of PyTorch's Muon in float64."""
    iterate = torch.optim._muon._zeropower_via_newtonschulz
    source = inspect.getsource(iterate).replace("torch.bfloat16", "torch.float64")
    exec(source, torch.optim._muon.__dict__)
    generator = torch.Generator().manual_seed(1)

    def drawn(shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    tensors = {f"muon.start.{name}": drawn(shape) for name, shape in MUON_SHAPES.items()}
    parameters = {name: torch.nn.Parameter(tensors[f"muon.start.{name}"].clone()) for name in MUON_SHAPES}
    optimizer = torch.optim.Muon(parameters.values(), **MUON)
    for step in range(STEPS):
        for name, parameter in parameters.items():
            gradient = drawn(parameter.shape) * 10.0 ** (step % 4 - 2)
            tensors[f"muon.gradient.{step}.{name}"] = gradient
            parameter.grad = gradient.clone()
        optimizer.step()
        for name, parameter in parameters.items():
            tensors[f"muon.{step}.{name}"] = parameter.detach().clone()
    return tensors


def main():
    parser = argparse.ArgumentParser(description="Stores ten steps of PyTorch's optimizers.")
    parser.add_argument("--output", type=pathlib.Path, default=FIXTURES / "optimizers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    shapes = {"weight": (3, 4), "bias": (4,)}
    tensors = {f"start.{name}": torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    for step in range(STEPS):
        for name, shape in shapes.items():
            # Gradients of very different sizes, now and then zero, as training has them.
            scale = 10.0 ** (step % 4 - 2)
            tensors[f"gradient.{step}.{name}"] = torch.randn(shape, dtype=torch.float64) * scale
        tensors[f"gradient.{step}.weight"][0, step % 4] = 0

    for run in RUNS:
        parameters, optimizer = started(run, tensors)
        for step in range(STEPS):
            for name, parameter in parameters.items():
                parameter.grad = tensors[f"gradient.{step}.{name}"].clone()
            optimizer.step()
            for name, parameter in parameters.items():
                tensors[f"{run}.{step}.{name}"] = parameter.detach().clone()

    for name in ("constant", "linear", "cosine"):
        tensors[f"schedule.{name}"] = rates(name)
    for run, name in LONG.items():
        parameters, optimizer = started(run, tensors)
        for group in optimizer.param_groups:
            group["lr"] = PEAK
        schedule = schedules(optimizer)[name]()
        for step in range(LONG_STEPS):
            for name, parameter in parameters.items():
                parameter.grad = tensors[f"gradient.{step % STEPS}.{name}"].clone()
            torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
            optimizer.step()
            schedule.step()
            if (step + 1) % 20 == 0:
                for name, parameter in parameters.items():
                    tensors[f"long-{run}.{step}.{name}"] = parameter.detach().clone()

    tensors.update(muon_steps())

    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.output / "optimizers.safetensors", metadata={"torch": torch.__version__})
    print(f"wrote {arguments.output / 'optimizers.safetensors'}")


if __name__ == "__main__":
    main()
