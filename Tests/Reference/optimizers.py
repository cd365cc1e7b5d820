#!/usr/bin/env python3
"""Runs PyTorch's optimizers for ten steps on fixed gradients and stores what the parameters become.

    python3 optimizers.py [--output FOLDER]

Two parameters, a matrix `weight` [3, 4] and a vector `bias` [4], in float64. The file `optimizers.safetensors` holds

    start.<parameter>                 before the first step
    gradient.<step>.<parameter>       the gradient of step 0 ... 9
    <run>.<step>.<parameter>          after that step

for each run of RUNS below. The matrix decays and the vector does not, as two parameter groups.
"""

import argparse
import pathlib

import torch
from safetensors.torch import save_file

from published import FIXTURES

STEPS = 10

# Each with the decay of the matrix. The second run has an epsilon large enough to tell where it stands.
RUNS = {
    "adamw": (torch.optim.AdamW, {"lr": 0.05}, 0.1),
    "adamw-epsilon": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 0.1}, 0.0),
    "sgd": (torch.optim.SGD, {"lr": 0.1}, 0.0),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 0.02),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}, 0.03),
}


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

    for run, (optimizer_class, options, decay) in RUNS.items():
        parameters = {name: torch.nn.Parameter(tensors[f"start.{name}"].clone()) for name in shapes}
        optimizer = optimizer_class(
            [
                {"params": [parameters["weight"]], "weight_decay": decay},
                {"params": [parameters["bias"]], "weight_decay": 0.0},
            ],
            foreach=False,
            **options,
        )
        for step in range(STEPS):
            for name, parameter in parameters.items():
                parameter.grad = tensors[f"gradient.{step}.{name}"].clone()
            optimizer.step()
            for name, parameter in parameters.items():
                tensors[f"{run}.{step}.{name}"] = parameter.detach().clone()

    arguments.output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.output / "optimizers.safetensors", metadata={"torch": torch.__version__})
    print(f"wrote {arguments.output / 'optimizers.safetensors'}")


if __name__ == "__main__":
    main()
