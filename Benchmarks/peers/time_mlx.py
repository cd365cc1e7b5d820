"""Times MLX on the processor, compiled, on the work of one benchmark: see harness.py."""

import harness

harness.require("MLX", "mlx")

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optimizers

# MLX has no setting for its threads on the processor: it takes what it takes.
mx.set_default_device(mx.cpu)


class Resampler(nn.Module):
    def __init__(self, width, depth, heads, head_width, latents):
        super().__init__()
        self.latents = mx.random.normal((latents, width))
        self.layers = [ResamplerLayer(width, heads, head_width) for _ in range(depth)]
        self.norm = nn.LayerNorm(width)

    def __call__(self, x):
        z = mx.broadcast_to(self.latents, (x.shape[0], *self.latents.shape))
        for layer in self.layers:
            z = layer(z, x)
        return self.norm(z)


class ResamplerLayer(nn.Module):
    def __init__(self, width, heads, head_width):
        super().__init__()
        inner = heads * head_width
        self.heads, self.scale = heads, head_width**-0.5
        self.norm_media, self.norm_latents, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)

    def __call__(self, z, x):
        n = self.norm_latents(z)
        k, v = mx.split(self.to_kv(mx.concatenate([self.norm_media(x), n], axis=1)), 2, axis=-1)
        q, k, v = (split(t, self.heads) for t in (self.to_q(n), k, v))
        attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        z = z + self.to_out(merge(attended))
        return z + self.contract(nn.gelu(self.expand(self.norm_forward(z))))


class Decoder(nn.Module):
    def __init__(self, width, depth, heads, hidden, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = [DecoderLayer(width, heads, hidden) for _ in range(depth)]
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class DecoderLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.rope = nn.RoPE(width // heads, base=harness.ROPE_BASE)
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def __call__(self, x):
        n = self.attention_norm(x)
        q, k, v = (split(p(n), self.heads) for p in (self.q, self.k, self.v))
        attended = mx.fast.scaled_dot_product_attention(
            self.rope(q), self.rope(k), v, scale=self.scale, mask="causal"
        )
        x = x + self.o(merge(attended))
        n = self.mlp_norm(x)
        return x + self.down(nn.silu(self.gate(n)) * self.up(n))


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge(x):
    return x.transpose(0, 2, 1, 3).flatten(2)


def training_step(model, loss):
    optimizer = optimizers.AdamW(harness.LEARNING_RATE, weight_decay=harness.DECAY, bias_correction=True)
    optimizer.init(model.trainable_parameters())
    held = [model.state, optimizer.state]
    loss_and_gradients = nn.value_and_grad(model, loss)

    def step():
        value, gradients = loss_and_gradients()
        optimizer.update(model, gradients)
        return value

    compiled = mx.compile(step, inputs=held, outputs=held)
    return lambda: mx.eval(compiled(), held)


def forward_and_backward(function, *operands):
    """The function's value and the gradients of its operands, against a fixed cotangent."""
    operands = list(operands)
    cotangent = mx.random.normal(function(*operands).shape)
    both = mx.compile(lambda *operands: mx.vjp(function, operands, [cotangent]))
    mx.eval(operands, cotangent)
    return lambda: mx.eval(both(*operands))


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.tensors = [mx.random.normal(harness.ADAMW["shape"]) for _ in range(harness.ADAMW["tensors"])]


def prepare(name):
    mx.random.seed(0)
    if name in harness.RESAMPLERS:
        sizes = dict(harness.RESAMPLERS[name])
        batch, tokens = sizes.pop("batch"), sizes.pop("tokens")
        model = Resampler(**sizes)
        x = mx.random.normal((batch, tokens, sizes["width"]))
        target = mx.random.normal((batch, sizes["latents"], sizes["width"]))
        mx.eval(model.parameters(), x, target)
        if name.startswith("resampler-forward"):
            forward = mx.compile(model)
            return lambda: mx.eval(forward(x))
        return training_step(model, lambda: (model(x) - target).square().mean())
    if name == "decoder-step":
        sizes = dict(harness.DECODER)
        batch, length = sizes.pop("batch"), sizes.pop("tokens")
        model = Decoder(**sizes)
        tokens, labels = (mx.random.randint(0, sizes["vocabulary"], (batch, length)) for _ in range(2))
        return training_step(model, lambda: nn.losses.cross_entropy(model(tokens), labels, reduction="mean"))
    if name == "attention":
        q, k, v = (mx.random.normal(harness.ATTENTION) for _ in range(3))
        scale = harness.ATTENTION[-1] ** -0.5
        attention = lambda q, k, v: mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)
        return forward_and_backward(attention, q, k, v)
    if name == "softmax":
        return forward_and_backward(lambda x: mx.softmax(x, axis=-1), mx.random.normal(harness.ROWS))
    if name == "layernorm":
        width = harness.ROWS[1]
        operands = (mx.random.normal(harness.ROWS), mx.random.normal((width,)), mx.random.normal((width,)))
        return forward_and_backward(lambda x, w, b: mx.fast.layer_norm(x, w, b, 1e-5), *operands)
    if name == "gelu":
        return forward_and_backward(nn.gelu, mx.random.normal(harness.ROWS))
    if name == "adamw":
        model = Weights()
        optimizer = optimizers.AdamW(harness.LEARNING_RATE, weight_decay=harness.DECAY, bias_correction=True)
        gradients = {"tensors": [mx.random.normal(harness.ADAMW["shape"]) for _ in model.tensors]}
        optimizer.init(model.trainable_parameters())
        held = [model.state, optimizer.state]
        mx.eval(held, gradients)
        step = mx.compile(lambda: optimizer.update(model, gradients), inputs=held, outputs=held)

        def run():
            step()
            mx.eval(held)

        return run
    if name == "overhead":

        def chain(x):
            for _ in range(harness.OVERHEAD["operations"]):
                x = x * harness.OVERHEAD["factor"]
            return x.sum()

        x, gradient = mx.random.normal((harness.OVERHEAD["elements"],)), mx.grad(chain)
        return lambda: mx.eval(gradient(x))
    a, b = (mx.random.normal((harness.MATMUL, harness.MATMUL)) for _ in range(2))
    mx.eval(a, b)
    return lambda: mx.eval(a @ b)


if __name__ == "__main__":
    options = harness.arguments()
    mode = "eager" if options.name == "overhead" else "compiled"
    harness.serve("MLX", options, [(mode, lambda: prepare(options.name))])
