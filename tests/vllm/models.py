"""Models for tests on a real vLLM, and what transformers says of their tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import powercut as pc
from powercut.engines.laws import NextTokenLaw, next_token_law
from tests.tiny import tiny_folder

TINY = {"vocab_size": 6, "hidden": 128, "heads": 4, "kv_heads": 2}  # vLLM has kernels for heads of 32 and more


def save_tiny(path: Path, **settings: Any) -> Path:
    """The folder of a random Llama of six tokens, stop token 0."""
    return tiny_folder(path, "llama", tokenizer=False, **{**TINY, **settings})


def load_tiny(path: Path, **options: Any) -> Any:
    """That, served by vLLM in this process."""
    return pc.load(f"vllm:{save_tiny(path)}", **{"skip_tokenizer_init": True, "kv_cache_memory_bytes": 2**28} | options)


@torch.inference_mode()
def forced(model: Any, prompt: np.ndarray, tokens: np.ndarray, *, top_k: int, temperature: float) -> pc.Trace:
    """The trace that ``tokens`` have by one forward pass of a transformers model."""
    ids = torch.tensor(np.concatenate((prompt, tokens)))[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    drawn = torch.tensor(tokens)[:, None]
    # A token drawn at rank K by a margin smaller than the noise may be at rank K+1 here.
    scores, top = logits.topk(top_k, dim=-1)
    law: NextTokenLaw = next_token_law(scores, torch.full((len(tokens),), temperature, dtype=torch.float64))
    found = top == drawn
    rank = torch.where(found.any(-1), found.int().argmax(-1), top_k - 1)[:, None]
    columns = (law.logp.gather(1, rank)[:, 0], law.logq.gather(1, rank)[:, 0], law.entropy)
    return pc.Trace(tokens, *(column.numpy() for column in columns))
