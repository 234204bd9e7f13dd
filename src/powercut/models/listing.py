"""What can be loaded on this machine, and how: the rows of ``powercut models``."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from powercut.errors import EngineError, one_line
from powercut.models.adapters import need_peft, read_adapter
from powercut.models.converting import DEFAULT_MODEL, INSTALL_WHEEL, converted_folder, gguf_file
from powercut.models.finding import FoundModel
from powercut.models.gguf_files import caches, gguf_files_in, parts_of
from powercut.models.libraries import INSTALL, INSTALL_LLAMA, have_libraries, have_llama, libraries, quiet
from powercut.models.loading import check_config


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One row: ``name`` is what ``--model`` takes; ``kind`` is bundled, cached, gguf or any.

    ``available`` says that it loads as things stand, ``detail`` what it is, ``how`` the command that uses it, or that
    makes it available.
    """

    name: str
    kind: str
    available: bool
    detail: str
    how: str


def list_models(folder: Path | None = None) -> list[ModelInfo]:
    """List the bundled model, models and GGUF files in local caches and in ``folder``, and rows for all others.

    Never raises.
    """
    ready, llama = have_libraries(), have_llama()
    return [_bundled(ready, llama), *_cached(ready), *_gguf_files(folder, llama), _anything(ready), _any_gguf(llama)]


def _bundled(ready: bool, llama: bool) -> ModelInfo:
    detail = "SmolLM2-135M-Instruct, 4-bit weights, needs no hub"
    if gguf_file() is None:
        return ModelInfo(DEFAULT_MODEL, "bundled", False, detail, INSTALL_WHEEL)
    if ready:
        detail += ", as float32" + ("" if converted_folder() else "; converted on first use (30 s)")
    elif llama:
        detail += ", by llama.cpp"
    return ModelInfo(DEFAULT_MODEL, "bundled", ready or llama, detail, "the default" if ready or llama else INSTALL)


def _gguf_files(folder: Path | None, llama: bool) -> list[ModelInfo]:
    rows = []
    for path in gguf_files_in([*caches(), *([] if folder is None else [folder])]):
        size = sum(part.stat().st_size for part in parts_of(path))
        how = f"--model {shlex.quote(str(path))}" if llama else INSTALL_LLAMA
        rows.append(ModelInfo(str(path), "gguf", llama, f"{size / 1e9:.2f} GB", how))
    return rows


def _any_gguf(llama: bool) -> ModelInfo:
    detail = f"any GGUF language model, by llama.cpp (llama-cpp-python {_version('llama-cpp-python')})" if llama else ""
    detail = detail or "any GGUF language model, by llama.cpp, without PyTorch"
    return ModelInfo("FILE.gguf", "any", llama, detail, "--model FILE.gguf" if llama else INSTALL_LLAMA)


def _cached(ready: bool) -> list[ModelInfo]:
    if not ready:
        return []
    try:
        from huggingface_hub import constants, scan_cache_dir

        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except Exception:  # no cache, or one that cannot be read: nothing to list
        return []
    rows = []
    for repo in sorted((repo for repo in repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id):
        revision = repo.refs.get("main")
        kind = None if revision is None else _loadable(repo.repo_id, Path(revision.snapshot_path))
        if kind is not None:
            detail = f"{kind}, {repo.size_on_disk / 1e9:.2f} GB on disk"
            rows.append(ModelInfo(repo.repo_id, "cached", True, detail, f"--model {repo.repo_id}"))
    return rows


def _loadable(name: str, folder: Path) -> str | None:
    """The kind of the model in the folder, if it loads from there with what is installed; None if it does not."""
    try:
        with quiet():
            config = check_config(FoundModel(name, str(folder), True))
        if (adapter := read_adapter(folder)) is not None:
            need_peft(adapter)
        return str(config.model_type) if _has_weights(folder) else None
    except EngineError:
        return None


def _has_weights(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        return True
    for index in folder.glob("*.index.json"):
        try:
            parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if parts and all((folder / str(part)).is_file() for part in parts):
            return True
    return False


def _anything(ready: bool) -> ModelInfo:
    name = "FOLDER or HUB/ID"
    if not ready:
        return ModelInfo(name, "any", False, "any causal language model of transformers", INSTALL)
    try:
        torch, _ = libraries()
    except EngineError as error:
        return ModelInfo(name, "any", False, one_line(error), INSTALL)
    cuda = torch.cuda.is_available()
    device = f"cuda ({torch.cuda.get_device_name()})" if cuda else f"cpu ({torch.get_num_threads()} threads)"
    detail = (
        f"any causal language model of transformers {_version('transformers')}, torch {_version('torch')}, on {device}"
    )
    return ModelInfo(name, "any", True, detail, "--model FOLDER or --model HUB/ID")


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
