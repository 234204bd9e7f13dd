"""SmolLM2-135M-Instruct behind a real ``vllm serve`` against the same weights in transformers."""

import asyncio

import pytest

import powercut as pc
from powercut.models.converting import bundled_folder
from tests.tiny import tiny_folder
from tests.vllm.server import OPTIONS, VllmServer
from tests.vllm.test_smollm2 import (  # noqa: F401
    model,
    test_an_abort_saves_tokens,
    test_prefixes_are_reused,
    test_stop_strings_end_a_trace,
    test_traces_are_those_of_a_forward_pass,
)


@pytest.fixture(scope="module")
def server():
    with VllmServer(bundled_folder(), f"{OPTIONS} --max-logprobs=50 --max-model-len=1024") as server:
        yield server


@pytest.fixture(scope="module")
def engine(server):
    return pc.load(server.url)


def test_text_is_made_here_by_the_servers_own_tokenizer(engine):
    assert engine.text.has_chat_template
    assert engine.text.decode_now(asyncio.run(engine.text.encode("Héllo 12"))) == "Héllo 12"


def test_a_tokenizer_with_another_vocabulary_is_refused(server, tmp_path):
    with pytest.raises(pc.SettingError, match=r"tokenizer: .* is not that of .*other token ids") as error:
        pc.load(server.url, tokenizer=str(tiny_folder(tmp_path)))
    assert "\n" not in str(error.value)
