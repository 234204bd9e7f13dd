"""Folders whose files claim what cannot be, or are none: one line each, before anything is built or left out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import powercut as pc
from powercut.errors import EngineError
from powercut.models.loading import load_model
from tests.models.refusal import refused
from tests.tiny import tiny_folder, tiny_llama_folder

NAN, INF = float("nan"), float("inf")


def change(path: Path, file: str, **settings: Any) -> None:
    config = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(config | settings))


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama_folder(tmp_path / "model", layers=1, hidden=16)


@pytest.mark.parametrize("layers", [10**30, 10**9, 5000])
@pytest.mark.parametrize(("kind", "setting"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_more_layers_than_the_weights_have_tensors(tmp_path: Path, kind: str, setting: str, layers: int) -> None:
    path = tiny_folder(tmp_path / kind, kind)
    change(path, "config.json", **{setting: layers})
    assert f"its config.json says {setting}={layers}, more than its weights" in refused(EngineError, str(path))


def test_parts_of_a_config_are_looked_at_too(model: Path) -> None:
    change(model, "config.json", text_config={"parts": [{"num_experts": 10**12}]})
    assert "num_experts=1000000000000" in refused(EngineError, str(model))


def test_many_layers_that_are_there_are_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("powercut.models.checking.FEW", 0)
    load_model(str(model), device="cpu")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("num_hidden_layers", 0, "num_hidden_layers=0"),
        ("num_hidden_layers", -1, "num_hidden_layers=-1"),
        ("num_hidden_layers", "4", "expected int, got str"),
        ("num_hidden_layers", 2.0, "expected int, got float"),
        ("num_hidden_layers", None, "expected int, got NoneType"),
        ("num_hidden_layers", [2], "expected int, got list"),
        ("num_hidden_layers", NAN, "num_hidden_layers=NaN"),
        ("hidden_size", 10**12, "other sizes"),
        ("hidden_size", -16, "negative dimension"),
        ("vocab_size", 10**15, "other sizes"),
        ("vocab_size", 10**30, "Overflow"),
        ("vocab_size", 261, "other sizes"),
        ("intermediate_size", 10**18, "overflowed"),
        ("num_attention_heads", 0, "zero"),
        ("num_attention_heads", 10**12, "not a multiple"),
        ("num_key_value_heads", 10**12, "other sizes"),
        ("head_dim", 7, "even rotary dimension"),
        ("max_position_embeddings", 2.5, "expected int, got float"),
        ("rms_norm_eps", NAN, "rms_norm_eps=NaN"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": NAN}, "rope_theta=NaN"),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 0}, "inv_freq comes out NaN or infinite"),
        ("rope_parameters", {"rope_type": "spiral", "rope_theta": 1e4}, "spiral"),
        ("hidden_act", "magic", "magic"),
        ("dtype", "float7", "float7"),
        ("model_type", ["llama"], "config.json cannot be read"),
        ("model_type", "vit", "no causal language model"),
        ("is_encoder_decoder", True, "encoder-decoder"),
        ("quantization_config", {"quant_method": "zzz"}, "does not know (zzz)"),
        ("eos_token_id", 2.5, "eos_token_id"),
    ],
)
def test_settings_that_no_model_has(model: Path, setting: str, value: Any, said: str) -> None:
    change(model, "config.json", **{setting: value})
    assert said in refused(EngineError, str(model), device="cpu")


def test_positions_are_those_that_matter(model: Path) -> None:
    for positions in (10**30, 0, -1):  # rotary embeddings take any
        change(model, "config.json", max_position_embeddings=positions)
        engine = pc.load(str(model), device="cpu", slots=1)
        assert engine.context_length == 4096
    change(model, "config.json", max_position_embeddings=1)
    with pytest.raises(EngineError, match="a position for one token only"):
        pc.load(str(model), device="cpu", slots=1)


@pytest.mark.parametrize("what", ["folder", "pipe", "loop", "nothing"])
@pytest.mark.parametrize(
    "file",
    ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"],
)
def test_what_bears_a_files_name_and_is_none(model: Path, file: str, what: str) -> None:
    path = model / file
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if what == "loop" else model / "gone")
    said = refused(EngineError, str(model), device="cpu")
    assert ("has no config.json" if file == "config.json" else f"{file} is no file") in said


@pytest.mark.parametrize("content", [b"", b"{", b"[]", "{}".encode("utf-16"), b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_files_of_settings_that_hold_none(model: Path, file: str, content: bytes) -> None:
    (model / file).write_bytes(content)
    refused(EngineError, str(model), device="cpu")


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, (10**15).to_bytes(8, "little") + b"{}", b"version https://lfs"])
def test_files_of_weights_that_hold_none(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert "weights cannot be loaded" in refused(EngineError, str(model), device="cpu")


def test_weights_that_the_config_does_not_use_are_named(model: Path) -> None:
    change_weights(model, lambda tensors: tensors.update({"model.layers.1.mlp.up_proj.weight": torch.ones(48, 16)}))
    with pytest.warns(UserWarning, match=r"no use for 1 of its weights \(model.layers.1.mlp.up_proj.weight, ...\)"):
        load_model(str(model), device="cpu")


def test_weights_of_other_shapes(model: Path) -> None:
    change_weights(model, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"][:-1].clone()}))
    assert "its weights have other sizes than its config.json says" in refused(EngineError, str(model), device="cpu")


@pytest.mark.parametrize("gone", ["lm_head.weight", "model.embed_tokens.weight"])
def test_tied_weights_are_saved_once(model: Path, gone: str) -> None:
    change_weights(model, lambda tensors: tensors.pop(gone))
    assert f"lacks 1 of its weights ({gone}" in refused(EngineError, str(model), device="cpu")
    change(model, "config.json", tie_word_embeddings=True)
    loaded = load_model(str(model), device="cpu").model
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


@pytest.mark.parametrize("value", [NAN, INF])
def test_weights_that_give_no_logits_are_seen_when_the_model_is_loaded(model: Path, value: float) -> None:
    change_weights(model, lambda tensors: tensors["model.norm.weight"].fill_(value))
    with pytest.raises(EngineError, match="logits are NaN or infinite"):
        pc.load(str(model), device="cpu", slots=1, context_length=16)


def test_a_model_whose_logits_are_all_0_decodes_in_slots(model: Path) -> None:
    change_weights(model, lambda tensors: tensors["lm_head.weight"].zero_())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = pc.load(str(model), device="cpu", slots=1, context_length=16)
    [completion] = pc.sample(engine, pc.Standard(max_new_tokens=3, top_k=4), [[5, 6]])
    np.testing.assert_allclose(completion.trace.logp, -np.log(4))


@pytest.mark.parametrize(("eos", "said"), [(True, "True"), ([[1]], r"\[1\]"), (-1, "-1"), (1.5, "1.5")])
def test_end_tokens_that_are_no_ids(model: Path, eos: Any, said: str) -> None:
    change(model, "generation_config.json", eos_token_id=eos)
    with pytest.raises(EngineError, match=f"eos_token_id {said} of its configs is no token id"):
        load_model(str(model), device="cpu")


@pytest.mark.parametrize("eos", [999, 10**30])
def test_end_tokens_that_cannot_be_drawn_are_named(model: Path, eos: int) -> None:
    change(model, "generation_config.json", eos_token_id=[2, eos])
    with pytest.warns(UserWarning, match=f"end token {eos} is outside its vocabulary of 260 tokens: it ends nothing"):
        assert load_model(str(model), device="cpu").stop_tokens == {0, 2}
