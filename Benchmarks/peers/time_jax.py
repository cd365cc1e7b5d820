"""Times JAX, compiled, on the work of one benchmark: see harness.py."""

import os

import harness

harness.require("JAX", "jax")

options = harness.arguments()
# The only handle on how many threads XLA takes: the cores it sees.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

import jax
import jax.numpy as jnp

keys = iter(jax.random.split(jax.random.key(0), 1000))


def normal(*shape):
    return jax.random.normal(next(keys), shape, jnp.float32)


def linear(inputs, outputs):
    return normal(outputs, inputs) / inputs**0.5


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def rms_norm(x, weight):
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


def affine(width):
    return jnp.ones(width), jnp.zeros(width)


def split(x, heads):
    """[B, N, H·d] → [B, N, H, d], the order that JAX's attention takes."""
    return x.reshape(*x.shape[:2], heads, -1)


def merge(x):
    return x.reshape(*x.shape[:2], -1)


def resampler_weights(width, depth, heads, head_width, latents):
    inner = heads * head_width
    return dict(
        latents=normal(latents, width),
        norm=affine(width),
        layers=[
            dict(
                media=affine(width), latents=affine(width), forward=affine(width), q=linear(width, inner),
                kv=linear(width, 2 * inner), out=linear(inner, width), expand=linear(width, 4 * width),
                contract=linear(4 * width, width),
            )
            for _ in range(depth)
        ],
    )


def resampler(weights, x, heads):
    z = jnp.broadcast_to(weights["latents"], (x.shape[0], *weights["latents"].shape))
    for layer in weights["layers"]:
        n = layer_norm(z, *layer["latents"])
        context = jnp.concatenate([layer_norm(x, *layer["media"]), n], axis=1)
        k, v = jnp.split(context @ layer["kv"].T, 2, axis=-1)
        q, k, v = (split(t, heads) for t in (n @ layer["q"].T, k, v))
        z = z + merge(jax.nn.dot_product_attention(q, k, v)) @ layer["out"].T
        hidden = jax.nn.gelu(layer_norm(z, *layer["forward"]) @ layer["expand"].T, approximate=False)
        z = z + hidden @ layer["contract"].T
    return layer_norm(z, *weights["norm"])


def decoder_weights(width, depth, hidden, vocabulary):
    return dict(
        embedding=normal(vocabulary, width),
        norm=jnp.ones(width),
        head=linear(width, vocabulary),
        layers=[
            dict(
                attention=jnp.ones(width), mlp=jnp.ones(width), q=linear(width, width), k=linear(width, width),
                v=linear(width, width), o=linear(width, width), gate=linear(width, hidden), up=linear(width, hidden),
                down=linear(hidden, width),
            )
            for _ in range(depth)
        ],
    )


def decoder(weights, tokens, cos, sin, heads):
    def rotated(x):
        a, b = jnp.split(x, 2, axis=-1)
        return x * cos + jnp.concatenate([-b, a], axis=-1) * sin

    x = weights["embedding"][tokens]
    for layer in weights["layers"]:
        n = rms_norm(x, layer["attention"])
        q, k, v = (split(n @ layer[name].T, heads) for name in "qkv")
        x = x + merge(jax.nn.dot_product_attention(rotated(q), rotated(k), v, is_causal=True)) @ layer["o"].T
        n = rms_norm(x, layer["mlp"])
        x = x + (jax.nn.silu(n @ layer["gate"].T) * (n @ layer["up"].T)) @ layer["down"].T
    return rms_norm(x, weights["norm"]) @ weights["head"].T


def adamw(weights, gradients, state):
    first, second, step = state
    step = step + 1
    tree = jax.tree_util.tree_map
    first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    corrected1, corrected2 = 1 - 0.9**step, 1 - 0.999**step
    weights = tree(
        lambda w, m, v: w * (1 - harness.LEARNING_RATE * harness.DECAY)
        - harness.LEARNING_RATE * (m / corrected1) / (jnp.sqrt(v / corrected2) + 1e-8),
        weights, first, second,
    )
    return weights, (first, second, step)


def fresh_state(weights):
    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    return zeros, jax.tree_util.tree_map(jnp.zeros_like, weights), jnp.zeros((), jnp.float32)


def training_step(weights, loss):
    @jax.jit(donate_argnums=(0, 1))
    def step(weights, state):
        value, gradients = jax.value_and_grad(loss)(weights)
        return value, *adamw(weights, gradients, state)

    held = [weights, fresh_state(weights)]

    def run():
        value, *held[:] = step(*held)
        jax.block_until_ready((value, held))

    return run


def forward_and_backward(function, *operands):
    """The function's value and the gradients of its operands, against a fixed cotangent."""

    @jax.jit
    def both(cotangent, *operands):
        value, pullback = jax.vjp(function, *operands)
        return value, pullback(cotangent)

    cotangent = normal(*jax.eval_shape(function, *operands).shape)
    return lambda: jax.block_until_ready(both(cotangent, *operands))


def prepare(name):
    if name in harness.RESAMPLERS:
        sizes = dict(harness.RESAMPLERS[name])
        batch, tokens, heads = sizes.pop("batch"), sizes.pop("tokens"), sizes["heads"]
        weights = resampler_weights(**sizes)
        x, target = normal(batch, tokens, sizes["width"]), normal(batch, sizes["latents"], sizes["width"])
        if name.startswith("resampler-forward"):
            forward = jax.jit(lambda weights, x: resampler(weights, x, heads))
            return lambda: jax.block_until_ready(forward(weights, x))
        return training_step(weights, lambda w: ((resampler(w, x, heads) - target) ** 2).mean())
    if name == "decoder-step":
        sizes = dict(harness.DECODER)
        batch, length, heads = sizes.pop("batch"), sizes.pop("tokens"), sizes.pop("heads")
        d = sizes["width"] // heads
        angles = jnp.outer(jnp.arange(length), harness.ROPE_BASE ** (-jnp.arange(0, d, 2) / d))
        angles = jnp.tile(angles, (1, 2))[:, None]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        tokens, labels = jax.random.randint(next(keys), (2, batch, length), 0, sizes["vocabulary"])

        def loss(weights):
            logs = jax.nn.log_softmax(decoder(weights, tokens, cos, sin, heads))
            return -jnp.take_along_axis(logs, labels[..., None], axis=-1).mean()

        return training_step(decoder_weights(**sizes), loss)
    if name == "attention":
        q, k, v = (normal(*harness.ATTENTION).swapaxes(1, 2) for _ in range(3))
        return forward_and_backward(jax.nn.dot_product_attention, q, k, v)
    if name == "softmax":
        return forward_and_backward(lambda x: jax.nn.softmax(x, axis=-1), normal(*harness.ROWS))
    if name == "layernorm":
        width = harness.ROWS[1]
        return forward_and_backward(layer_norm, normal(*harness.ROWS), normal(width), normal(width))
    if name == "gelu":
        return forward_and_backward(lambda x: jax.nn.gelu(x, approximate=False), normal(*harness.ROWS))
    if name == "adamw":
        weights = [normal(*harness.ADAMW["shape"]) for _ in range(harness.ADAMW["tensors"])]
        gradients = [normal(*harness.ADAMW["shape"]) for _ in range(harness.ADAMW["tensors"])]
        step = jax.jit(adamw, donate_argnums=(0, 2))
        held = [weights, fresh_state(weights)]

        def run():
            held[:] = step(held[0], gradients, held[1])
            jax.block_until_ready(held)

        return run
    if name == "overhead":

        def chain(x):
            for _ in range(harness.OVERHEAD["operations"]):
                x = x * harness.OVERHEAD["factor"]
            return x.sum()

        x, gradient = normal(harness.OVERHEAD["elements"]), jax.grad(chain)
        return lambda: jax.block_until_ready(gradient(x))
    a, b = normal(harness.MATMUL, harness.MATMUL), normal(harness.MATMUL, harness.MATMUL)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(a, b))


if __name__ == "__main__":
    # Call by call for the overhead of a call; compiled for all else.
    mode = "eager" if options.name == "overhead" else "compiled"
    harness.serve("JAX", options, [(mode, lambda: prepare(options.name))])
