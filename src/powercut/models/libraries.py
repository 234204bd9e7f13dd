"""Which libraries are installed; what the transformers-based files share: the lazy import, quiet loading."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from powercut.errors import EngineError, one_line

INSTALL = "pip install 'powercut[transformers]'"
INSTALL_LLAMA = "pip install 'powercut[llama]'"


def have_libraries() -> bool:
    """Whether all that the transformers extra brings is installed; imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "accelerate", "gguf"))


def have_llama() -> bool:
    """Whether llama.cpp is installed, as the llama extra brings it; imports nothing."""
    return importlib.util.find_spec("llama_cpp") is not None


def libraries() -> tuple[Any, Any]:
    """Import torch and transformers. Raises EngineError, with the pip command, where they are missing."""
    try:
        return importlib.import_module("torch"), importlib.import_module("transformers")
    except ImportError as error:
        raise EngineError(f"loading a model needs torch and transformers ({one_line(error)}): {INSTALL}") from error


def cache_name(model: Any) -> str:
    """How ``model`` calls the cache that it takes and returns: ``cache`` from transformers 5.24 on."""
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in ("past_key_values", "cache_params") if name in parameters), "cache")


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Mute transformers' log below errors, and its progress bars unless ``bars``; put everything back afterwards."""
    logging = importlib.import_module("transformers.utils.logging")
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars and not bars:
            logging.enable_progress_bar()
