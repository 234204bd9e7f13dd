"""Tokens as clients see them: their names and bytes, by a tokenizer of bytes."""

import numpy as np
import pytest
from lm_eval.models.openai_completions import LocalCompletionsAPI

import powercut as pc
from powercut.text import TokenizerText
from tests.server.serving import serving, web
from tests.tiny import EOS, SPECIAL, TEMPLATE, tiny_tokenizer

FIRST = len(SPECIAL)


@pytest.fixture(scope="module")
def text():
    return TokenizerText(tiny_tokenizer())


@pytest.fixture(scope="module")
def euros(text):
    """A server that answers "€€" and ends."""
    ids = [*text.encode_plain("€€"), 0]

    def law(context):
        before = next(n for n in range(len(ids), -1, -1) if list(context[len(context) - n :]) == ids[:n])
        return np.eye(FIRST + 256)[ids[min(before, len(ids) - 1)]]

    engine = pc.TableEngine(law, 0, text=text)
    with serving(engine, extra={"top_k": 4}) as served:
        yield served


def test_names_and_bytes_of_tokens(text):
    assert [text.name_of(i) for i in range(FIRST)] == list(SPECIAL)
    for character in "a €\n":
        ids = text.encode_plain(character)
        assert b"".join(text.bytes_of(i) for i in ids) == character.encode()
    assert sorted(text.bytes_of(FIRST + i)[0] for i in range(256)) == list(range(256))
    assert text.with_special([1, *text.encode_plain("a"), 0]) == "<|user|>a<|end|>"


def test_logprobs_have_the_bytes_of_parts_of_characters(euros):
    body = {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 1, "stream": False}
    answer = web.post(f"{euros.url}/chat/completions", json=body).json()["choices"][0]
    assert answer["message"]["content"] == "€€"
    *parts, end = answer["logprobs"]["content"]
    assert bytes(byte for part in parts for byte in part["bytes"]).decode() == "€€"
    assert end["token"] == EOS
    assert {part["logprob"] for part in parts} == {0.0}
    assert [part["top_logprobs"][0]["bytes"] for part in parts] == [part["bytes"] for part in parts]


def test_completions_logprobs_of_parts_of_characters(euros):
    """Where each begins in the text, and no two in one place of ``top_logprobs``."""
    body = {"prompt": "x", "logprobs": 1, "sampler": "standard"}
    choice = web.post(f"{euros.url}/completions", json=body).json()["choices"][0]
    assert choice["text"] == "€€"
    assert choice["logprobs"]["text_offset"] == [0, 0, 0, 1, 1, 1, 2]
    tokens = [r"bytes:\xe2", r"bytes:\x82", r"bytes:\xac"] * 2 + [EOS]
    assert choice["logprobs"]["tokens"] == tokens
    assert choice["logprobs"]["top_logprobs"] == [{token: 0.0} for token in tokens]


@pytest.mark.parametrize("sampler", ["standard", "entropy-cut"])
def test_no_half_character_is_streamed(euros, sampler):
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True, "sampler": sampler}
    told = web.post(f"{euros.url}/chat/completions", json=body).text
    assert "\ufffd" not in told
    assert told.count("€") == 2


def test_lm_eval_finds_the_tokenizer(euros):

    info = web.get(f"{euros.root}/tokenizer_info").json()
    assert (info["eos_token"], info["chat_template"]) == (EOS, TEMPLATE)
    model = LocalCompletionsAPI(base_url=f"{euros.url}/completions", model="table")
    assert type(model.tokenizer).__name__ == "RemoteTokenizer"
    assert model.tok_encode("a€") == [*model.tokenizer.encode("a€")]
    assert model.tokenizer.decode(model.tokenizer.encode("a€")) == "a€"
    assert model.eot_token_id == 0
    rendered = model.tokenizer.apply_chat_template([{"role": "user", "content": "a"}])
    assert rendered == "<|user|>a<|end|><|assistant|>"
