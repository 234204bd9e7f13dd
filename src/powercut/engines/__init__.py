"""Engines: back ends that continue token ids. One file per back end; they know no sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from powercut.engines.base import Engine
from powercut.errors import SettingError


def _transformers(model: str | None, **options: Any) -> Engine:
    from powercut.engines.transformers import TransformersEngine  # torch is heavy, and an extra

    return TransformersEngine.load(model, **options)


ENGINES: dict[str, Callable[..., Engine]] = {"transformers": _transformers}
"""Loaders by the prefix that selects them, as in ``transformers:MODEL``. A new engine is one file and one line here."""


def load(model: str | None = None, **options: Any) -> Engine:
    """Load a model: a hub id, a local folder, or None for the bundled SmolLM2-135M-Instruct.

    ``PREFIX:MODEL`` selects another engine than transformers. ``options`` are the engine's own settings (for
    transformers: ``device``, ``dtype``, ``slots``, ``context_length``).

    Raises EngineError when the model or the engine's extra is missing, SettingError for an unusable option.
    """
    prefix, colon, rest = (model or "").partition(":")
    if colon and prefix in ENGINES:
        return _load(prefix, rest or None, options)
    return _load("transformers", model, options)


def _load(engine: str, model: str | None, options: dict[str, Any]) -> Engine:
    try:
        return ENGINES[engine](model, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise SettingError(f"the {engine} engine has no such option: {error}") from error
