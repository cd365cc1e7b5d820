"""The matrix products of one training step of each benchmark.

`python3 shapes.py` prints a line for each kind: step, product, how often a step computes it, whether A and B are
stored transposed, m, n, k of C[m, n] = A[m, k] · B[k, n].
"""


def linear(step, name, rows, outputs, inputs, count):
    """x · Wᵀ, and the gradients with respect to x and W."""
    yield step, name + ".forward", count, 0, 1, rows, outputs, inputs
    yield step, name + ".dx", count, 0, 0, rows, inputs, outputs
    yield step, name + ".dw", count, 1, 0, outputs, inputs, rows


def resampler(step, width, depth, heads, head_width, latents, batch, tokens):
    inner, rows, context = heads * head_width, batch * latents, batch * (tokens + latents)
    yield from linear(step, "query", rows, inner, width, depth)
    yield from linear(step, "key+value", context, inner, width, 2 * depth)
    yield from linear(step, "output", rows, width, inner, depth)
    yield from linear(step, "expand", rows, 4 * width, width, depth)
    yield from linear(step, "contract", rows, width, 4 * width, depth)


def decoder(step, width, depth, hidden, vocabulary, rows):
    yield from linear(step, "attention", rows, width, width, 4 * depth)
    yield from linear(step, "gate+up", rows, hidden, width, 2 * depth)
    yield from linear(step, "down", rows, width, hidden, depth)
    yield from linear(step, "head", rows, vocabulary, width, 1)


def all_products():
    yield from resampler("toy", 64, 2, 4, 16, 8, 32, 64)
    yield from resampler("mid", 256, 4, 8, 32, 32, 8, 196)
    yield from resampler("flamingo", 1024, 6, 8, 64, 64, 2, 256)
    yield from decoder("decoder", 256, 4, 704, 512, 2048)
    yield "square", "2048", 1, 0, 0, 2048, 2048, 2048


if __name__ == "__main__":
    for product in all_products():
        print(*product)
