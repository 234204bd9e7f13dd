"""Adapters: merged where peft is installed, else refused by name, and never left out in silence."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from powercut.errors import EngineError
from powercut.models.finding import find_model
from powercut.models.loading import load_model
from tests.models.refusal import refused
from tests.tiny import tiny_llama_folder, tiny_tokenizer

IDS = torch.tensor([[1, 5, 7, 2, 3, 9]])


def make_adapter(path: Path, base: str) -> Path:
    path.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": 4}
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(autouse=True)
def no_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers.utils.is_peft_available()  # remembers its answer, which no test is to change
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))


@pytest.fixture
def peft(monkeypatch: pytest.MonkeyPatch, no_peft: None) -> list[str]:
    """A stand-in for peft, whose adapters double the last layer; the folders that it merged."""
    merged: list[str] = []

    class Whole:
        def __init__(self, model: Any) -> None:
            self.model = model

        def merge_and_unload(self) -> Any:
            self.model.lm_head.weight.data *= 2
            return self.model

    def from_pretrained(model: Any, source: str) -> Whole:
        if "bad" in source:
            raise ValueError("size mismatch for base_model.lm_head\nfrom checkpoint")
        merged.append(source)
        return Whole(model)

    module = types.ModuleType("peft")
    module.PeftModel = types.SimpleNamespace(from_pretrained=from_pretrained)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "peft", module)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: module if name == "peft" else find(name))
    return merged


@pytest.mark.parametrize("whole", [True, False])
def test_without_peft_it_is_refused_by_name(tmp_path: Path, whole: bool) -> None:
    if whole:
        tiny_llama_folder(tmp_path / "tuned")
    said = refused(EngineError, str(make_adapter(tmp_path / "tuned", "some/base")), device="cpu")
    assert str(tmp_path / "tuned") in said
    assert "an adapter (LORA) for some/base" in said
    assert said.endswith("pip install peft")


def test_with_peft_it_is_merged_into_its_base(tmp_path: Path, folder: Path, peft: list[str]) -> None:
    loaded = load_model(str(make_adapter(tmp_path / "tuned", str(folder))), device="cpu")
    assert peft == [str(tmp_path / "tuned")]
    assert loaded.name == str(tmp_path / "tuned")
    assert torch.equal(loaded.model(IDS).logits, 2 * load_model(str(folder), device="cpu").model(IDS).logits)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.stop_tokens == {0, 2, 7}


def test_its_own_tokenizer_comes_first(tmp_path: Path, folder: Path, peft: list[str]) -> None:
    tuned = make_adapter(tmp_path / "tuned", str(folder))
    assert load_model(str(tuned), device="cpu").tokenizer.chat_template
    tiny_tokenizer(chat_template=False).save_pretrained(tuned)
    assert not load_model(str(tuned), device="cpu").tokenizer.chat_template


def test_what_cannot_be_merged_is_said(tmp_path: Path, folder: Path, peft: list[str]) -> None:
    said = refused(EngineError, str(make_adapter(tmp_path / "bad", str(folder))), device="cpu")
    assert f"cannot be merged into {folder} (size mismatch for base_model.lm_head from checkpoint)" in said
    said = refused(EngineError, str(make_adapter(tmp_path / "lost", str(tmp_path / "nowhere"))), device="cpu")
    assert f"no folder {tmp_path / 'nowhere'}" in said
    chain = make_adapter(tmp_path / "chain", str(make_adapter(tmp_path / "first", str(folder))))
    assert "holds an adapter" in refused(EngineError, str(chain), device="cpu")


def test_one_that_names_no_base_is_refused(tmp_path: Path, folder: Path, peft: list[str]) -> None:
    for content in ("{", "[]", "{}", '{"peft_type": "LORA"}'):
        (tmp_path / "adapter_config.json").write_text(content)
        assert "does not say which model" in refused(EngineError, str(tmp_path), device="cpu")


def test_engines_that_merge_nothing_find_none(tmp_path: Path) -> None:
    tiny_llama_folder(tmp_path / "tuned")
    with pytest.raises(EngineError, match=r"holds an adapter \(LORA\) for some/base: .*merged"):
        find_model(str(make_adapter(tmp_path / "tuned", "some/base")))
