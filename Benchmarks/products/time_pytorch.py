"""Times the products of shapes.py in PyTorch, on one thread or on as many as the argument says."""

import sys
import time

import torch

from shapes import all_products


def best(run):
    run()
    least, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < 0.2:
        before = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - before)
    return least


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    totals = {}
    for step, name, count, ta, tb, m, n, k in all_products():
        a = torch.randn(k, m).t() if ta else torch.randn(m, k)
        b = torch.randn(n, k).t() if tb else torch.randn(k, n)
        c = torch.empty(m, n)
        taken = best(lambda: torch.mm(a, b, out=c))
        totals[step] = totals.get(step, 0) + count * taken
        print(f"{step:9} {name:17} {m:5} {n:5} {k:5}  Gflop/s: {2e-9 * m * n * k / taken:6.1f}", flush=True)
    for step, total in totals.items():
        print(f"{step:9} all of a step, ms: {total * 1e3:.2f}")


if __name__ == "__main__":
    main()
