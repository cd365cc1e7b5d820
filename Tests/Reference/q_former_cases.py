#!/usr/bin/env python3
"""Writes the parity cases of the Q-Former, computed by transformers and by LAVIS.

    python3 q_former_cases.py --lavis FOLDER

FOLDER is a clone of https://github.com/salesforce/LAVIS. Its `Qformer.py` is loaded by itself, and the losses are those
of `Blip2Qformer.forward`, run on one process with given image features and words.
"""

import argparse
import importlib.util
import pathlib
import sys
import types

import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call

import cases

SIZES = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12,
         "encoder_hidden_size": 6}


def attention_mask(*rows):
    return torch.tensor(rows, dtype=torch.int64)


def blip2():
    from transformers import Blip2QFormerConfig, Blip2QFormerModel
    image_mask = attention_mask([1, 1, 0, 1, 1], [1, 0, 0, 0, 0])
    text_mask = attention_mask([1, 1, 1, 1, 1], [1, 1, 1, 1, 0])
    variants = {
        # text behind three queries, padding, cross-attention in every layer; with a mask of the image features too, the
        # published class refuses text
        "b": ({"use_qformer_text_input": True, "cross_attention_frequency": 1, "query_length": 3}, 5,
              {"attention_mask": text_mask}, True),
        # text alone: no influence of cross-attention and of the queries' MLPs
        "c": ({"use_qformer_text_input": True, "hidden_act": "relu", "query_length": 0}, 4, {}, False),
        # cross-attention in every third layer, an odd MLP, queries without a text branch
        "d": ({"cross_attention_frequency": 3, "intermediate_size": 7, "hidden_act": "gelu_new",
               "layer_norm_eps": 1e-5}, 4, {"encoder_attention_mask": image_mask}, True),
        # a single layer; all of the tokens are queries although there is a text branch
        "e": ({"use_qformer_text_input": True, "num_hidden_layers": 1, "hidden_act": "silu"}, 2, {}, True),
    }
    for seed, (tag, (changes, count, masks, sees)) in enumerate(variants.items(), start=41):
        normal = cases.numbers(seed)
        config = {**SIZES, **changes}
        arguments = {key: value for key, value in config.items() if key != "query_length"}
        module = Blip2QFormerModel(Blip2QFormerConfig(**arguments)).eval()
        inputs = {"query_embeds": normal(2, count, SIZES["hidden_size"]), **masks}
        if sees:
            inputs["encoder_hidden_states"] = normal(2, 5, SIZES["encoder_hidden_size"])
        call = lambda module, inputs: module(**inputs, query_length=config.get("query_length")).last_hidden_state
        cases.write(f"q-former.blip2.{tag}", config, cases.of_module(module, call),
                    cases.random_weights(module, normal), inputs, output="last_hidden_state", seed=seed)


def connector():
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    class Connector(nn.Module):
        """The part of `Blip2ForConditionalGeneration` between the encoder and the language model."""
        def __init__(self):
            super().__init__()
            self.query_tokens = nn.Parameter(torch.zeros(1, 3, SIZES["hidden_size"]))
            self.qformer = Blip2QFormerModel(Blip2QFormerConfig(**SIZES))
            self.language_projection = nn.Linear(SIZES["hidden_size"], 5)

        def forward(self, image_embeds, image_attention_mask):
            queries = self.query_tokens.expand(image_embeds.shape[0], -1, -1)
            states = self.qformer(query_embeds=queries, encoder_hidden_states=image_embeds,
                                  encoder_attention_mask=image_attention_mask).last_hidden_state
            return self.language_projection(states)

    normal = cases.numbers(51)
    module = Connector().eval()
    cases.write("q-former-connector.blip2.a", {**SIZES, "num_query_tokens": 3, "text_hidden_size": 5},
                cases.of_module(module), cases.random_weights(module, normal),
                {"image_embeds": normal(2, 4, SIZES["encoder_hidden_size"]),
                 "image_attention_mask": attention_mask([1, 1, 1, 1], [1, 1, 0, 0])},
                output="language_model_inputs", prefix="model.", seed=51)


def lavis_qformer(lavis):
    """The module `Qformer.py` of LAVIS, which asks transformers for functions that have moved or gone."""
    from transformers import pytorch_utils
    modeling_utils = transformers.modeling_utils
    modeling_utils.apply_chunking_to_forward = pytorch_utils.apply_chunking_to_forward
    modeling_utils.find_pruneable_heads_and_indices = None
    modeling_utils.prune_linear_layer = None
    file_utils = types.ModuleType("transformers.file_utils")
    file_utils.ModelOutput = transformers.utils.ModelOutput
    sys.modules["transformers.file_utils"] = file_utils
    spec = importlib.util.spec_from_file_location(
        "lavis_qformer", lavis / "lavis" / "models" / "blip2_models" / "Qformer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # What PreTrainedModel offered then.
    base = module.BertPreTrainedModel
    base.init_weights = lambda self: None
    base.get_head_mask = lambda self, mask, layers: [None] * layers
    base.invert_attention_mask = lambda self, mask: (
        (1.0 - mask[:, None, None, :].to(self.dtype)) * torch.finfo(self.dtype).min)
    return module


def lavis_model(published, vocabulary=11, positions=7, queries=3):
    from transformers.models.bert.configuration_bert import BertConfig
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=SIZES["hidden_size"], num_hidden_layers=SIZES["num_hidden_layers"],
        num_attention_heads=SIZES["num_attention_heads"], intermediate_size=SIZES["intermediate_size"],
        max_position_embeddings=positions, layer_norm_eps=1e-12, pad_token_id=0)
    config.encoder_width = SIZES["encoder_hidden_size"]
    config.add_cross_attention = True
    config.cross_attention_freq = 2
    config.query_length = queries
    model = published.BertLMHeadModel(config).eval()
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    return model


def lavis_case(lavis):
    model = lavis_model(lavis_qformer(lavis))
    normal = cases.numbers(61)
    bert = model.bert
    all_weights = cases.random_weights(bert, normal)
    weights = {key: value for key, value in all_weights.items()
               if "word_embeddings" not in key and "position_" not in key}
    run_bert = cases.of_module(bert, lambda bert, inputs: bert(
        query_embeds=inputs["query_embeds"], encoder_hidden_states=inputs["encoder_hidden_states"],
        encoder_attention_mask=inputs["encoder_attention_mask"], return_dict=True).last_hidden_state)
    rest = {key: value for key, value in bert.state_dict().items() if key not in weights}

    def run(weights, inputs):
        return run_bert({**rest, **weights}, inputs)
    cases.write("q-former.lavis.a", {**SIZES, "use_qformer_text_input": True}, run, weights,
                {"query_embeds": normal(2, 3, SIZES["hidden_size"]),
                 "encoder_hidden_states": normal(2, 4, SIZES["encoder_hidden_size"]),
                 "encoder_attention_mask": attention_mask([1, 1, 1, 1], [1, 0, 1, 0])},
                output="last_hidden_state", prefix="Qformer.bert.", seed=61)


class Stage1(nn.Module):
    """`Blip2Qformer` without its vision encoder and tokenizer, on one process."""

    def __init__(self, published):
        super().__init__()
        self.Qformer = lavis_model(published)
        width = SIZES["hidden_size"]
        self.query_tokens = nn.Parameter(torch.zeros(1, 3, width))
        self.vision_proj = nn.Linear(width, 4)
        self.text_proj = nn.Linear(width, 4)
        self.itm_head = nn.Linear(width, 2)
        self.temp = nn.Parameter(0.07 * torch.ones([]))
        self.max_txt_len = 5


def losses(lavis):
    """The three losses of two pairs, where the negatives leave no choice, by the published `forward`."""
    normal = cases.numbers(71)
    module = Stage1(lavis_qformer(lavis)).eval()
    weights = {key: value for key, value in cases.random_weights(module, normal).items()
               if "position_ids" not in key and "predictions.decoder" not in key}
    weights["temp"] = torch.tensor(0.2)
    ids = torch.tensor([[7, 3, 5, 8, 0], [7, 4, 8, 0, 0]])
    tokens = normal(2, 4, SIZES["encoder_hidden_size"])

    outputs = {}
    F = torch.nn.functional

    class BlipOutput(types.SimpleNamespace):
        pass

    scope = {
        "torch": torch, "F": F, "dist": types.SimpleNamespace(get_rank=lambda: 0),
        "concat_all_gather": lambda x: x, "all_gather_with_grad": lambda x: x, "BlipOutput": BlipOutput,
    }
    forward = cases.methods(
        lavis / "lavis" / "models" / "blip2_models" / "blip2_qformer.py", ["forward"], scope)["forward"]

    class Tokens(types.SimpleNamespace):
        def to(self, device):
            return self

    class Tokenizer:
        bos_token_id, pad_token_id = 10, 0

        def __call__(self, text, **rest):
            return Tokens(input_ids=ids, attention_mask=(ids != 0).long())

    # `forward` needs these beside the parameters.
    Stage1.ln_vision = staticmethod(lambda x: x)
    Stage1.visual_encoder = staticmethod(lambda x: x)
    Stage1.tokenizer = Tokenizer()
    Stage1.forward = forward

    def run(image_ids):
        module.double()
        wide = {key: value.double().requires_grad_() for key, value in weights.items()}
        tied = dict(wide)
        tied["Qformer.cls.predictions.decoder.weight"] = wide["Qformer.bert.embeddings.word_embeddings.weight"]
        tied["Qformer.cls.predictions.decoder.bias"] = wide["Qformer.cls.predictions.bias"]
        samples = {"image": tokens.double(), "text_input": None}
        if image_ids is not None:
            samples["image_id"] = image_ids
        result = functional_call(module, tied, (samples,), tie_weights=False)
        return wide, result

    wide, result = run(None)
    gradients = torch.autograd.grad(result.loss, list(wide.values()), allow_unused=True)
    stored = {"weight." + key: value for key, value in weights.items()}
    stored |= {"gradient." + key: torch.zeros_like(wide[key]) if gradient is None else gradient
               for key, gradient in zip(wide, gradients)}
    stored |= {"tokens": tokens, "ids": ids}
    stored |= {name: getattr(result, name).detach() for name in ("loss_itc", "loss_itm", "loss_lm")}
    _, same = run(torch.tensor([4, 4]))
    stored["loss_itc_same_image"] = same.loss_itc.detach()
    folder = cases.FIXTURES / "q-former-objectives"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in stored.items()}, folder / "lavis.safetensors")
    print("wrote q-former-objectives:", {key: float(stored[key]) for key in stored if key.startswith("loss")})


def main():
    parser = argparse.ArgumentParser(description="Writes the parity cases of the Q-Former.")
    parser.add_argument("--lavis", required=True, type=pathlib.Path, help="a clone of LAVIS")
    lavis = parser.parse_args().lavis
    blip2()
    connector()
    lavis_case(lavis)
    losses(lavis)


if __name__ == "__main__":
    main()
