"""Text for a model behind a server."""

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import load, now, rejected
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
