"""Engines: back ends that continue token ids. One folder or file per back end; they know no sampler."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from powercut.engines.protocol import Engine
from powercut.errors import EngineError, SettingError
from powercut.models.converting import DEFAULT_MODEL
from powercut.models.gguf_files import is_for_llama
from powercut.models.libraries import have_libraries, have_llama, libraries

Loader = Callable[..., Engine]

_HOST_AND_PORT = re.compile(r"(?:[^/@\s]*@)?((?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}(?:/[^,]*)?)")


def _transformers() -> Loader:
    libraries()  # or say what to install
    from powercut.engines.transformers import TransformersEngine  # torch is heavy, and an extra

    return TransformersEngine.load


def _llama() -> Loader:
    from powercut.engines.llama import LlamaEngine  # llama.cpp itself is imported by its loader

    return LlamaEngine.load


def _vllm() -> Loader:
    from powercut.engines.vllm import VllmEngine  # vLLM itself is imported by its loader

    return VllmEngine.load


def _http() -> Loader:
    try:
        from powercut.engines.http import HttpEngine
    except ImportError as error:
        raise EngineError(f"asking a server needs httpx ({error}): pip install 'powercut[http]'") from error
    return HttpEngine.load


ENGINES: dict[str, Callable[[], Loader]] = {
    "transformers": _transformers,
    "llama": _llama,
    "vllm": _vllm,
    "http": _http,
    "https": _http,
}
"""Loaders by the prefix that selects them, as in ``transformers:MODEL``. A new engine is a module, and a line here."""


def select(model: str | None) -> tuple[str, str | None]:
    """The engine that ``model`` asks for, and the rest of it.

    That is the one whose prefix it has; else llama for a GGUF file, for a folder of such files (it says which there
    are), and for the bundled model where llama.cpp is installed and transformers is not; else transformers.
    """
    prefix, colon, rest = (model or "").partition(":")
    if rest.startswith("//") and (scheme := prefix.strip().lower()) in ("http", "https"):
        return scheme, model  # URLs stay whole
    if colon and prefix in ENGINES:
        return prefix, rest or None
    alone = model in (None, "", DEFAULT_MODEL) and have_llama() and not have_libraries()
    return "llama" if alone or is_for_llama(model or "") else "transformers", model


def load(name: str | None = None, /, **options: Any) -> Engine:
    """Load a model: a hub id, a local folder, a GGUF file, or None for the bundled SmolLM2-135M-Instruct.

    ``PREFIX:MODEL``, or ``engine="PREFIX"``, selects another engine than transformers (for a GGUF file: than llama), a
    URL (``http://HOST:PORT/v1``, several with commas between them) the servers there, whose ``model`` may be named.
    ``options`` are the engine's own settings (for transformers: ``device``, ``dtype``, ``slots``, ``context_length``;
    for llama: ``slots``, ``context_length``, ``threads``, ``gpu_layers`` and llama.cpp's context parameters; for vllm:
    any of vLLM's engine arguments).

    Raises EngineError when the model or the engine's extra is missing, SettingError for an unusable option.
    """
    if name is None:
        name = options.pop("model", None)
    engine, rest = select(name)
    if (wanted := options.pop("engine", None)) is not None:
        if wanted not in ENGINES:
            raise SettingError(f"engine must be one of {', '.join(ENGINES)} (got {wanted!r})")
        engine = wanted
    if engine == "transformers" and rest is not None:
        _refuse_addresses(rest)
    loader = ENGINES[engine]()
    parameters = signature(loader).parameters
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    which = next(iter(parameters))  # the model or URL, which is given already
    unknown = sorted(options.keys() - (parameters.keys() - {which}))
    if unknown and not takes_any:
        raise SettingError(f"the {engine} engine has no option {unknown[0]}")
    return loader(rest, **options)


def _refuse_addresses(model: str) -> None:
    """Raise SettingError for the address of a server that lacks its scheme, or has one that no server here has.

    It does not repeat what may be a password.
    """
    found = [_HOST_AND_PORT.fullmatch(part.strip()) for part in model.split(",")]
    if all(found) and not Path(model).exists():
        addresses = ",".join(f"http://{each[1]}" for each in found if each)
        raise SettingError(f"model: this looks like a server's address: give it with its scheme, {addresses}")
    if "://" in model:
        raise SettingError("model: the address of a server begins with http:// or https://")
