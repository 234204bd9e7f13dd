"""How the vocabulary of a GGUF file cuts text before it merges bytes, where transformers does not read that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from powercut.errors import EngineError

AS_GPT2 = {"gpt-2", "mpt", "olmo", "jais", "phi-2"}
"""Names of GPT-2's rule, which transformers takes for every file with a name that it does not know."""

DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
"""Names of the rule by which each digit stands alone, and what is between them is cut as GPT-2 does."""


def mend_cuts(tokenizer: Any, gguf: Path) -> None:
    """Have a tokenizer that transformers made from ``gguf`` cut text as the file says.

    Raises EngineError where neither transformers nor this module knows the rule that the file names.
    """
    kind, rule = _said(gguf, "tokenizer.ggml.model", "tokenizer.ggml.pre")
    if kind != "gpt2" or rule in AS_GPT2 or rule in _known_to_transformers():
        return
    if rule not in DIGITS_APART:
        named = "without a name" if rule is None else f"named {rule}"
        raise EngineError(
            f"model: {gguf} cuts its text by a rule {named}, which transformers does not have: use the llama engine"
        )
    from tokenizers import pre_tokenizers

    digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])


def _known_to_transformers() -> set[str]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        return set()
    return set(GGUF_PRE_TOKENIZER_SPLITS)


def _said(gguf: Path, *keys: str) -> list[str | None]:
    """Texts among the file's metadata, None for those that are not there."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    fields = [reader.get_field(key) for key in keys]
    return [None if field is None else str(field.contents()) for field in fields]
