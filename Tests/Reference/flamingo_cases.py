#!/usr/bin/env python3
"""Writes parity cases of the Perceiver Resampler and of gated cross-attention, each computed by the published code.

    python3 flamingo_cases.py [NAME …]

NAME picks cases by the beginning of their names; all of them unless given. Needs open_flamingo and flamingo_pytorch (see
README.md) besides transformers. Of the paper's own resampler no code has been published: its case is computed by the
class below, written from the paper's pseudo-code (Flamingo, appendix A.1.1).
"""

import sys

import torch
from torch import nn

import cases
import published


def pattern(*rows):
    """A mask from rows of 0 and 1."""
    return torch.tensor([[int(mark) for mark in row] for row in rows], dtype=torch.bool)


class PaperResampler(nn.Module):
    """Time embeddings, one norm for keys and values, squared ReLU, no norm at the end."""

    def __init__(self, width, depth, heads, headWidth, latents, maxFrames):
        super().__init__()
        self.heads = heads
        self.latents = nn.Parameter(torch.zeros(latents, width))
        self.frameEmbeddings = nn.Parameter(torch.zeros(maxFrames, width))
        inner = heads * headWidth

        def layer():
            attention = nn.ModuleDict({
                "query": nn.Linear(width, inner, bias=False), "key": nn.Linear(width, inner, bias=False),
                "value": nn.Linear(width, inner, bias=False), "output": nn.Linear(inner, width, bias=False)})
            feed_forward = nn.ModuleDict({
                "expand": nn.Linear(width, 4 * width, bias=False), "contract": nn.Linear(4 * width, width, bias=False)})
            return nn.ModuleDict({
                "mediaNorm": nn.LayerNorm(width), "latentNorm": nn.LayerNorm(width), "attention": attention,
                "feedForwardNorm": nn.LayerNorm(width), "feedForward": feed_forward})

        self.layers = nn.ModuleList(layer() for _ in range(depth))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        frames, known = x.shape[2], self.frameEmbeddings
        if frames > len(known):
            known = nn.functional.interpolate(
                known.T[None], size=frames, mode="linear", align_corners=True)[0].T
        x = x + known[:frames, None]
        media = x.flatten(2, 3).flatten(0, 1)
        z = self.latents.expand(len(media), -1, -1)
        for layer in self.layers:
            attention = layer["attention"]
            context = layer["mediaNorm"](torch.cat([media, z], dim=1))
            q = self.split(attention["query"](layer["latentNorm"](z)))
            k, v = self.split(attention["key"](context)), self.split(attention["value"](context))
            weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
            z = z + attention["output"]((weights @ v).transpose(1, 2).flatten(2))
            inside = torch.relu(layer["feedForward"]["expand"](layer["feedForwardNorm"](z))) ** 2
            z = z + layer["feedForward"]["contract"](inside)
        return z.unflatten(0, x.shape[:2])


def write(name, config, module, inputs, call=None, output="latents", prefix="", seed=0):
    weights = cases.random_weights(module, cases.numbers(seed))
    cases.write(name, config, cases.of_module(module, call), weights, inputs, output, prefix, seed)


def resampler():
    from transformers import Idefics2Config, IdeficsConfig
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler
    from transformers.models.idefics2.configuration_idefics2 import Idefics2PerceiverConfig
    from transformers.models.idefics2.modeling_idefics2 import Idefics2Connector, Idefics2PerceiverResampler

    normal = cases.numbers(51)
    sizes = {"embed_dim": 10, "depth": 2, "n_heads": 3, "head_dim": 4, "n_latents": 5}
    module = IdeficsPerceiverResampler(
        IdeficsConfig(vision_config={"embed_dim": 10}, perceiver_config={"qk_layer_norms_perceiver": True}), **sizes)
    write("perceiver-resampler.idefics.b", {**sizes, "qk_layer_norms_perceiver": True}, module,
          {"context": normal(3, 7, 10)}, prefix="model.perceiver_resampler.", seed=51)

    # One sample without any real token; as many key heads as heads; another activation.
    sizes = {"hidden_size": 6, "resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 2,
             "num_key_value_heads": 2, "resampler_head_dim": 5, "rms_norm_eps": 1e-5,
             "hidden_act": "gelu_pytorch_tanh"}
    module = Idefics2PerceiverResampler(Idefics2PerceiverConfig(**sizes, attn_implementation="eager"))
    write("perceiver-resampler.idefics2.b", sizes, module,
          {"context": normal(2, 4, 6), "attention_mask": pattern("0000", "1011")},
          lambda module, inputs: module(inputs["context"], inputs["attention_mask"]), seed=52)

    sizes = {"hidden_size": 8, "resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 4,
             "num_key_value_heads": 1, "resampler_head_dim": 3, "rms_norm_eps": 1e-6}
    config = Idefics2Config(
        vision_config={"hidden_size": 5, "num_attention_heads": 1}, perceiver_config=sizes,
        text_config={"model_type": "mistral", "hidden_size": 8, "intermediate_size": 7, "num_attention_heads": 2,
                     "hidden_act": "silu"})
    config._attn_implementation = "eager"
    module = Idefics2Connector(config)
    write("perceiver-resampler.idefics2-connector.a",
          {**sizes, "vision_hidden_size": 5, "text_intermediate_size": 7}, module,
          {"image_hidden_states": normal(2, 5, 5), "attention_mask": pattern("11100", "11111")},
          lambda module, inputs: module(inputs["image_hidden_states"], inputs["attention_mask"]),
          prefix="model.connector.", seed=53)

    # More frames than embeddings, and fewer.
    sizes = {"width": 6, "depth": 2, "heads": 3, "headWidth": 2, "latents": 4, "maxFrames": 3}
    for tag, frames in [("a", 5), ("b", 2)]:
        write(f"perceiver-resampler.paper.{tag}", sizes, PaperResampler(**sizes), {"x": normal(2, 2, frames, 3, 6)},
              seed=54)

    from flamingo_pytorch import PerceiverResampler
    sizes = {"dim": 6, "depth": 2, "dim_head": 4, "heads": 2, "num_latents": 3, "num_media_embeds": 4, "ff_mult": 2}
    write("perceiver-resampler.flamingo-pytorch.a", sizes, PerceiverResampler(**sizes), {"x": normal(2, 3, 5, 6)},
          seed=55)


def cross_attention():
    from transformers import IdeficsConfig
    from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

    # Several media; a placeholder as the first token, media that nothing speaks of, two placeholders in a row.
    block = published.helpers().GatedCrossAttentionBlock
    sizes = {"dim": 6, "dim_visual": 5, "dim_head": 4, "heads": 3, "ff_mult": 2}
    normal = cases.numbers(61)
    inputs = {"x": normal(3, 7, 6), "media": normal(3, 4, 2, 5),
              "media_locations": pattern("1001010", "0000000", "0011000")}

    def call(module, inputs):
        return module(inputs["x"], inputs["media"], media_locations=inputs["media_locations"])

    write("gated-cross-attention.open-flamingo.b", sizes, block(**sizes), inputs, call, "hidden",
          prefix="lang_encoder.gpt_neox.layers.0.gated_cross_attn_layer.", seed=61)
    # All media before. Every text begins with one: without any, the published code averages all media.
    sizes = {**sizes, "only_attend_immediate_media": False}
    inputs = {**inputs, "media_locations": pattern("1001010", "1000000", "1011000")}
    write("gated-cross-attention.open-flamingo.c", sizes, block(**sizes), inputs, call, "hidden", seed=62)

    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 7, "qk_layer_norms": True,
             "alpha_type": "vector", "rms_norm_eps": 1e-5, "hidden_act": "gelu"}
    config = IdeficsConfig(**sizes, vision_config={"embed_dim": 5}, attn_implementation="eager")
    module = IdeficsGatedCrossAttentionLayer(config, layer_idx=0)
    normal = cases.numbers(63)
    mask = torch.stack([pattern("000000", "110000", "111111", "001100"), pattern("111000", "000111", "000000", "100001")])

    def idefics(module, inputs):
        visible = inputs["image_attention_mask"]
        states = inputs["hidden_states"]
        # The class takes the softmax in float32: a smaller number would become an infinity there.
        added = torch.zeros(visible.shape, dtype=states.dtype).masked_fill(~visible, torch.finfo(torch.float32).min)
        return module(states, image_hidden_states=inputs["image_hidden_states"], image_attention_mask=added[:, None],
                      cross_attention_gate=visible.any(-1).to(states.dtype))

    write("gated-cross-attention.idefics.b", {**sizes, "vision_embed_dim": 5}, module,
          {"hidden_states": normal(2, 4, 12), "image_hidden_states": normal(2, 6, 5), "image_attention_mask": mask},
          idefics, "hidden", prefix="model.gated_cross_attn_layers.1.", seed=63)


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    original = cases.write
    cases.write = lambda name, *rest, **named: (
        original(name, *rest, **named) if not wanted or any(name.startswith(start) for start in wanted) else None)
    resampler()
    cross_attention()


if __name__ == "__main__":
    main()
