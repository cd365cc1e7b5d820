"""A decoder of a released model's shapes: loading, reading a prompt, adding tokens; Fovea and transformers in one run.

    python3 Benchmarks/language_model.py --fovea .build/release/fovea

transformers writes random bfloat16 weights in shards to a temporary folder (about 1 GB). Fovea maps them and computes in
float32 on the weights as they are; transformers loads them as float32. Both read the same prompt and add the likeliest
tokens. The logits of the whole prompt are compared.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

# Qwen2-0.5B as published.
SIZES = dict(
    vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
    num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True,
)


def write_model(folder, layers):
    torch.manual_seed(0)
    config = Qwen2Config(**{**SIZES, "num_hidden_layers": layers})
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.02)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="300MB")


def run_transformers(folder, ids, added):
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    loaded = time.perf_counter() - start
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(prompt).logits
        start = time.perf_counter()
        out = model(prompt, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        read = time.perf_counter() - start
        text, cache = [token.item()], out.past_key_values
        start = time.perf_counter()
        for _ in range(added - 1):
            out = model(token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            text.append(token.item())
        decoded = time.perf_counter() - start
    return logits, dict(
        ids=text, loadSeconds=loaded, promptTokensPerSecond=len(ids) / read,
        addedTokensPerSecond=(added - 1) / decoded)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fovea", default=".build/release/fovea")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--added", type=int, default=32, help="tokens to add")
    parser.add_argument("--layers", type=int, default=SIZES["num_hidden_layers"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ids = torch.randint(0, SIZES["vocab_size"], (options.prompt,), generator=torch.Generator().manual_seed(1)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, options.layers)
        expected, theirs = run_transformers(folder, ids, options.added)
        logits = str(Path(folder) / "logits.out")
        done = subprocess.run(
            [options.fovea, "generate", folder, "--ids", ",".join(map(str, ids)), "--limit", str(options.added),
             "--threads", str(options.threads), "--warm-up", "--logits", logits, "--json"],
            check=True, capture_output=True, text=True)
        ours = json.loads(done.stdout)
        got = load_file(logits)["logits"]
    difference = ((got - expected).abs().max() / (1e-3 + expected.abs().max())).item()
    print(f"largest difference of the logits, relative to the largest: {difference:.2e}")
    print(f"same tokens added: {ours['ids'] == theirs['ids']}")
    print("| | Fovea | transformers |\n|---|--:|--:|")
    for key, name in [
        ("loadSeconds", "load, s"), ("promptTokensPerSecond", "read the prompt, tokens/s"),
        ("addedTokensPerSecond", "add tokens, tokens/s"),
    ]:
        print(f"| {name} | {ours[key]:.2f} | {theirs[key]:.2f} |")


if __name__ == "__main__":
    main()
