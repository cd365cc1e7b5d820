"""The own time of reducers within a decoder, as a share of the prefill that they save: prints a line for each method.

    python3 Benchmarks/own_time.py ficoco-l fastv --rounds 7

A round takes, one after the other, `prefill.none`, `prefill.NAME` under `perf record`, and `replay.NAME` likewise, in which as many
tokens go in the same layers and nobody decides which. Own time is the share of the samples of reading that fall into the reducer, less
that of the replay, and the median of the rounds: of times themselves the difference would drown in the noise. What is saved is the
difference of the best times of all rounds. Needs `perf`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

READING, REDUCING = "7reading_", "SeatedReducers"


def best(fovea, name, seconds, under=()):
    """The least milliseconds of a benchmark, run under another command."""
    command = [*under, fovea, "bench", name, "--seconds", str(seconds), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)[0]["minMilliseconds"]


def profiled(fovea, name, seconds, folder):
    """The same, and the share of the samples of reading that fall into the reducer."""
    data = os.path.join(folder, "perf.data")
    took = best(fovea, name, seconds, ["perf", "record", "-F", "4000", "-g", "-o", data])
    script = subprocess.run(
        ["perf", "script", "-i", data, "-F", "tid,ip,sym"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout.decode(errors="replace")
    reading = reducing = 0
    for sample in script.split("\n\n"):
        # Innermost first: what stands in front of the outermost call that reads was called by it.
        inside = sample.rfind(READING)
        if inside < 0:
            continue
        reading += 1
        reducing += REDUCING in sample[:inside]
    return took, reducing / max(1, reading)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("names", nargs="+", metavar="NAME", help="of `prefill.NAME` and `replay.NAME`")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=float, default=1.2, help="for each run")
    options.add_argument("--fovea", default=".build/release/fovea")
    options = options.parse_args()
    if not shutil.which("perf"):
        sys.exit("own_time.py: `perf` is not there; on Debian it is in the package linux-perf")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            shares, without, reading = [], [], []
            for _ in range(options.rounds):
                without.append(best(options.fovea, "prefill.none", options.seconds))
                took, share = profiled(options.fovea, f"prefill.{name}", options.seconds, folder)
                reading.append(took)
                shares.append(share - profiled(options.fovea, f"replay.{name}", options.seconds, folder)[1])
            share, took, saved = statistics.median(shares), min(reading), min(without) - min(reading)
            print(
                f"{name}: {100 * share:.2f} % of reading (rounds {' '.join(f'{100 * s:.2f}' for s in shares)}),",
                f"which takes {took:.0f} ms instead of {min(without):.0f}: {100 * share * took / saved:.1f} % of what is saved",
                flush=True,
            )


if __name__ == "__main__":
    main()
