"""What a model's files say, checked before transformers reads them.

It builds whatever sizes a config claims, however long that takes, and passes over files that it cannot read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, one_line
from powercut.models.libraries import libraries

_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "adapter_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)

_COUNTS = re.compile(r"(layers?|blocks?|experts?)$")
"""Settings that say how many parts a model has, each with tensors of its own."""

FEW = 1000
"""So many parts are built in seconds, and then found to lack weights; for more, tensors are counted beforehand."""


def check_files(name: str, folder: Path) -> None:
    """Raise EngineError for what bears the name of a model's file and is none, and for an unreadable generation config.

    transformers would load the model without it: without its template, without the tokens that end its turns.
    """
    for file in _FILES:
        path = folder / file
        if (path.is_symlink() or path.exists()) and not path.is_file():
            raise EngineError(
                f"model: {name}: {file} is no file (a folder, a pipe or a link to nothing); download or save it again"
            )
    file = "generation_config.json"
    if (folder / file).is_file():
        try:
            if not isinstance(json.loads((folder / file).read_text(encoding="utf-8")), dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise EngineError(
                f"model: {name}: its {file} cannot be read ({one_line(error, 120)}); download or save it again"
            ) from error


def check_claims(name: str, config: dict[str, Any], folder: Path | None) -> None:
    """Raise EngineError for a config (as read from its file) that no model can have.

    ``folder`` holds the weights, None if they are not on this machine yet.
    """
    tensors = None
    for key, value in _settings(config):
        if isinstance(value, float) and math.isnan(value):
            raise EngineError(f"model: {name}: its config.json says {key}=NaN; download or save it again")
        if type(value) is int and value > FEW and _COUNTS.search(key):
            tensors = _count_tensors(folder) if tensors is None else tensors
            if value > tensors:
                raise EngineError(
                    f"model: {name}: its config.json says {key}={one_line(str(value), 40)}, more than its weights have "
                    f"tensors ({tensors}); download or save it again"
                )
    quantized = config.get("quantization_config")
    supports = libraries()[1].quantizers.AutoHfQuantizer.supports_quant_method
    if isinstance(quantized, dict) and not supports(quantized):
        raise EngineError(
            f"model: {name} is quantised by a method that transformers does not know "
            f"({one_line(str(quantized.get('quant_method')), 40)}): use another version of it"
        )


def check_built(name: str, model: Any) -> None:
    """Raise EngineError for a model whose config is that of none, as seen in what was computed from it."""
    torch, _ = libraries()
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if type(layers) is int and layers < 1:
        raise EngineError(f"model: {name}: its config.json says num_hidden_layers={layers}; download or save it again")
    for which, buffer in model.named_buffers():
        if buffer.is_floating_point() and bool((torch.isnan(buffer) | torch.isposinf(buffer)).any()):
            raise EngineError(f"model: {name}: {which} comes out NaN or infinite: check its config.json")


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """All settings and their values, of the parts of a config too."""
    left = [("", config)]
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, item) for item in value]
        else:
            yield key, value


def _count_tensors(folder: Path | None) -> int:
    """How many tensors a folder's safetensors files hold; those that cannot be read hold none."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in folder.glob("*.safetensors") if folder is not None else ():
        try:
            with safe_open(file, framework="pt") as weights:
                count += len(weights.keys())
        except (OSError, SafetensorError):
            continue
    return count
