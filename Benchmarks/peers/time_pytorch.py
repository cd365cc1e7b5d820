"""Times PyTorch, eager and compiled, on the work of one benchmark: see harness.py."""

import harness

harness.require("PyTorch", "torch")

import torch
import torch.nn.functional as F
from torch import nn


class Resampler(nn.Module):
    """The layers of open_flamingo's PerceiverResampler, with PyTorch's own fused attention."""

    def __init__(self, width, depth, heads, head_width, latents):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(ResamplerLayer(width, heads, head_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        z = self.latents.expand(x.shape[0], -1, -1)
        for layer in self.layers:
            z = layer(z, x)
        return self.norm(z)


class ResamplerLayer(nn.Module):
    def __init__(self, width, heads, head_width):
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm_media, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, z, x):
        n = self.norm_latents(z)
        keys, values = self.to_kv(torch.cat([self.norm_media(x), n], dim=1)).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(n), keys, values))
        attended = F.scaled_dot_product_attention(q, k, v)
        z = z + self.to_out(attended.transpose(1, 2).flatten(2))
        return z + self.feed_forward(z)


class Decoder(nn.Module):
    """A causal decoder in llama's form."""

    def __init__(self, width, depth, heads, hidden, vocabulary, tokens):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocabulary, bias=False)
        d = width // heads
        angles = torch.outer(torch.arange(tokens), harness.ROPE_BASE ** (-torch.arange(0, d, 2) / d)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.head(self.norm(x))


class DecoderLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin):
        n = self.attention_norm(x)
        q, k, v = (p(n).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        n = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


def rotated(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=harness.LEARNING_RATE, weight_decay=harness.DECAY, fused=True)


def training_step(model, loss):
    optimizer = adamw(model.parameters())

    def step():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def resampler(name, compile):
    sizes = dict(harness.RESAMPLERS[name])
    batch, tokens = sizes.pop("batch"), sizes.pop("tokens")
    model = Resampler(**sizes)
    x = torch.randn(batch, tokens, sizes["width"])
    target = torch.randn(batch, sizes["latents"], sizes["width"])
    if name.startswith("resampler-forward"):
        run = compile(model.eval())

        def forward():
            with torch.inference_mode():
                run(x)

        return forward
    return training_step(model, compile(lambda: F.mse_loss(model(x), target)))


def decoder(compile):
    sizes = dict(harness.DECODER)
    batch = sizes.pop("batch")
    model = Decoder(**sizes)
    tokens = torch.randint(sizes["vocabulary"], (batch, sizes["tokens"]))
    labels = torch.randint(sizes["vocabulary"], (batch * sizes["tokens"],))
    return training_step(model, compile(lambda: F.cross_entropy(model(tokens).flatten(0, 1), labels)))


def forward_and_backward(function, *operands):
    """The function's value and the gradients of its operands, against a fixed cotangent."""
    operands = [operand.requires_grad_() for operand in operands]
    cotangent = torch.randn_like(function(*operands))

    def run():
        function(*operands).backward(cotangent)
        for operand in operands:
            operand.grad = None

    return run


def optimizer_step(compile):
    parameters = [nn.Parameter(torch.randn(harness.ADAMW["shape"])) for _ in range(harness.ADAMW["tensors"])]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    if compile is eager:
        return adamw(parameters).step
    # The compiler fuses the loop over tensors itself.
    optimizer = torch.optim.AdamW(parameters, lr=harness.LEARNING_RATE, weight_decay=harness.DECAY, foreach=True)
    return compile(optimizer.step)


def chain(compile):
    x = torch.randn(harness.OVERHEAD["elements"], requires_grad=True)

    def multiply(x):
        for _ in range(harness.OVERHEAD["operations"]):
            x = x * harness.OVERHEAD["factor"]
        return x.sum()

    function = compile(multiply)

    def run():
        function(x).backward()
        x.grad = None

    return run


def eager(function):
    return function


def prepare(name, compile):
    torch.manual_seed(0)
    rows = harness.ROWS
    if name in harness.RESAMPLERS:
        return resampler(name, compile)
    if name == "decoder-step":
        return decoder(compile)
    if name == "attention":
        q, k, v = (torch.randn(harness.ATTENTION) for _ in range(3))
        return forward_and_backward(compile(F.scaled_dot_product_attention), q, k, v)
    if name == "softmax":
        return forward_and_backward(compile(lambda x: F.softmax(x, dim=-1)), torch.randn(rows))
    if name == "layernorm":
        weight, bias = torch.randn(rows[1]), torch.randn(rows[1])
        normalize = compile(lambda x, w, b: F.layer_norm(x, rows[1:], w, b))
        return forward_and_backward(normalize, torch.randn(rows), weight, bias)
    if name == "gelu":
        return forward_and_backward(compile(lambda x: F.gelu(x)), torch.randn(rows))
    if name == "adamw":
        return optimizer_step(compile)
    if name == "overhead":
        return chain(compile)
    a, b = torch.randn(harness.MATMUL, harness.MATMUL), torch.randn(harness.MATMUL, harness.MATMUL)
    return lambda: a @ b


if __name__ == "__main__":
    options = harness.arguments()
    torch.set_num_threads(options.threads)
    modes = [("eager", lambda: prepare(options.name, eager))]
    # A product is one call either way; the compiler would turn the chain of 1,000 calls, whose cost is asked, into one.
    if not options.name.startswith("matmul") and options.name != "overhead":
        modes.append(("compiled", lambda: prepare(options.name, torch.compile)))
    harness.serve("PyTorch", options, modes)
