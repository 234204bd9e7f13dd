"""Find a language model by its name: the bundled one, a local folder, a hub id. Importing this imports no torch."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from powercut.errors import EngineError, did_you_mean, one_line
from powercut.models.converting import DEFAULT_MODEL, HUB_ID, gguf_file
from powercut.models.libraries import libraries

_HUB_TIMEOUT = 5.0  # seconds; the hub's own file requests would retry for 20 s and more, each


class FoundModel(NamedTuple):
    """A model to load: ``source`` is its folder or hub id ("" for the bundled one); ``local``: nothing is fetched."""

    name: str
    source: str
    local: bool


def find_model(name: str | None) -> FoundModel:
    """Find the folder, the hub id or (None, ``"smollm2"``) the bundled model of that name.

    The bundled model stands in for its original where the hub cannot be reached, with a warning.
    Raises EngineError for a model that cannot be found.
    """
    name = os.fspath(name) if name is not None else DEFAULT_MODEL
    if name == DEFAULT_MODEL:
        return FoundModel(name, "", True)
    try:
        return FoundModel(name, *_find(name))
    except EngineError as error:
        if name != HUB_ID or gguf_file() is None:
            raise
        warnings.warn(f"{error}; loading that, the same model quantised to 4 bits", stacklevel=3)
        return FoundModel(DEFAULT_MODEL, "", True)


def gated(name: str) -> str:
    """What to do about a model that its owner has to grant access to."""
    return f"model: {name} is gated: ask for access on its hub page, then run `hf auth login`"


def _find(name: str) -> tuple[str, bool]:
    """Find what transformers is to load, and whether it is all on this machine. Raises EngineError soon if nothing."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EngineError(f"model: the folder {path} has no config.json; give one that save_pretrained wrote")
        return str(path), True
    if path.is_file():
        raise EngineError(f"model: {path} is a file; give the folder that holds config.json and the weights")
    libraries()
    return name, not _on_hub(name, path)


def _on_hub(name: str, path: Path) -> bool:
    """Whether the hub has the model; False if it is in the local cache only. Raises EngineError for neither."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError as error:
        raise EngineError(f"model: there is no folder {path}{_near(path)}") from error
    cause: Exception
    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT)
        return True
    except GatedRepoError as error:
        problem, cause = gated(name), error
    except RepositoryNotFoundError as error:
        problem = f"model: {name} is neither a local folder{_near(path)} nor on the hub"
        problem, cause = f"{problem} (a private one needs `hf auth login`)", error
    except Exception as error:
        problem = f"model: {name} is no local folder{_near(path)}, and the hub cannot be reached from here"
        problem, cause = f"{problem} ({one_line(error, 80)}); {DEFAULT_MODEL} needs no hub", error
    if not cached:
        raise EngineError(problem) from cause
    return False


def _near(path: Path) -> str:
    """`` (did you mean ...?)`` where a folder of nearly that name is beside the path."""
    try:
        folders = [str(entry) for entry in path.parent.iterdir() if (entry / "config.json").is_file()]
    except OSError:
        return ""
    return did_you_mean(str(path), folders)
