"""Train the small language model of ``powercut study anchors``, or say how far one is from the law it was taught.

    python benchmarks/train_anchors.py                      # the model that comes with powercut
    python benchmarks/train_anchors.py OUT --minutes 9      # train another into the folder OUT

Prints KL(law || model) in nats a token, over fresh problems. A training that ends above 0.01 writes nothing: seeds
differ, so try another --seed, or more minutes. The labels are the law itself, not its draws, and the first part of the
training has no noise (no carry counted twice, no slip): then the walk is learned first.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from powercut.study.anchors.measure import SHIPPED
from powercut.study.anchors.task import END, IDS, PROMPT_LENGTH, VOCABULARY, Problems, solutions

MOST_KL = 0.01


def batch(rng, count, noise=1.0):
    """Problems with solutions ``[count, length]``, and the law of each of their solutions' tokens, as tensors."""
    problems = Problems.draw(rng, count)
    tokens, laws = solutions(rng, problems, noise)
    prompts = np.array([problems.prompt(i) for i in range(count)])
    return torch.from_numpy(np.concatenate((prompts, tokens), 1)), torch.from_numpy(laws).float()


def log_laws(model, tokens):
    """The model's log-probabilities at the tokens of solutions."""
    hidden = model.model(input_ids=tokens[:, :-1]).last_hidden_state[:, PROMPT_LENGTH - 1 :]
    return torch.log_softmax(model.lm_head(hidden), -1)


def divergence(model, rng, count):
    """KL(law || model), nats a token."""
    with torch.no_grad():
        tokens, laws = batch(rng, count)
        return float((torch.special.xlogy(laws, laws) - laws * log_laws(model, tokens)).sum(-1).mean())


def train(minutes, seed):
    """A model of 335 thousand parameters, trained for so long."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shape = {"vocab_size": len(VOCABULARY), "rope_theta": 1000.0, "tie_word_embeddings": False}
    shape |= {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": None}
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), rope_theta=1000.0, tie_word_embeddings=False, **shape, **heads, **ends
    )
    model = LlamaForCausalLM(config)
    rate = 3e-3
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    begin, step = time.monotonic(), 0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        scale = min(1.0, (step + 1) / 50) * (1 if done < 0.6 else max(0.02, 1 - (done - 0.6) / 0.4))
        for group in optimiser.param_groups:
            group["lr"] = rate * scale
        tokens, laws = batch(rng, 32, noise=float(done > 0.4))
        loss = -(laws * log_laws(model, tokens)).sum(-1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"{done:.0%}: step {step:,}, cross-entropy {loss.item():.4f} nats a token", flush=True)
    return model.eval()


def save(model, out):
    """The model and its tokenizer, one token a character."""
    model.save_pretrained(out)
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="$", unk_token="?").save_pretrained(out)


def main():
    """Train or check, and print the divergence; exit 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--problems", type=int, default=1000, help="those that the divergence is measured on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.out is None:
        model = LlamaForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
    else:
        model = train(options.minutes, options.seed)
    found = divergence(model, np.random.default_rng(2**32 + options.seed), options.problems)
    print(f"KL(law || model): {found:.5f} nats a token, over {options.problems:,} problems")
    if not found <= MOST_KL:
        sys.exit(f"error: above {MOST_KL} nats a token, nothing is written: try another --seed, or more --minutes")
    if options.out is not None:
        save(model, options.out)
        print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
