"""Times the resampler's training step against the number of visual tokens: prints a table, draws a plot.

    python3 Benchmarks/visual_tokens.py --output docs/images/visual-tokens.svg
"""

import argparse
import json
import math
import subprocess

TOKENS = [256, 512, 1024, 2048, 4096, 8192, 16384]
WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 640, 360, 64, 48, 24


def measure(fovea, threads):
    """The best time of a step in milliseconds, by the number of tokens."""
    names = [f"resampler-step.tokens-{tokens}" for tokens in TOKENS]
    done = subprocess.run([fovea, "bench", *names, "--json", "--threads", str(threads)], stdout=subprocess.PIPE, check=True)
    return {tokens: m["minMilliseconds"] for tokens, m in zip(TOKENS, json.loads(done.stdout))}


def fitted(times):
    """The line a + b * tokens with the least relative error."""
    w = {n: 1 / t**2 for n, t in times.items()}
    total = sum(w.values())
    mean_n, mean_t = (sum(w[n] * v for n, v in zip(times, values)) / total for values in (times, times.values()))
    slope = sum(w[n] * (n - mean_n) * (t - mean_t) for n, t in times.items()) / sum(
        w[n] * (n - mean_n) ** 2 for n in times
    )
    return mean_t - slope * mean_n, slope


def svg(times, line):
    """Both axes logarithmic; the line is the fitted one."""
    low_t, high_t = min(times.values()) / 1.5, max(times.values()) * 1.5

    def x(n):
        return LEFT + (WIDTH - LEFT - MARGIN) * math.log(n / TOKENS[0]) / math.log(TOKENS[-1] / TOKENS[0])

    def y(t):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - MARGIN) * math.log(t / low_t) / math.log(high_t / low_t)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{LEFT} {MARGIN}V{HEIGHT - BOTTOM}H{WIDTH - MARGIN}" fill="none" stroke="#888"/>',
    ]
    for n in TOKENS:
        parts.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n:,}</text>')
    decade = 10 ** math.floor(math.log10(low_t))
    for t in [decade * step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)]:
        if low_t < t < high_t:
            parts.append(f'<text x="{LEFT - 8}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>')
            parts.append(f'<path d="M{LEFT} {y(t):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
    points = " ".join(f"{x(n):.1f},{y(line[0] + line[1] * n):.1f}" for n in TOKENS)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#36c"/>')
    parts += [f'<circle cx="{x(n):.1f}" cy="{y(t):.1f}" r="4" fill="#36c"/>' for n, t in times.items()]
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">visual tokens</text>')
    parts.append(f'<text x="{LEFT + 8}" y="{MARGIN - 8}">milliseconds a training step</text></svg>')
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fovea", default=".build/release/fovea")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", default="docs/images/visual-tokens.svg")
    options = parser.parse_args()
    times = measure(options.fovea, options.threads)
    start, slope = line = fitted(times)
    print("| visual tokens | ms | ms per 1,000 tokens | the line |\n|--:|--:|--:|--:|")
    for n, t in times.items():
        print(f"| {n:,} | {t:.2f} | {1000 * t / n:.2f} | {start + slope * n:.2f} |")
    with open(options.output, "w") as file:
        file.write(svg(times, line))


if __name__ == "__main__":
    main()
