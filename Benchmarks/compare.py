"""Times Fovea and its peers in turn and prints the table of ratios: `make bench-peers`.

For each benchmark the peers that are installed stay ready in processes of their own. Each round times Fovea, then every
peer; a ratio is Fovea's best time over the peer's best of its modes, and the table gives the median over the rounds, so
that a machine whose speed drifts does not favour one side.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import harness

PEERS = {"PyTorch": "time_pytorch.py", "JAX": "time_jax.py", "MLX": "time_mlx.py"}


class Peer:
    """One peer's process, ready to time one benchmark again and again."""

    def __init__(self, script, name, options):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "peers" / script, name, "--on-request", "--threads", str(options.threads),
             "--seconds", str(options.seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def time(self):
        """One round: a measurement for each mode, or none when the peer is not there or fails."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return []
        measurements = []
        while line := self.process.stdout.readline().strip():
            measurements.append(json.loads(line))
        return measurements

    def close(self):
        """Ends the process; what it complained of, where it failed."""
        self.process.stdin.close()
        complaint = self.process.stderr.read().strip()
        return complaint.splitlines()[-1] if self.process.wait() != 0 and complaint else None


def fovea(name, options):
    process = subprocess.Popen(
        [options.fovea, "bench", name, "--json", "--threads", str(options.threads), "--seconds", str(options.seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(process.stderr.read().strip())
    # The peak of the whole process stands in for the pool's, as it does for the peers.
    return json.loads(output)[0] | {"peakBytes": usage.ru_maxrss * 1024}


def compare(name, options):
    """Fovea's measurements, for each peer its measurements round by round, and the peak of memory of PyTorch's process."""
    peers = {peer: Peer(script, name, options) for peer, script in PEERS.items() if peer in options.peers}
    # Peers prepare (and compile) in a round that does not count. The first mode's peak of memory does: later the same
    # process has compiled as well.
    first = {peer: process.time() for peer, process in peers.items()}
    ready = {peer: process for peer, process in peers.items() if first[peer]}
    peak = first["PyTorch"][0]["peakBytes"] if "PyTorch" in ready else None
    ours, theirs = [], {peer: [] for peer in ready}
    for _ in range(options.rounds):
        ours.append(fovea(name, options))
        for peer, process in ready.items():
            theirs[peer].append(process.time())
    for peer, process in peers.items():
        if complaint := process.close():
            print(f"{name}: {peer}: {complaint}", file=sys.stderr)
    return ours, theirs, peak


def best(measurements):
    return min(measurements, key=lambda m: m["minMilliseconds"])


def row(name, ours, theirs, peak, peers):
    cells = [name, f"{statistics.median(m['minMilliseconds'] for m in ours):.3f}"]
    for peer in peers:
        rounds = theirs.get(peer)
        if not rounds:
            cells += ["–", "–"]
            continue
        fastest = [best(measurements) for measurements in rounds]
        time = statistics.median(m["minMilliseconds"] for m in fastest)
        ratios = [m["minMilliseconds"] / f["minMilliseconds"] for m, f in zip(ours, fastest)]
        cells += [f"{time:.3f} {statistics.mode(f['mode'] for f in fastest)}", f"{statistics.median(ratios):.2f}"]
    peaks = [max(m["peakBytes"] for m in ours)] + ([peak] if peak else [])
    cells.append(" / ".join(f"{bytes / 2**20:.0f}" for bytes in peaks))
    return cells


def processor():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help="benchmarks (default: all)")
    parser.add_argument("--fovea", default=".build/release/fovea")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    options = parser.parse_args()
    print(f"{processor()}, {options.threads} threads, {datetime.date.today()}, {options.rounds} rounds\n")
    print("| benchmark | Fovea ms |" + "".join(f" {peer} ms | ratio |" for peer in options.peers) + " peak MiB, ours / PyTorch |")
    print("|---|--:|" + "--:|--:|" * len(options.peers) + "--:|")
    for name in options.names or harness.NAMES:
        print("| " + " | ".join(row(name, *compare(name, options), options.peers)) + " |", flush=True)


if __name__ == "__main__":
    main()
