"""Loading models: folders, stop tokens, and what is said of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from powercut.errors import EngineError, SettingError
from powercut.models.loading import load_model
from tests.models.refusal import refused
from tests.tiny import KINDS, tiny_folder, tiny_llama_folder, tiny_model, tiny_tokenizer

IDS = torch.tensor([[1, 5, 7, 2, 3, 9]])

# Folders


@pytest.mark.parametrize("dtype", [None, "float64", "bfloat16"])
def test_a_folder_gives_the_logits_of_the_model_that_was_saved(folder: Path, dtype: str | None) -> None:
    loaded = load_model(str(folder), device="cpu", dtype=dtype)
    saved = tiny_model("llama", vocab_size=260, seed=5, eos=(2, 0, 7), dtype=getattr(torch, dtype or "float32"))
    assert torch.equal(loaded.model(IDS).logits, saved(IDS).logits)
    assert loaded.name == str(folder)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_small_model_loads(tmp_path: Path, kind: str) -> None:
    tiny_folder(tmp_path / kind, kind)
    loaded = load_model(str(tmp_path / kind), device="cpu")
    text = "".join(map(chr, range(32, 127)))
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    assert torch.equal(loaded.model(IDS).logits, tiny_model(kind, vocab_size=260)(IDS).logits)


def test_a_half_precision_checkpoint_is_float32_on_the_cpu(tmp_path: Path) -> None:
    tiny_llama_folder(tmp_path / "half", dtype=torch.bfloat16)
    assert load_model(str(tmp_path / "half"), device="cpu").model.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_checkpoint_keeps_its_dtype_on_cuda(tmp_path: Path, dtype: str) -> None:
    tiny_llama_folder(tmp_path / "model", dtype=getattr(torch, dtype))
    model = load_model(str(tmp_path / "model")).model
    assert (model.device.type, model.dtype) == ("cuda", getattr(torch, dtype))


def test_loading_leaves_the_libraries_as_they_were(folder: Path) -> None:
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.get_default_dtype()
    load_model(str(folder), device="cpu")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.get_default_dtype()) == before


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_importing_weights_imports_no_torch() -> None:
    code = "import sys, powercut.models.loading; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Stop tokens


def test_stop_tokens_are_the_generation_config_and_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    assert load_model(str(folder), device="cpu").stop_tokens == {0, 2, 7}
    tiny_llama_folder(tmp_path / "one", eos=9)
    assert load_model(str(tmp_path / "one"), device="cpu").stop_tokens == {0, 9}


def test_the_end_of_a_turn_in_the_template_is_a_stop_token(tmp_path: Path) -> None:
    """As in base models that come with the template of their chat models: the tokenizer's own end is another."""
    path = tiny_llama_folder(tmp_path / "base", eos=9)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|system|>"
    tokenizer.save_pretrained(path)
    assert load_model(str(path), device="cpu").stop_tokens == {0, 3, 9}


def test_without_a_tokenizer_the_configs_decide(tmp_path: Path) -> None:
    tiny_llama_folder(tmp_path / "bare", tokenizer=False, eos=(3, 4))
    loaded = load_model(str(tmp_path / "bare"), device="cpu")
    assert loaded.tokenizer is None
    assert loaded.stop_tokens == {3, 4}
    file = tmp_path / "bare" / "generation_config.json"
    file.write_text("{}")
    assert load_model(str(tmp_path / "bare"), device="cpu").stop_tokens == {3, 4}
    file.unlink()
    assert load_model(str(tmp_path / "bare"), device="cpu").stop_tokens == {3, 4}


# Bad input


def test_devices_and_dtypes_that_cannot_be_used(folder: Path) -> None:
    assert "bfloat16" in refused(SettingError, str(folder), dtype="int8")
    assert "cpu, cuda" in refused(SettingError, str(folder), device="gpu")
    assert "cpu, cuda" in refused(SettingError, str(folder), device="meta")
    if not torch.cuda.is_available():
        assert "cuda was asked for" in refused(SettingError, str(folder), device="cuda")
    else:
        assert "there is no cuda:99" in refused(SettingError, str(folder), device="cuda:99")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", b"not safetensors", "weights cannot be loaded"),
        ("model.safetensors", None, "weights cannot be loaded"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b'{"model_type": "unheard-of"}', "pip install --upgrade transformers"),
        ("tokenizer.json", b"{}", "tokenizer cannot be loaded"),
        ("generation_config.json", b'{"eos_token_id": "x"}', "eos_token_id 'x' of its configs is no token id"),
        ("generation_config.json", b'{"eos_token_id": {"a": 1}}', "is no token id"),
    ],
)
def test_broken_folders(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    tiny_llama_folder(tmp_path / "broken")
    (tmp_path / "broken" / file).unlink() if content is None else (tmp_path / "broken" / file).write_bytes(content)
    assert said in refused(EngineError, str(tmp_path / "broken"), device="cpu")


def test_truncated_weights(tmp_path: Path) -> None:
    file = tiny_llama_folder(tmp_path / "cut") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "weights cannot be loaded" in refused(EngineError, str(tmp_path / "cut"), device="cpu")


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = tiny_llama_folder(tmp_path / "holes") / "model.safetensors"
    tensors = load_file(file)
    del tensors["lm_head.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert "lacks 1 of its weights (lm_head.weight" in refused(EngineError, str(tmp_path / "holes"), device="cpu")


def test_models_that_are_no_causal_language_models(tmp_path: Path) -> None:
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    transformers.T5Config(vocab_size=8, d_model=8, d_ff=8, num_layers=1, num_heads=1).save_pretrained(tmp_path / "t5")
    transformers.BertConfig(**sizes, architectures=["BertForMaskedLM"]).save_pretrained(tmp_path / "bert")
    transformers.ViTConfig(hidden_size=8).save_pretrained(tmp_path / "vit")
    assert "encoder-decoder" in refused(EngineError, str(tmp_path / "t5"), device="cpu")
    assert "no causal language model (BertForMaskedLM)" in refused(EngineError, str(tmp_path / "bert"), device="cpu")
    assert "no causal language model (vit)" in refused(EngineError, str(tmp_path / "vit"), device="cpu")


def test_no_code_of_a_model_is_run(tmp_path: Path) -> None:
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    assert "code of its own" in refused(EngineError, str(tmp_path), device="cpu")


def test_missing_libraries_name_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install 'powercut[transformers]'" in refused(EngineError, str(folder))
    assert "pip install 'powercut[transformers]'" in refused(EngineError, "Qwen/Qwen2.5-Math-1.5B")
