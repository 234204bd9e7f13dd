"""The kinds of memory that models have in llama.cpp: a tiny random model of each, and what the engine says of it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

import powercut as pc
from tests.families import tiny_family
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model

EXACT = {"type_k": "f32", "type_v": "f32", "flash_attn_type": 0}


class Kind(NamedTuple):
    """How its model is made; further facts in the file; options of the engine; why its memory cannot be cut."""

    make: Callable[..., Any]
    facts: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    uncut: str | None = None


KINDS = {
    "full": Kind(functools.partial(tiny_model, "llama")),
    "three-positions": Kind(  # of an image's tokens; those of text are one and the same
        functools.partial(tiny_model, "qwen2"),
        {"architecture": "qwen2vl", "rope__dimension_sections": [2, 1, 1, 0]},
    ),
    "window": Kind(functools.partial(tiny_family, "olmo3"), {"architecture": "olmo2"}),
    "window-alone": Kind(
        functools.partial(tiny_family, "olmo3"),
        {"architecture": "olmo2"},
        options={"swa_full": False},
        uncut="has layers that forget what is outside their window (swa_full=False)",
    ),
    "recurrent": Kind(functools.partial(tiny_model, "mamba"), uncut="has recurrent layers"),
    "hybrid": Kind(
        functools.partial(tiny_family, "jamba", num_experts=1, num_local_experts=1), uncut="has recurrent layers"
    ),
}


@functools.cache
def model(kind: str, vocab_size: int, seed: int = 10) -> Any:
    """The model of a kind in float64."""
    return KINDS[kind].make(vocab_size=vocab_size, dtype=torch.float64, seed=seed)


def load(folder: Path, kind: str, weights: Any, **options: Any) -> pc.Engine:
    """The engine on a model of that kind, by way of a file; it says how it decodes, in a warning if slowly."""
    file = folder / f"{kind}-{id(weights)}.gguf"
    if not file.exists():
        write_gguf(file, weights, **KINDS[kind].facts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = pc.load(str(file), **{**EXACT, **KINDS[kind].options, **options})
    uncut = KINDS[kind].uncut
    said = [] if uncut is None else [f"this model {uncut}: decoding without prefix reuse"]
    assert [str(warning.message) for warning in caught] == said
    assert engine.describe().endswith("in one batch" if uncut is None else "in one batch, without prefix reuse")
    return engine
