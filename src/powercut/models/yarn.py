"""YaRN: rotary embeddings stretched, so that a model reads more tokens than it was trained on (arXiv 2309.00071)."""

from __future__ import annotations

from typing import Any

from powercut.errors import SettingError, quoted

LARGEST = 64.0


def yarn_changes(config: Any, factor: float) -> dict[str, Any]:
    """What to change in a transformers ``config`` so that the model reads ``factor`` times as many tokens.

    All tokens get the stretched embeddings, those of short texts too: the law of every completion changes a little.

    Raises SettingError for a factor that cannot be used, and for a model whose embeddings are not plain rotary ones.
    """
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 1 < factor <= LARGEST:
        raise SettingError(f"yarn must be a number above 1, at most {LARGEST:g} (got {quoted(factor)})")
    part = config.get_text_config()
    rope = getattr(part, "rope_parameters", None) or {}
    longest = getattr(part, "max_position_embeddings", None)
    if rope.get("rope_type") != "default" or not longest:
        kind = rope.get("rope_type") or "none, or several"
        raise SettingError(f"yarn stretches plain rotary embeddings, and this model has others ({kind}): leave it out")
    stretched = {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": longest}
    return {"rope_parameters": {**rope, **stretched}, "max_position_embeddings": int(longest * factor)}
