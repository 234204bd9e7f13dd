"""Text for a model behind a server."""

import asyncio
import re
import threading

import numpy as np
import pytest

import powercut as pc
from powercut.engines.http.server_text import _difference
from powercut.study.exact import EOS
from powercut.text import TokenizerText
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import ask, load, now, rejected
from tests.tiny import tiny_tokenizer


def text_model(context):
    return np.full(260, 1 / 260)


@pytest.mark.parametrize("kind", ["completions", "llama"])
def test_text_by_the_servers_endpoints(kind):
    with FakeServer(text_model, kind=kind, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        assert engine.text.has_chat_template
        ids = now(engine.text.encode("héllo"))
        assert ids == tiny_tokenizer().encode("héllo")
        assert now(engine.text.decode(ids)) == "héllo"
        chat = now(engine.text.encode_chat([{"role": "user", "content": "hi"}]))
        assert tiny_tokenizer().decode(chat) == "<|user|>hi<|end|><|assistant|>"
        begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I am"}]
        assert tiny_tokenizer().decode(now(engine.text.encode_chat(begun))) == "<|user|>hi<|end|><|assistant|>I am"
        server.probs = lambda context: np.eye(260)[ids[0] if len(context) < 30 else EOS]
        [c] = pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=40), ["go"])
        assert c.finished
        assert set(c.text) == {"h"}  # the stop token, once seen, is left out


def test_text_by_a_tokenizer_here(tmp_path):
    folder = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server, tokenizer=str(folder))
        a = now(engine.text.encode("a"))[0]
        server.probs = lambda context: np.eye(260)[a]
        [c] = pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=40, stop=("aaa",)), ["go"])
        assert c.finished
        assert len(c.tokens) == 3


def test_wrong_vocabulary(tmp_path):
    other = tiny_tokenizer()
    other.add_tokens(["The", " naïve", "3 + 4"])
    other.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        rejected(server, "tokenizer: .* is not that of fake", tokenizer=str(tmp_path))


def folder_of(tokenizer, path):
    """A folder as ``save_pretrained`` writes it, without a model's config."""
    tokenizer.save_pretrained(path)
    return str(path)


def test_a_tokenizer_needs_no_config(tmp_path):
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        assert isinstance(load(server, tokenizer=folder_of(tiny_tokenizer(), tmp_path)).text, TokenizerText)


def test_a_folder_without_a_tokenizer(tmp_path):
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        rejected(server, "tokenizer: .* cannot be loaded", tokenizer=str(tmp_path))


def test_another_chat_template(tmp_path):
    other = tiny_tokenizer()
    other.chat_template = "{% for m in messages %}USER: {{ m['content'] }}\n{% endfor %}"
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        rejected(server, "its chat template renders a conversation otherwise", tokenizer=folder_of(other, tmp_path))


def test_two_rare_words_exchanged(tmp_path):
    """A sentence has the same ids; only the words of the vocabulary tell."""

    vocabulary = {" republic": 260, " monarchy": 261}

    class Swapped:
        def __init__(self, ids):
            self.ids = ids

        def __getattr__(self, name):
            return getattr(tiny_tokenizer(), name)

        def get_vocab(self):
            return {word.replace(" ", "Ġ"): token for word, token in self.ids.items()}

        def encode(self, text, **_):
            pieces, ids = re.split("( republic| monarchy)", text), []
            for piece in pieces:
                ids += [self.ids[piece]] if piece in self.ids else tiny_tokenizer().encode(piece)
            return ids

    swapped = {" republic": 261, " monarchy": 260}
    with FakeServer(text_model, tokenizer=Swapped(vocabulary)) as server:
        for ids, how in ((vocabulary, None), (swapped, "some words have other token ids")):
            tokenizer = Swapped(ids)
            words = sorted(word.strip() for word in ids)
            text = TokenizerText(tokenizer)
            engine = load(server)
            assert now(_difference(text, words, engine._pool.servers[0])) == how


def test_a_slow_detokenizer_stops_no_other_chain():
    """While the server makes text, the event loop goes on: it is waited for, not blocked."""
    asked, go_on = threading.Event(), threading.Event()

    def slowly(path, body):
        if path == "/detokenize":
            asked.set()
            assert go_on.wait(60)

    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        server.instead = slowly

        async def both():
            text = asyncio.create_task(engine.text.decode([60, 61]))
            assert await asyncio.to_thread(asked.wait, 60)
            trace = await engine.extend(ask())  # the other chain
            assert not text.done()
            go_on.set()
            return trace, await text

        trace, text = asyncio.run(both())
    assert len(trace)
    assert text == tiny_tokenizer().decode([60, 61])


def test_a_failing_detokenizer_is_asked_again():
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        answers = [b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}", b""]
        server.instead = lambda path, body: answers.pop() if path == "/detokenize" and answers else None
        assert now(engine.text.decode([60])) == tiny_tokenizer().decode([60])
        assert not answers
        hasty = load(server, retry_for=0.0)
        server.instead = lambda path, body: b""
        with pytest.raises(pc.EngineError, match=r"no answer from .*given up after 0 s \(retry_for\)"):
            now(hasty.text.decode([60]))


def test_text_is_made_by_another_server_where_the_first_is_away():
    with (
        FakeServer(text_model, tokenizer=tiny_tokenizer()) as one,
        FakeServer(text_model, tokenizer=tiny_tokenizer()) as two,
    ):
        engine = load(one, two)
        one.stop()
        assert now(engine.text.decode([60])) == tiny_tokenizer().decode([60])
        one.start()


@pytest.mark.parametrize("answer", ['{"tokens": "x"}', '{"tokens": [1.5]}', "[]", "7", "", '{"text": 7}'])
def test_answers_of_another_shape_are_one_line(answer):
    data = f"HTTP/1.1 200 X\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode()
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        server.instead = lambda path, body: data
        for call in (engine.text.encode("a"), engine.text.decode([60]), engine.text.encode_chat([])):
            with pytest.raises(pc.EngineError) as caught:
                now(call)
            assert "\n" not in str(caught.value)
