"""GGUF files: which names mean one, where it is, and of which parts it is made. Only first bytes are read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from powercut.errors import EngineError, did_you_mean, one_line

SUFFIX = ".gguf"
_MAGIC = b"GGUF"

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def is_gguf(name: str) -> bool:
    """Whether a model's name is that of a GGUF file, here or on a hub."""
    return name.lower().endswith(SUFFIX)


def local_path(name: str) -> Path:
    """A model's name as a path, ``~`` as the home folder; that of a user who is not known here stays as it is."""
    with suppress(RuntimeError):
        return Path(name).expanduser()
    return Path(name)


def is_gguf_file(path: Path) -> bool:
    """Whether a file is here and is a GGUF file, by its name or by how it begins."""
    if not path.is_file() or is_gguf(path.name):
        return path.is_file()
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False


def is_for_llama(name: str) -> bool:
    """Whether a model is a GGUF file, here or on a hub, or a folder that holds such files and no other model."""
    path = local_path(name)
    folder = path.is_dir() and not (path / "config.json").exists() and any(path.glob(f"*{SUFFIX}"))
    return folder or is_gguf(name) or is_gguf_file(path)


def parts_of(path: Path) -> list[Path]:
    """The files of which a model is made: ``path`` alone, or all the parts of which it is the first.

    Raises EngineError if it is another part, or one is missing.
    """
    names = _parts(path.name)
    if len(names) == 1:
        return [path]
    if path.name != names[0]:
        raise EngineError(f"model: {path} is one of {len(names)} parts: give the first, {names[0]}")
    parts = [path.with_name(name) for name in names]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise EngineError(f"model: {path} is one of {len(parts)} parts, and {missing[0]} is not beside it")
    return parts


def caches() -> list[Path]:
    """Where the hub's own programs and llama.cpp keep files that they fetched."""
    home = Path.home() / ".cache"
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
    return [Path(hub).expanduser(), Path(os.environ.get("LLAMA_CACHE") or home / "llama.cpp").expanduser()]


def gguf_files_in(folders: Iterable[Path]) -> list[Path]:
    """The GGUF files in folders and those below, of a model in parts the first; what cannot be read is passed over."""
    found = {}
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if is_gguf(path.name) and path.is_file()):
            with suppress(EngineError, OSError):
                found[path.resolve()] = parts_of(path)[0]
    return list(found.values())


def find_gguf(name: str) -> Path:
    """The file called ``name``: a path, or ``REPO/FILE.gguf`` on the hub, which is fetched.

    Raises EngineError if there is none.
    """
    path = local_path(name)
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(entry.name for entry in path.glob(f"*{SUFFIX}"))
        hint = f": give one of its files, {inside[0]}" if inside else f" without {SUFFIX} files"
        raise EngineError(f"model: {path} is a folder{hint}")
    if not is_gguf(name):
        raise EngineError(f"model: there is no file {path}{_near(path)}; give a {SUFFIX} file")
    repo, file = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    if not file or path.is_absolute() or name.startswith((".", "~")):
        raise EngineError(f"model: there is no file {path}{_near(path)}")
    return _fetch(name, path, repo, file)


def _fetch(name: str, path: Path, repo: str, file: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise EngineError(
            f"model: there is no file {path}{_near(path)}, and fetching it from the hub needs huggingface-hub: "
            "pip install huggingface-hub"
        ) from error
    try:
        files = [Path(hf_hub_download(repo, part)) for part in _parts(file)]
        return files[0]
    except Exception as error:
        raise EngineError(
            f"model: {name} is no file here{_near(path)}, and cannot be had from the hub ({one_line(error, 100)})"
        ) from error


def _parts(name: str) -> list[str]:
    """The names of all parts of a model of which ``name`` is one, or is all."""
    match = _PART.search(name)
    if match is None or not 1 <= int(match[1]) <= (count := int(match[2])):
        return [name]
    return [f"{name[: match.start()]}-{i:05d}-of-{count:05d}{name[-len(SUFFIX) :]}" for i in range(1, count + 1)]


def _near(path: Path) -> str:
    """`` (did you mean ...?)`` where a file of nearly that name is in the same folder."""
    try:
        files = [str(entry) for entry in path.parent.iterdir() if is_gguf(entry.name)]
    except OSError:
        return ""
    return did_you_mean(str(path), files)
