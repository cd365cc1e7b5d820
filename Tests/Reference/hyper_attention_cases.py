#!/usr/bin/env python3
"""Writes the parity cases of hyper attention, from its equations.

    python3 hyper_attention_cases.py

The code that came with mPLUG-Owl3's weights is no package. This follows its steps sample by sample and token by token,
each token over the keys that it sees, without masks; `mplug-owl3-*.a` come from another program.
"""

import torch
from torch.nn import functional

import cases


def rms_norm(x, weight, epsilon):
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight


def rotated(x, position, base):
    """One vector per head [H, d] at a position; pairs are the halves of a head."""
    half = x.shape[-1] // 2
    angle = position * base ** (-torch.arange(half, dtype=x.dtype) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def looked(query, keys, values):
    """Query [H, d] at keys and values, lists of [G, d]: [H, d]."""
    share = query.shape[0] // keys[0].shape[0]
    keys, values = (torch.stack(x, 1).repeat_interleave(share, 0) for x in (keys, values))  # [H, M, d]
    scores = torch.einsum("hd,hmd->hm", query, keys) / query.shape[-1] ** 0.5
    return torch.einsum("hm,hmd->hd", scores.softmax(-1), values)


def hyper_attention(config, fusion):
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    base = config.get("rope_theta", 10_000.0)
    shift, sees_own = {"features": (1, False), "joint": (0, True), "tokens": (0, False)}[fusion]

    def run(w, inputs):
        def projected(x, name, count):
            y = functional.linear(x, w[f"self_attn.{name}.weight"], w.get(f"self_attn.{name}.bias"))
            return y.reshape(*y.shape[:-1], count, -1)

        epsilon = config.get("rms_norm_eps", 1e-6)
        text = rms_norm(inputs["hidden_states"], w["input_layernorm.weight"], epsilon)
        images = rms_norm(inputs["image_embeds"], w["input_layernorm.weight"], epsilon)
        q, k, v = (projected(text, name, n) for name, n in [("q_proj", heads), ("k_proj", groups), ("v_proj", groups)])
        both = projected(images, "v_kv_proj", groups)  # for each head its key and its value
        following, samples = 0, []
        for sample, table in enumerate(inputs["media_starts"].tolist()):
            starts = [start for start in table if start >= 0]
            own = range(following, following + len(starts))
            following += len(starts)
            turned = [rotated(x, position, base) for position, x in enumerate(k[sample])]
            rows = []
            for t in range(text.shape[1]):
                query = rotated(q[sample, t], t, base)
                seen = [(start, image) for start, image in zip(starts, own) if t > start or (sees_own and t == start)]
                picture_keys = [rotated(x[:, :width], start + shift, base) for start, image in seen for x in both[image]]
                picture_values = [x[:, width:] for _, image in seen for x in both[image]]
                text_keys, text_values = turned[:t + 1], list(v[sample, :t + 1])
                if fusion == "joint":
                    row = looked(query, picture_keys + text_keys, picture_values + text_values)
                else:
                    row = looked(query, text_keys, text_values)
                    if seen:
                        if fusion == "features":
                            gate = w["self_attn.gate"].sigmoid().reshape(heads, width)
                        else:
                            gate = (row.flatten() @ w["self_attn.gate_proj.weight"][0]).sigmoid()
                        row = row * (1 - gate) + looked(query, picture_keys, picture_values) * gate
                rows.append(row.flatten())
            samples.append(torch.stack(rows))
        return functional.linear(torch.stack(samples), w["self_attn.o_proj.weight"])
    return run


def write(name, config, fusion, starts, length, tokens, seed, prefix=""):
    normal = cases.numbers(seed)
    D, H, G = (config[key] for key in ["hidden_size", "num_attention_heads", "num_key_value_heads"])
    d = D // H

    def linear(name, outputs, bias=True):
        made = {f"self_attn.{name}.weight": normal(outputs, D) / D ** 0.5}
        return {**made, f"self_attn.{name}.bias": 0.5 * normal(outputs)} if bias else made

    weights = {"input_layernorm.weight": 1 + 0.3 * normal(D), **linear("q_proj", H * d), **linear("k_proj", G * d),
               **linear("v_proj", G * d), **linear("o_proj", D, bias=False), **linear("v_kv_proj", 2 * G * d)}
    if fusion == "features":
        weights["self_attn.gate"] = normal(H * d)
    if fusion == "tokens":
        weights.update(linear("gate_proj", 1, bias=False))
    starts = torch.tensor(starts, dtype=torch.int64)
    inputs = {"hidden_states": normal(starts.shape[0], length, D),
              "image_embeds": normal(int((starts >= 0).sum()), tokens, D), "media_starts": starts}
    cases.write(name, config, hyper_attention(config, fusion), weights, inputs, output="attention_output",
                prefix=prefix, seed=seed)


def main():
    torch.set_num_threads(1)
    grouped = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "rope_theta": 1e6}
    single = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5}
    # A picture before all text, one without pictures, two in a row, one behind which nothing comes.
    ragged = [[0, 4, 5], [-1, -1, -1], [2, 7, -1], [3, -1, -1]]
    for layout, fusion, seed in [("mplug-owl3-240728", "features", 71), ("mplug-owl3-241101", "joint", 72),
                                 ("paper", "tokens", 73)]:
        write(f"hyper-attention.{layout}.b", grouped, fusion, ragged, 8, 5, seed,
              prefix="language_model.model.layers.8.")
        write(f"hyper-attention.{layout}.c", single, fusion, [[1, 2], [0, -1]], 3, 1, seed + 10)
    write("hyper-attention.paper.a", {**single, "num_key_value_heads": 2}, "tokens", [[1, 4]], 7, 3, 91)


if __name__ == "__main__":
    main()
