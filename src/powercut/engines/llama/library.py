"""llama.cpp's own functions (llama.h), as llama-cpp-python declares them by ctypes, and what the library logs."""

from __future__ import annotations

import atexit
import importlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from powercut.errors import EngineError, one_line
from powercut.models.libraries import INSTALL_LLAMA

_DEBUG, _ERROR = 1, 4
_SPINS = "10000"
"""How often a thread looks for work before it sleeps: microseconds. By OpenMP's default it takes the core for
milliseconds, hundreds of times a pass, from whoever else computes there, the other threads of the pass included."""
_BUFFER = re.compile(r"(\S+) +(\w+) buffer size = +([\d.]+) MiB")


class Said(NamedTuple):
    """A line that llama.cpp logged."""

    error: bool
    line: str


_heard: dict[int, list[Said]] = {}
"""What is logged in the threads that listen, by their ids: other threads load and decode meanwhile."""

_kept: list[Any] = []
"""The function that llama.cpp logs with: it must not be collected while the library can call it."""


@cache
def llama() -> Any:
    """The functions and structures of llama.h, once the library is started.

    Raises EngineError, with the command that installs it, where it is missing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    try:
        functions = importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"loading a GGUF file needs llama-cpp-python ({one_line(error)}): {INSTALL_LLAMA}") from error

    def log(level: int, text: bytes, _: Any) -> None:
        if level != _DEBUG and (said := _heard.get(threading.get_ident())) is not None:
            said.append(Said(level == _ERROR, text.decode(errors="replace").strip()))

    _kept.append(functions.llama_log_callback(log))
    functions.llama_log_set(_kept[0], None)
    atexit.register(functions.llama_log_set, functions.llama_log_callback(), None)  # or it would call a dead Python
    functions.llama_backend_init()
    return functions


@contextmanager
def listening() -> Iterator[list[Said]]:
    """Collect what llama.cpp logs meanwhile in this thread; otherwise it is silent."""
    said = _heard[threading.get_ident()] = []
    try:
        yield said
    finally:
        del _heard[threading.get_ident()]


def complaint(said: list[Said]) -> str:
    """The first error of these lines, less the names of functions before it."""
    found = next((line for error, line in said if error), "llama.cpp gives no reason")
    return one_line(re.sub(r"^(?:[\w ]+: )+", "", found), 160)


def buffer_bytes(said: list[Said]) -> dict[str, int]:
    """Memory that llama.cpp took, in bytes, by what it is for: ``model``, ``KV``, ``RS``, ``compute``, ``output``."""
    return {use: sum(size for each, _, size in _buffers(said) if each == use) for use, _, _ in _buffers(said)}


def buffer_devices(said: list[Said]) -> list[str]:
    """Where the memory is that llama.cpp took: CPU, CUDA0, Metal, ..."""
    return sorted({where.partition("_")[0] for _, where, _ in _buffers(said)})


def _buffers(said: list[Said]) -> list[tuple[str, str, int]]:
    found = [_BUFFER.search(line) for _, line in said]
    return [(each[2], each[1], int(float(each[3]) * 2**20)) for each in found if each]
