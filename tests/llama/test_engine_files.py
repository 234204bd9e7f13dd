"""Files and options that the llama engine refuses: each in one line that says why."""

import asyncio

import gguf
import numpy as np
import pytest

import powercut as pc
from powercut.engines.llama import gguf_model
from tests.llama import kinds
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_model("llama", vocab_size=6))


def refusal(file, **options):
    with pytest.raises((pc.EngineError, pc.SettingError)) as error:
        pc.load(str(file), **{"slots": 2, "context_length": 32} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_whole_gguf_file(file, tmp_path):
    data = file.read_bytes()
    for name, content in (("empty", b""), ("text", b"hello" * 100), ("head", data[:200]), ("cut", data[:-500])):
        broken = tmp_path / f"{name}.gguf"
        broken.write_bytes(content)
        assert f"llama.cpp cannot load {broken} (" in refusal(broken)


def test_a_projector_is_no_language_model(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "mmproj.gguf", "clip")
    writer.add_tensor("v.patch_embd.weight", np.zeros((4, 4), dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    assert "(CLIP cannot be used as main model" in refusal(tmp_path / "mmproj.gguf")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"pooling_type": 3}, "is an embedding model; use a decoder-only language model"),
        ({"attention__causal": False}, "is an encoder; use a decoder-only language model"),
    ],
)
def test_a_file_of_another_kind(tmp_path, facts, words):
    path = write_gguf(tmp_path / "other.gguf", tiny_model("llama", vocab_size=6), **facts)
    assert words in refusal(path)


def test_a_model_larger_than_memory(file, monkeypatch):
    monkeypatch.setattr(gguf_model, "machine_memory", lambda: 1000)
    assert "this machine's memory" in refusal(file)


def test_a_cache_larger_than_memory(file):
    assert "lower slots or context_length" in refusal(file, slots=2**31 // 256, context_length=256)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slots": 0}, "slots must be at least 1"),
        ({"context_length": 1000}, "context_length must be from 2 to 256"),
        ({"threads": 0}, "threads must be from 1 to 512"),
        ({"threads": 2**32 + 1}, "threads must be from 1 to 512"),
        ({"gpu_layers": 99}, "gpu_layers: llama.cpp finds no GPU here"),
        ({"gpu_layers": -1}, "gpu_layers must be a whole number of at least 0"),
        ({"gpu_layers": 2**32}, "gpu_layers must be a whole number of at least 0"),
        ({"device": "cuda"}, "the llama engine has no option device"),
        ({"flash_atn_type": 1}, "did you mean flash_attn_type"),
        ({"n_ctx": 100}, "n_ctx: give context_length and slots"),
        ({"type_k": "int3"}, "type_k must be one of f32, f16"),
        ({"swa_full": 1}, "swa_full must be true or false"),
        ({"n_ubatch": -4}, "n_ubatch must be a whole number above 0"),
        ({"rope_freq_base": "big"}, "rope_freq_base must be a number"),
        ({"rope_freq_scale": float("nan")}, "rope_freq_scale must be a number"),
        ({"rope_freq_scale": 10**400}, "rope_freq_scale must be a number"),
        ({"flash_attn_type": 7}, "flash_attn_type must be one of -1, 0, 1"),
        ({"rope_scaling_type": 99}, "rope_scaling_type must be one of -1, 0, 1, 2, 3"),
    ],
)
def test_options_that_cannot_be_used(file, options, words):
    assert words in refusal(file, **options)


def test_options_of_llama_cpp_are_passed_on(file):
    plain, other = (pc.load(str(file), slots=1, context_length=32, **o) for o in ({}, {"rope_freq_base": 100.0}))
    [a], [b] = (pc.sample(e, pc.Standard(max_new_tokens=8, top_k=6), [[1, 2, 4]], seed=1) for e in (plain, other))
    assert a.logp != b.logp


def test_recurrent_layers_have_one_state_for_each_slot(tmp_path):
    mamba = kinds.model("recurrent", 6)
    engine = kinds.load(tmp_path, "recurrent", mamba, slots=64, context_length=32)
    config = mamba.config
    numbers = config.intermediate_size * (config.state_size + config.conv_kernel - 1)
    states = 4 * numbers * config.num_hidden_layers * 64
    assert engine.cache_bytes - engine._cache.nbytes == pytest.approx(states, rel=0.05)  # said in hundredths of a MiB


def test_rotary_embeddings_for_other_lengths_are_said(tmp_path):
    path = write_gguf(
        tmp_path / "longrope.gguf", tiny_model("llama", vocab_size=6), rope__scaling__original_context_length=256
    )
    pc.load(str(path), slots=2, context_length=128)
    with pytest.warns(UserWarning, match="for contexts of more than 256 tokens"):
        pc.load(str(path), slots=3, context_length=128)


def test_a_closed_engine_says_so(file):
    engine = pc.load(str(file), slots=1, context_length=32)
    asyncio.run(engine.aclose())
    asyncio.run(engine.aclose())
    with pytest.raises(pc.EngineError, match="closed: load the model again"):
        pc.sample(engine, pc.Standard(max_new_tokens=1, top_k=6), [[1]])
    assert "GiB" in engine.describe()
