"""The engine contract on the llama engine, with a random Llama of six tokens in float32."""

import pytest

import powercut as pc
from tests.engines.test_contract import *  # noqa: F403
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model

EXACT = {"type_k": "f32", "type_v": "f32", "flash_attn_type": 0}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_model("llama", vocab_size=6))


@pytest.fixture(params=["cut", "uncut"])
def engine(request, file, monkeypatch):
    if request.param == "cut":
        return pc.load(str(file), slots=4, context_length=64, **EXACT)
    monkeypatch.setattr("powercut.engines.llama.choose_slots._try", lambda *_: "keeps a memory that cannot be cut")
    with pytest.warns(UserWarning, match="without prefix reuse"):
        return pc.load(str(file), slots=4, context_length=64, **EXACT)


def test_it_says_where_and_how_it_decodes(engine):
    assert "by llama.cpp on" in engine.describe()
    assert "4 slots of 64 tokens" in engine.describe()
    assert "in one batch" in engine.describe()
