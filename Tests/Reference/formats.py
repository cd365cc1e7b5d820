"""Writes small files of every format with the libraries that own it: NumPy, and Python's safetensors.

    .venv/bin/python Tests/Reference/formats.py

The arrays are the same in every file: counts from 0 on, in the array's type; Tests/FoveaIOTests expects just that.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent.parent / "Fixtures" / "formats"
TYPES = ["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def counting(shape, dtype):
    array = np.arange(int(np.prod(shape))).reshape(shape)
    return (array % 2 if dtype.endswith("b1") else array).astype(dtype)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in TYPES:
        for order, mark in [("little", "<"), ("big", ">")]:
            np.save(FOLDER / f"{name}.{order}.npy", counting([2, 3], mark + name))
    np.save(FOLDER / "fortran.npy", np.asfortranarray(counting([2, 3, 4], "<f4")))
    np.save(FOLDER / "fortran.big.npy", np.asfortranarray(counting([2, 3, 4], ">i2")))
    for tag, shape in [("scalar", []), ("empty", [3, 0, 2]), ("vector", [5])]:
        np.save(FOLDER / f"{tag}.npy", counting(shape, "<f4"))
    for version in [(1, 0), (2, 0), (3, 0)]:
        with open(FOLDER / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, counting([4], "<f4"), version=version)

    # What Fovea does not hold.
    np.save(FOLDER / "object.npy", np.array([None, 1]), allow_pickle=True)
    np.save(FOLDER / "complex.npy", counting([2], "<c8"))
    np.save(FOLDER / "text.npy", np.array(["a", "bc"]))
    np.save(FOLDER / "fields.npy", np.zeros(2, [("größe", "<f4"), ("b", "<i2", (2,))]))

    arrays = {name: counting([2, 3], "<" + name) for name in TYPES}
    arrays |= {"a/b": counting([7], "<f4"), "größe": counting([], "<f8"), "none": counting([0, 2], "<f4")}
    np.savez(FOLDER / "stored.npz", **arrays)
    np.savez_compressed(FOLDER / "deflated.npz", **arrays, zeros=np.zeros([100, 100], "<f8"))
    np.savez(FOLDER / "nothing.npz")

    shards = FOLDER / "shards"
    shards.mkdir(exist_ok=True)
    files = {
        "model-00001-of-00002.safetensors": {"a": counting([2, 3], "<f4"), "b": counting([4], "<i8")},
        "model-00002-of-00002.safetensors": {"c.weight": counting([3], "<f2")},
    }
    for file, tensors in files.items():
        save_file(tensors, shards / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(t.nbytes for ts in files.values() for t in ts.values())},
        "weight_map": {name: file for file, tensors in files.items() for name in tensors},
    }
    (shards / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


main()
