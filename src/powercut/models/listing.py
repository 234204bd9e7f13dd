"""What can be loaded on this machine, and how: the rows of ``powercut models``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, one_line
from powercut.models.converting import DEFAULT_MODEL, INSTALL_WHEEL, converted_folder, gguf_file
from powercut.models.libraries import INSTALL, have_libraries, libraries

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_ENCODER_DECODER = ("t5", "bart", "pegasus", "whisper", "marian")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One row: ``name`` is what ``--model`` takes; ``kind`` is bundled, cached or any.

    ``available`` says that it loads as things stand, ``detail`` what it is, ``how`` the command that uses it, or that
    makes it available.
    """

    name: str
    kind: str
    available: bool
    detail: str
    how: str


def list_models() -> list[ModelInfo]:
    """List the bundled model, the hub models in the local cache, and a row for all others. Never raises."""
    ready = have_libraries()
    return [_bundled(ready), *_cached(ready), _anything(ready)]


def _bundled(ready: bool) -> ModelInfo:
    detail = "SmolLM2-135M-Instruct, 4-bit weights as float32, needs no hub"
    if gguf_file() is None:
        return ModelInfo(DEFAULT_MODEL, "bundled", False, detail, INSTALL_WHEEL)
    if converted_folder() is None:
        detail += "; converted on first use (30 s)"
    return ModelInfo(DEFAULT_MODEL, "bundled", ready, detail, "the default" if ready else INSTALL)


def _cached(ready: bool) -> list[ModelInfo]:
    try:
        from huggingface_hub import constants, scan_cache_dir

        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except Exception:  # no library, no cache, or one that cannot be read: nothing to list
        return []
    rows = []
    for repo in sorted((repo for repo in repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id):
        config = _config(repo)
        if config is not None and _is_causal(config):
            detail = f"{config.get('model_type', 'unknown type')}, {repo.size_on_disk / 1e9:.2f} GB on disk"
            how = f"--model {repo.repo_id}" if ready else INSTALL
            rows.append(ModelInfo(repo.repo_id, "cached", ready, detail, how))
    return rows


def _config(repo: Any) -> dict[str, Any] | None:
    for revision in repo.revisions:
        for file in revision.files:
            if file.file_name == "config.json" and Path(file.file_path).parent == Path(revision.snapshot_path):
                try:
                    config = json.loads(Path(file.file_path).read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    continue
                return config if isinstance(config, dict) else None
    return None


def _is_causal(config: dict[str, Any]) -> bool:
    if config.get("is_encoder_decoder") or str(config.get("model_type")).endswith(_ENCODER_DECODER):
        return False
    return any(str(kind).endswith(_CAUSAL) for kind in config.get("architectures") or [])


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
