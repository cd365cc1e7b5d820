#!/usr/bin/env python3
"""Runs every parity case through `fovea apply` and writes how far it is from the published code.

    python3 parity_table.py --fovea PATH [--write ../../docs/parity.md]

A row is a layout of a module, with the worst of its cases.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

from safetensors.torch import load_file

import cases

# What is added to all keys of an attention moves nothing, so that its gradient is zero and what is computed is rounding.
VANISHING = {"vision-encoder": "k_proj.bias", "token-packer": "ln_k_1.bias"}


def difference(got, want):
    if got.shape != want.shape:
        return float("inf")
    if want.numel() == 0:
        return 0.0
    got, want = got.double(), want.double()
    return ((got - want).abs().max() / (1e-3 + want.abs().max())).item()


def measured(fovea, folder, case, dtype):
    """The worst difference of the outputs, and of the gradients where the case has some."""
    files = [name for name in ["outputs", "gradients"] if (folder / f"{name}.safetensors").exists()]
    with tempfile.TemporaryDirectory() as scratch:
        output, gradients = (str(pathlib.Path(scratch) / name) for name in ["o.safetensors", "g.safetensors"])
        subprocess.run(
            [fovea, "apply", case["module"], "--layout", case["layout"], "--config", str(folder / "case.json"),
             "--weights", str(folder / "weights.safetensors"), "--inputs", str(folder / "inputs.safetensors"),
             "--output", output, "--dtype", dtype] + (["--gradients", gradients] if len(files) == 2 else []), check=True)
        worst = []
        for made, file in zip([output, gradients], files):
            got, want = load_file(made), load_file(folder / f"{file}.safetensors")
            if set(got) != set(want):
                raise SystemExit(f"{folder.name}: {file} {sorted(set(got) ^ set(want))} on one side alone")
            vanishing = VANISHING.get(case["module"])
            worst.append(max(
                difference(got[name], want[name]) for name in want
                if file == "outputs" or not vanishing or not name.endswith(vanishing)))
        return worst if len(worst) == 2 else [*worst, None]


def main():
    parser = argparse.ArgumentParser(description="Measures every parity case.")
    parser.add_argument("--fovea", required=True, help="the command line tool")
    parser.add_argument("--write", type=pathlib.Path, help="the page to write")
    arguments = parser.parse_args()
    rows = {}
    for folder in sorted(cases.FIXTURES.iterdir()):
        if not (folder / "case.json").exists():
            continue
        case = json.loads((folder / "case.json").read_text())
        figures = [*measured(arguments.fovea, folder, case, "float32"), *measured(arguments.fovea, folder, case, "float64")]
        count, before = rows.get((case["module"], case["layout"]), (0, [0.0] * 4))
        rows[case["module"], case["layout"]] = (
            count + 1, [None if new is None else max(new, old) for new, old in zip(figures, before)])
    lines = [
        "# Agreement with published code", "",
        "The stored cases of `Tests/Fixtures` hold what published code computed in float64. A figure is the worst "
        "max|got − want| / (1e-3 + max|want|) over the tensors of all cases of a layout; the tests accept 2e-5 in float32 "
        "and 4e-6 in float64 for outputs, and ten times that for gradients of every weight and input. Gradients that are zero for a reason (of what is added to "
        "all keys of an attention) are held against zero in the tests and left out here. Reducers by rule have cases without "
        "gradients, and indices and masks that agree exactly.", "",
        "`Tests/Reference/parity_table.py` makes this page.", "",
        "| module | layout | cases | outputs, float32 | gradients, float32 | outputs, float64 | gradients, float64 |",
        "|---|---|---|---|---|---|---|",
    ]
    for (module, layout), (count, figures) in rows.items():
        lines.append(f"| `{module}` | `{layout}` | {count} | " + " | ".join(
            "–" if figure is None else f"{figure:.1e}" for figure in figures) + " |")
    print("\n".join(lines[8:]))
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
