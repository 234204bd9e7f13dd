"""Find a language model by its name: the bundled one, a local folder, a hub id. Importing this imports no torch."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from powercut.errors import EngineError, did_you_mean, one_line
from powercut.models.adapters import ADAPTER_FILE, read_adapter
from powercut.models.converting import DEFAULT_MODEL, HUB_ID, gguf_file, gguf_folder
from powercut.models.gguf_files import is_gguf_file, local_path
from powercut.models.libraries import libraries

_HUB_TIMEOUT = 5.0  # seconds; the hub's own file requests would retry for 20 s and more, each


class FoundModel(NamedTuple):
    """A model to load: ``source`` is its folder or hub id ("" for the bundled one); ``local``: it is a folder."""

    name: str
    source: str
    local: bool


def find_model(name: str | None, *, adapters: bool = False) -> FoundModel:
    """Find the folder, the hub id or (None, ``"smollm2"``) the bundled model of that name; convert a GGUF file.

    A folder that holds an adapter is found if ``adapters`` can be dealt with.

    The bundled model stands in for its original where the hub cannot be reached, with a warning.
    Raises EngineError for a model that cannot be found.
    """
    name = os.fspath(name) if name is not None else DEFAULT_MODEL
    if name == DEFAULT_MODEL:
        return FoundModel(name, "", True)
    try:
        found = FoundModel(name, *_find(name, local_path(name)))
    except EngineError as error:
        if name != HUB_ID or gguf_file() is None:
            raise
        warnings.warn(f"{error}; loading that, the same model quantised to 4 bits", stacklevel=3)
        return FoundModel(DEFAULT_MODEL, "", True)
    if found.local and not adapters and (adapter := read_adapter(Path(found.source))) is not None:
        raise EngineError(
            f"model: {name} holds an adapter ({adapter.kind}) for {adapter.base}: give a folder into which it is "
            "merged, or use the transformers engine, which merges it"
        )
    return found


def gated(name: str) -> str:
    """What to do about a model that its owner has to grant access to."""
    return f"model: {name} is gated: ask for access on its hub page, then run `hf auth login`"


def _find(name: str, path: Path) -> tuple[str, bool]:
    """Find what transformers is to load, and whether it is all on this machine. Raises EngineError soon if nothing."""
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", ADAPTER_FILE)):
            raise EngineError(f"model: the folder {path} has no config.json; give one that save_pretrained wrote")
        return str(path), True
    if is_gguf_file(path):
        return str(gguf_folder(path)), True
    if path.is_file():
        raise EngineError(f"model: {path} is a file; give the folder that holds config.json and the weights")
    libraries()
    cached = _not_on_hub(name, path)
    return (name, False) if cached is None else (cached, True)


def _not_on_hub(name: str, path: Path) -> str | None:
    """The folder of the local cache that has the model if the hub does not; None if it does.

    Raises EngineError for neither.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise EngineError(f"model: there is no folder {path}{_near(path)}") from error
    cause: Exception
    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT)
        return None
    except GatedRepoError as error:
        problem, cause = gated(name), error
    except RepositoryNotFoundError as error:
        problem = f"model: {name} is neither a local folder{_near(path)} nor on the hub"
        problem, cause = f"{problem} (a private one needs `hf auth login`)", error
    except Exception as error:
        problem = f"model: {name} is no local folder{_near(path)}, and the hub cannot be reached from here"
        problem, cause = f"{problem} ({one_line(error, 80)}); {DEFAULT_MODEL} needs no hub", error
    if not isinstance(cached, str):
        raise EngineError(problem) from cause
    return str(Path(cached).parent)


def _near(path: Path) -> str:
    """`` (did you mean ...?)`` where a folder of nearly that name is beside the path."""
    try:
        folders = [str(entry) for entry in path.parent.iterdir() if (entry / "config.json").is_file()]
    except OSError:
        return ""
    return did_you_mean(str(path), folders)
