"""Fine-tuned models that are kept as an adapter (LoRA) to another: what they are for, and merging them by peft."""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, one_line

ADAPTER_FILE = "adapter_config.json"
INSTALL_PEFT = "pip install peft"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of ``kind`` (LORA, ...) in the folder ``source``, to the model that ``base`` names."""

    source: str
    kind: str
    base: str


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter that a folder holds, None if it holds none. Raises EngineError for one that names no base model."""
    file = folder / ADAPTER_FILE
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return Adapter(str(folder), str(config["peft_type"]), str(config["base_model_name_or_path"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(f"model: {file} does not say which model it is an adapter to ({one_line(error)})") from error


def need_peft(adapter: Adapter) -> None:
    """Raise EngineError, with the command that installs it, where there is no peft."""
    if importlib.util.find_spec("peft") is None:
        raise EngineError(
            f"model: {adapter.source} holds an adapter ({adapter.kind}) for {adapter.base}, which takes peft: "
            f"{INSTALL_PEFT}"
        )


def merge(model: Any, adapter: Adapter) -> Any:
    """``model`` with the adapter's changes in its own weights. Raises EngineError if they do not fit in."""
    try:
        whole = importlib.import_module("peft").PeftModel.from_pretrained(model, adapter.source)
        return whole.merge_and_unload()
    except Exception as error:
        raise EngineError(
            f"model: the adapter ({adapter.kind}) in {adapter.source} cannot be merged into {adapter.base} "
            f"({one_line(error)})"
        ) from error
