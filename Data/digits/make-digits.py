#!/usr/bin/env python3
"""Makes the IDX files of this folder from the digits that scikit-learn ships.

    python3 make-digits.py            write the six files beside this script
    python3 make-digits.py --check    write nothing; compare the files that are there, byte for byte

Needs scikit-learn (any version that still has `load_digits`). No random number generator is involved: the split
follows from SHA-256 and integer arithmetic alone, so every run writes the same bytes. README.md states the rule.
"""

import argparse
import hashlib
import pathlib
import struct
import sys

from sklearn.datasets import load_digits

# What the source must hold. A scikit-learn that ships other samples, or the same in another order, is refused.
SOURCE_COUNT = 1797
SOURCE_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"

# The number of samples of each split. Samples are dealt in this order; train takes what the others leave.
SPLITS = {"test": 450, "validation": 200, "train": 1147}


def load_source():
    """Returns the pictures (64 bytes each, row by row, values 0...16) and the labels 0...9, in the source's order."""
    digits = load_digits()
    pictures = []
    for values in digits.data.tolist():
        if len(values) != 64 or any(v != int(v) or not 0 <= v <= 16 for v in values):
            sys.exit("make-digits: the source holds a picture that is not 8x8 whole numbers from 0 to 16")
        pictures.append(bytes(int(v) for v in values))
    labels = [int(label) for label in digits.target]

    if len(pictures) != SOURCE_COUNT or len(labels) != SOURCE_COUNT:
        sys.exit(f"make-digits: expected {SOURCE_COUNT} samples, got {len(pictures)}")
    digest = hashlib.sha256(b"".join(pictures) + bytes(labels)).hexdigest()
    if digest != SOURCE_SHA256:
        sys.exit(f"make-digits: this scikit-learn ships other digits (SHA-256 {digest}, expected {SOURCE_SHA256})")
    return pictures, labels


def rank(index):
    """The place of a sample among its class: by the SHA-256 of a string that holds nothing but its index."""
    return hashlib.sha256(f"fovea-digits-{index}".encode("ascii")).digest()


def apportion(total, sizes):
    """Cuts `total` in proportion to `sizes` by the largest remainder; of equal remainders the lower class wins."""
    whole = sum(sizes)
    counts = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda c: (-(total * sizes[c] % whole), c))
    for c in by_remainder[: total - sum(counts)]:
        counts[c] += 1
    return counts


def split(labels):
    """Deals the indices of every class to the splits. Returns the indices of each split in the source's order."""
    members = [[] for _ in range(10)]
    for index, label in enumerate(labels):
        members[label].append(index)
    sizes = [len(m) for m in members]

    dealt = {name: [] for name in SPLITS}
    waiting = [sorted(m, key=rank) for m in members]
    for name, total in SPLITS.items():
        counts = [len(w) for w in waiting] if name == "train" else apportion(total, sizes)
        for c, count in enumerate(counts):
            # The exact share is total * size / SOURCE_COUNT: no class of any split may be a whole sample away from it.
            assert abs(count * SOURCE_COUNT - total * sizes[c]) < SOURCE_COUNT, (name, c)
            dealt[name] += waiting[c][:count]
            waiting[c] = waiting[c][count:]

    for name, total in SPLITS.items():
        assert len(dealt[name]) == total, name
    assert sorted(sum(dealt.values(), [])) == list(range(SOURCE_COUNT))
    return {name: sorted(indices) for name, indices in dealt.items()}


def encode(pictures, labels, splits):
    """The contents of the six files by name. IDX is big-endian: magic, one size for each dimension, the bytes."""
    files = {}
    for name in ("train", "validation", "test"):
        indices = splits[name]
        head = struct.pack(">IIII", 0x00000803, len(indices), 8, 8)
        files[f"{name}-images-idx3-ubyte"] = head + b"".join(pictures[i] for i in indices)
        head = struct.pack(">II", 0x00000801, len(indices))
        files[f"{name}-labels-idx1-ubyte"] = head + bytes(labels[i] for i in indices)
    return files


def main():
    parser = argparse.ArgumentParser(description="Makes the IDX files of the digits, or checks those that are there.")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent,
                        help="the folder of the files (default: the folder of this script)")
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    arguments = parser.parse_args()

    pictures, labels = load_source()
    splits = split(labels)
    print("split       " + "".join(f"{c:>6}" for c in range(10)) + "   all")
    for name in ("train", "validation", "test"):
        counts = [sum(labels[i] == c for i in splits[name]) for c in range(10)]
        print(f"{name:<12}" + "".join(f"{n:>6}" for n in counts) + f"{sum(counts):>6}")
    print()

    different = 0
    for name, content in encode(pictures, labels, splits).items():
        path = arguments.output / name
        verdict = ""
        if arguments.check:
            same = path.is_file() and path.read_bytes() == content
            different += not same
            verdict = "  same" if same else "  DIFFERENT"
        else:
            path.write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()}  {name}{verdict}")
    if different:
        sys.exit(f"make-digits: {different} of 6 files differ from what this script makes")


if __name__ == "__main__":
    main()
