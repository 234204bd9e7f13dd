"""What a file says of its tokens: which end a text or a turn, and which are no part of it."""

import asyncio
import struct

import pytest

import powercut as pc
from tests.llama import tiny_gguf
from tests.llama.tiny_gguf import TOKENS, write_gguf
from tests.tiny import tiny_model


def changed(path, key, number):
    """The file, with another number under a key."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(key.encode()) + len(key) + 4, number)
    path.write_bytes(data)
    return path


def load(path, eos=0, **facts):
    file = write_gguf(path / "tiny.gguf", tiny_model("llama", vocab_size=20), **facts)
    return pc.load(str(changed(file, "tokenizer.ggml.eos_token_id", eos)), slots=2, context_length=64)


def test_every_end_that_the_file_names_is_one(tmp_path):
    """Of whatever kind it says that the token is: a completion that runs past its end is wrong in silence."""
    engine = load(tmp_path, eos=7, tokenizer__ggml__eot_token_id=9)
    assert engine.stop_tokens == {0, 7, 9}  # the first by its name
    assert engine.text.end == {7}
    assert engine.text.special_tokens == {TOKENS[0]: 0, TOKENS[7]: 7, TOKENS[9]: 9}
    completions = pc.sample(engine, pc.Standard(max_new_tokens=40, top_k=20), [[1, 2]], n=20)
    assert {7, 9} <= {c.tokens[-1] for c in completions if c.finished}
    assert not any(set(c.tokens[:-1].tolist()) & {7, 9} for c in completions)
    assert not any(TOKENS[7] in c.text or TOKENS[9] in c.text for c in completions)


@pytest.mark.parametrize("nonsense", [20, 2**32 - 1])
def test_an_end_outside_the_vocabulary_is_none(tmp_path, nonsense):
    engine = load(tmp_path, eos=nonsense)
    assert engine.text.end == set()
    assert engine.stop_tokens == {0}  # llama.cpp knows it by its name


def test_what_the_file_names_is_what_the_template_may_use(tmp_path):
    engine = load(tmp_path, tokenizer__ggml__padding_token_id=2, tokenizer__ggml__unknown_token_id=5)
    named = {"bos_token": None, "eos_token": TOKENS[0], "pad_token": TOKENS[2], "unk_token": TOKENS[5]}
    assert engine.text.describe() == {"tokenizer_class": "GgufTokenizer", "chat_template": None} | named


def test_a_word_that_looks_special_is_text(tmp_path, monkeypatch):
    """In the vocabulary of Qwen2.5, which its merges never make: in a prompt it is four tokens, drawn it is text."""
    tokens = ("<|end|>", "!", "a", "\u00f0\u0141", "\u013a\u0122", "</s>", "<", "/", "s", ">")
    monkeypatch.setattr(tiny_gguf, "TOKENS", tokens)
    engine = pc.load(str(write_gguf(tmp_path / "a.gguf", tiny_model("llama", vocab_size=10))), slots=1)
    text = engine.text
    assert engine.stop_tokens == {0}
    assert text.special_tokens == {"<|end|>": 0}
    assert text.encode_plain("a</s><|end|>!<|end|>") == [2, 6, 7, 8, 9, 0, 1, 0]
    assert asyncio.run(text.encode("</s>a")) == [6, 7, 8, 9, 2]
    assert text.decode_now([2, 5, 0, 1]) == "a</s>!"
    assert (text.name_of(5), text.bytes_of(5)) == ("</s>", b"</s>")
    file = changed(
        write_gguf(tmp_path / "b.gguf", tiny_model("llama", vocab_size=10)), "tokenizer.ggml.eos_token_id", 5
    )
    text = pc.load(str(file), slots=1).text
    assert text.encode_plain("a</s>") == [2, 5]
    assert text.end == {5}
