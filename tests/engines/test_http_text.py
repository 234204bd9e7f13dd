"""Text for a model behind a server."""

import asyncio
import re
import threading
import time

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

import powercut as pc
from powercut.engines.http.server_text import _difference
from powercut.study.exact import EOS
from powercut.text import TokenizerText, encode_prompt
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import ask, load, now, rejected
from tests.tiny import TEMPLATE, tiny_tokenizer


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


def starting(single):
    """The tiny tokenizer with special tokens of its own around a text."""
    tokenizer = tiny_tokenizer()
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<|system|>", "<|end|>")]
    tokenizer.chat_template = f"{'<|system|>' if single.startswith('<') else ''}{TEMPLATE}"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
    return tokenizer


@pytest.mark.parametrize("kind", ["completions", "llama"])
@pytest.mark.parametrize("single", ["$A", "<|system|> $A", "<|system|> $A <|end|>", "$A <|end|>"])
def test_a_raw_prompt_starts_once_and_does_not_end(kind, single, tmp_path):
    with FakeServer(text_model, kind=kind, tokenizer=starting(single)) as server:
        served = load(server).text
        here = load(server, tokenizer=folder_of(starting(single), tmp_path)).text
        for text in ("a", "<|system|>a", "<|system|>a<|end|>"):
            ids = now(served.encode(text))
            assert ids == now(here.encode(text))
            starts = single.startswith("<|system|>") or text.startswith("<|system|>")
            assert tiny_tokenizer().decode(ids).count("<|system|>") == starts
            assert (ids[-1] == EOS) == text.endswith("<|end|>")


THINKING = "{% if think is defined and not think %}<|system|>be brief<|end|>{% endif %}"


@pytest.mark.parametrize("kind", ["completions", "llama"])
def test_variables_of_the_servers_template(kind, caplog):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = THINKING + TEMPLATE
    asked = [{"role": "user", "content": "hi"}]
    with FakeServer(text_model, kind=kind, tokenizer=tokenizer) as server:
        text = load(server).text
        assert tokenizer.decode(now(text.encode_chat(asked))) == "<|user|>hi<|end|><|assistant|>"
        brief = now(text.encode_chat(asked, {"think": False}))
        assert tokenizer.decode(brief) == "<|system|>be brief<|end|><|user|>hi<|end|><|assistant|>"
        assert not caplog.messages
        for _ in range(2):
            assert now(text.encode_chat(asked, {"think": False, "thnk": 1})) == brief
        assert caplog.messages == ["template_args: thnk changes nothing in the first prompt: check its name"]


@pytest.mark.parametrize("kind", ["completions", "generate", "llama"])
def test_the_servers_template_is_known_by_its_marks(kind):
    with FakeServer(text_model, kind=kind, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        assert engine.text.turn_end == {EOS}
        assert EOS in engine.stop_tokens
        rendered = "<|user|>hi<|end|><|assistant|>"
        with pytest.warns(UserWarning, match="in the chat template's form already"):
            assert now(encode_prompt(engine.text, rendered)) == tiny_tokenizer().encode(rendered)
        assert tiny_tokenizer().decode(now(encode_prompt(engine.text, "hi"))) == rendered


def test_a_template_without_marks_has_no_turn_end():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    with FakeServer(text_model, tokenizer=tokenizer) as server:
        text = load(server).text
        assert not text.turn_end
        assert now(text.is_rendered("user: hi"))
        assert not now(text.is_rendered("hi"))


def test_a_beginning_that_is_part_of_a_mark_is_not_cut_there():
    """llama-server may close the turn: "end" is then the prompt's last text in <|end|>."""
    with FakeServer(text_model, kind="llama", tokenizer=tiny_tokenizer()) as server:
        text = load(server).text
        begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "end"}]
        assert tiny_tokenizer().decode(now(text.encode_chat(begun))) == "<|user|>hi<|end|><|assistant|>end"


def test_a_server_that_renders_no_chat_says_so(caplog):
    """SGLang, and a model without a template: a string is taken raw, and what needs the template is refused."""
    with FakeServer(text_model, kind="sglang", tokenizer=tiny_tokenizer()) as server:
        data = b'{"error": {"message": "field required: prompt"}}'
        refusal = f"HTTP/1.1 400 X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        server.instead = lambda path, body: refusal if path == "/tokenize" and "messages" in body else None
        text = load(server).text
        assert not text.has_chat_template
        [note] = caplog.messages
        assert "puts no prompt into a chat template (field required: prompt): they are taken raw" in note
        assert now(encode_prompt(text, "hi")) == tiny_tokenizer().encode("hi")
        with pytest.raises(pc.SettingError, match=r"template_args: .*no chat template"):
            now(encode_prompt(text, "hi", template_args={"think": False}))


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
                ids += [self.ids[piece]] if piece in self.ids else tiny_tokenizer().encode(piece, **_)
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


def test_no_question_is_left_behind_by_another_that_fails():
    """A text is asked for with special tokens and without; the second of these is answered after the first failed."""
    first_failed, answered = threading.Event(), []
    refusal = b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"

    def refuse(path, body):
        if path != "/tokenize":
            return None
        if body["add_special_tokens"]:
            first_failed.wait(60)
            time.sleep(0.2)  # in which one that does not wait for this answer goes on
        answered.append(body["add_special_tokens"])
        first_failed.set()
        return refusal

    with FakeServer(text_model, instead=refuse) as server:
        assert load(server).text is None
        assert answered == [False, True]


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


@pytest.mark.parametrize(
    "answer",
    [
        '{"tokens": "x"}',
        '{"tokens": [1.5]}',
        '{"tokens": [9223372036854775808]}',
        '{"tokens": [-1]}',
        "[]",
        "7",
        "",
        '{"text": 7}',
    ],
)
def test_answers_of_another_shape_are_one_line(answer):
    data = f"HTTP/1.1 200 X\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode()
    with FakeServer(text_model, tokenizer=tiny_tokenizer()) as server:
        engine = load(server)
        server.instead = lambda path, body: data
        for call in (engine.text.encode("a"), engine.text.decode([60]), engine.text.encode_chat([])):
            with pytest.raises(pc.EngineError) as caught:
                now(call)
            assert "\n" not in str(caught.value)
