#!/usr/bin/env python3
"""Compares every op, forward and gradient, with PyTorch on the same inputs in float64.

    fovea gradcheck --export ops.safetensors
    python3 ops_against_torch.py ops.safetensors [--table FILE]

Writes the table (docs/ops-against-pytorch.md unless told otherwise). Exits with 1 when an op or a sample has no
expression in torch_expressions.py and no reason to have none, when one differs by more than its tolerance and
torch_deviations.py does not say why, and when a deviation that is listed there does not occur.

The error is max|ours − PyTorch's| / max|PyTorch's| over the finite elements of one tensor; NaN, ∞ and −∞ must stand in
the same places.
"""

import argparse
import collections
import pathlib
import sys
import warnings

import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from torch_deviations import CALLS, DEVIATIONS, REFUSED
from torch_expressions import OPS, WITHOUT, evaluated, tolerance

DRAWN = "drawn"


def difference(ours, theirs):
    """The relative error; infinite where shapes, types or special values differ."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    if not ours.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else float("inf")
    ours, theirs = ours.double(), theirs.double()
    finite = theirs.isfinite()
    same = torch.equal(ours.isfinite(), finite) and torch.equal(ours.isnan(), theirs.isnan())
    if not same or not torch.equal(ours[theirs.isinf()], theirs[theirs.isinf()]):
        return float("inf")
    if not finite.any():
        return 0.0
    error = (ours[finite] - theirs[finite]).abs().max().item()
    scale = theirs[finite].abs().max().item()
    # Zeros but for rounding, which processors do differently: the determinant of a singular matrix.
    if max(error, scale) < 1e-15:
        return 0.0
    return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))


def read(path):
    """{op: {label: {inputs: {role: tensor}}}}"""
    samples = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(dict)))
    for name, tensor in load_file(path).items():
        op, rest = name.split("/", 1)
        label, inputs, role = rest.rsplit("/", 2)
        samples[op][label][inputs][role] = tensor
    return samples


def numbered(roles, prefix):
    found = {int(role.removeprefix(prefix)): roles[role] for role in roles if role.startswith(prefix)}
    return [found[i] for i in sorted(found)]


class Result:
    """What the comparison of one op found."""

    def __init__(self):
        self.samples = 0
        self.special = 0
        self.output = 0.0
        self.gradient = None
        self.expressions = []
        self.deviations = []


class Comparison:
    def __init__(self):
        self.results = collections.defaultdict(Result)
        self.failures = []
        self.seen = set()

    def check(self, op, label, kind, role, error):
        """Judges one tensor; returns whether its error counts for the table."""
        if error <= tolerance(op):
            return True
        for number, (where, labels, kinds, roles, reason) in enumerate(DEVIATIONS):
            if where == op and fits(labels, label) and fits(kinds, kind) and fits(roles, role):
                self.seen.add(number)
                if reason not in self.results[op].deviations:
                    self.results[op].deviations.append(reason)
                return False
        self.failures.append(f"{op}, sample “{label}”, inputs {kind}, {role}: relative error {error:.1e}")
        return False

    def sample(self, op, label, kind, roles):
        result = self.results[op]
        if kind == DRAWN:
            result.samples += 1
        else:
            result.special += 1
        given = numbered(roles, "input.")
        active = [i for i, x in enumerate(given) if f"gradient.{i}" in roles]
        inputs = [x.clone().requires_grad_(i in active) for i, x in enumerate(given)]
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the others lose NaN
                expression, output = evaluated(op, label, inputs)
            gradients = []
            if active:
                gradients = torch.autograd.grad(
                    output, [inputs[i] for i in active], roles["cotangent"], allow_unused=True
                )
        except (RuntimeError, IndexError, ValueError) as refusal:
            key = (op, label)
            if key in REFUSED:
                self.seen.add(key)
                result.deviations.append(REFUSED[key])
            else:
                self.failures.append(f"{op}, sample “{label}”, inputs {kind}: PyTorch refuses: {refusal}")
            return
        if expression not in result.expressions:
            result.expressions.append(expression)
        error = difference(roles["output"], output.detach())
        if self.check(op, label, kind, "output", error) and kind == DRAWN:
            result.output = max(result.output, error)
        for i, theirs in zip(active, gradients):
            ours = roles[f"gradient.{i}"]
            if theirs is None:
                # PyTorch sees no dependence: a gradient of zeros.
                theirs = torch.zeros_like(ours)
            error = difference(ours, theirs)
            if self.check(op, label, kind, f"gradient {i}", error) and kind == DRAWN:
                result.gradient = max(result.gradient or 0.0, error)

    def run(self, samples):
        for op in samples:
            if op not in OPS and op not in WITHOUT:
                self.failures.append(f"{op}: neither an expression nor a reason to have none")
            if op not in OPS:
                continue
            for label, kinds in samples[op].items():
                if (op, label) in WITHOUT:
                    self.results[op].deviations.append(f"Not compared: “{label}”; {WITHOUT[op, label]}.")
                    continue
                for kind in sorted(kinds, key=lambda kind: kind != DRAWN):
                    self.sample(op, label, kind, kinds[kind])
        for number, deviation in enumerate(DEVIATIONS):
            if number not in self.seen and deviation[0] in samples:
                self.failures.append(f"a deviation is listed, but does not occur: {deviation}")
        for key in REFUSED:
            if key not in self.seen and key[0] in samples:
                self.failures.append(f"a refusal is listed, but does not occur: {key}")


def fits(pattern, name):
    return pattern is None or name in pattern.split("|")


HEAD = """\
# Ops against PyTorch

Every op of the catalogue on the samples that `fovea gradcheck` uses, and the same in PyTorch {torch}, in float64: the output,
and the gradient of Σ⟨output, cotangent⟩ for every floating-point input. `Tests/Reference/ops_against_torch.py`
wrote this page; it fails where an op is neither compared nor said to have no counterpart, where one differs and no
reason is listed, and where a listed deviation does not occur.

An error is max|Fovea − PyTorch| / max|PyTorch|, the worst of all samples. Accepted are 1e-12 for ops that work element
by element or move elements, and 1e-9 for the others, whose sums are added in another order. *Special* counts the same
samples with whole numbers (ties and zeros), zeros, one NaN, one ∞, one −∞, and −∞ alone as inputs: NaN and infinities
must then stand in the same places, in gradients too.

{ops} ops and {samples} samples are compared, and {special} with special values. The worst error of an output is
{output:.1e}, of a gradient {gradient:.1e}.
"""


def written(result, torch_version):
    rows = sorted(result.results.items(), key=lambda row: row[0].lower())
    found = result.results.values()
    lines = [
        HEAD.format(
            torch=torch_version.split("+")[0],
            ops=len(rows),
            samples=sum(r.samples for r in found),
            special=sum(r.special for r in found),
            output=max(r.output for r in found),
            gradient=max(r.gradient or 0 for r in found),
        ),
        "| op | samples | special | output | gradient | in PyTorch |",
        "|---|--:|--:|--:|--:|---|",
    ]

    def number(error):
        return "–" if error is None else "0" if error == 0 else f"{error:.0e}"

    for op, r in rows:
        code = "<br>".join(f"`{expression}`".replace("|", "\\|") for expression in r.expressions[:2])
        more = f"<br>and {len(r.expressions) - 2} more" if len(r.expressions) > 2 else ""
        lines.append(f"| {op} | {r.samples} | {r.special} | {number(r.output)} | {number(r.gradient)} | {code}{more} |")
    lines += ["", "## Where results differ", ""]
    lines += [f"- **{op}**: {text}" for op, r in rows for text in r.deviations]
    lines += ["", "## Where calls differ", ""]
    lines += [f"- **{op}**: {text}" for op, text in sorted(CALLS.items(), key=lambda call: call[0].lower())]
    lines += ["", "## Without counterpart", ""]
    lines += [f"- **{op}**: {text}." for op, text in WITHOUT.items() if isinstance(op, str)]
    return "\n".join(lines) + "\n"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description="Compares every op with PyTorch.")
    parser.add_argument("export", type=pathlib.Path, help="what fovea gradcheck --export wrote")
    parser.add_argument("--table", type=pathlib.Path, default=root / "docs/ops-against-pytorch.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    comparison = Comparison()
    comparison.run(read(arguments.export))
    for failure in comparison.failures:
        print(failure, file=sys.stderr)
    text = written(comparison, torch.__version__)
    if comparison.failures:
        print(f"{len(comparison.failures)} failures; the table is not written", file=sys.stderr)
        sys.exit(1)
    arguments.table.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
