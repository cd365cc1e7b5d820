"""What the peers share: the sizes of the benchmarks, the clock, and the lines of JSON that they print.

A peer's script takes the name of one benchmark, as `fovea bench` has it, prepares the work and times it once; with
`--on-request` it times it again for every line on standard input, so that a comparison can take turns without paying
for imports and compilation each time. A library that is not installed is said in one line on standard error; the
script then ends with status 3.
"""

import argparse
import importlib.util
import json
import resource
import sys
import time

NOT_THERE = 3

# The names and sizes of `Sources/FoveaCLI/Bench/Benchmark.swift`.
RESAMPLERS = {
    "resampler-step.toy": dict(width=64, depth=2, heads=4, head_width=16, latents=8, batch=32, tokens=64),
    "resampler-step.mid": dict(width=256, depth=4, heads=8, head_width=32, latents=32, batch=8, tokens=196),
    "resampler-step.flamingo": dict(width=1024, depth=6, heads=8, head_width=64, latents=64, batch=2, tokens=256),
    "resampler-forward.flamingo": dict(width=1024, depth=6, heads=8, head_width=64, latents=64, batch=4, tokens=576),
}
DECODER = dict(width=256, depth=4, heads=8, hidden=704, vocabulary=512, batch=8, tokens=256)
ATTENTION = (4, 8, 1024, 64)
ROWS = (4096, 1024)
ADAMW = dict(tensors=32, shape=(1024, 1024))
OVERHEAD = dict(elements=8, operations=1000, factor=1.0001)
MATMUL = 2048
LEARNING_RATE, DECAY = 1e-4, 0.01
ROPE_BASE = 10_000.0

NAMES = [
    f"matmul.{MATMUL}", *RESAMPLERS, "decoder-step", "attention", "softmax", "layernorm", "gelu", "adamw", "overhead",
]


def require(peer, module):
    """Ends the script politely when the library is not installed."""
    if importlib.util.find_spec(module) is None:
        print(f"{peer} is skipped: the Python package {module} is not installed", file=sys.stderr)
        sys.exit(NOT_THERE)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--on-request", action="store_true", help="time once for each line on standard input")
    return parser.parse_args()


def measure(work, seconds):
    """Times of `work` in milliseconds, sorted; at least five."""
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 5:
        before = time.perf_counter()
        work()
        times.append((time.perf_counter() - before) * 1e3)
    return sorted(times)


def serve(peer, options, modes):
    """Times each mode, a pair of its name and a function that prepares the work and returns it.

    A mode is prepared when its turn first comes, so that the peak of memory that the first one reports is its own.
    """
    prepared = {}

    def time_all():
        for mode, prepare in modes:
            if mode not in prepared:
                prepared[mode] = prepare()
                for _ in range(2):
                    prepared[mode]()
            times = measure(prepared[mode], options.seconds)
            print(
                json.dumps(
                    {
                        "name": options.name,
                        "peer": peer,
                        "mode": mode,
                        "iterations": len(times),
                        "minMilliseconds": times[0],
                        "medianMilliseconds": times[len(times) // 2],
                        "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    }
                ),
                flush=True,
            )
        print(flush=True)  # an empty line ends a round

    if options.on_request:
        for _ in sys.stdin:
            time_all()
    else:
        time_all()
