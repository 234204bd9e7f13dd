"""SmolLM2-135M-Instruct on a real llama.cpp server, from the GGUF file of the bundled model."""

import asyncio
import http.client
import json
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from transformers import AutoTokenizer

import powercut as pc
from powercut.models.converting import bundled_folder, gguf_file
from powercut.text import TokenizerText, encode_prompt
from tests.checks import chi_square_p
from tests.llama.server import LlamaServer

ALARM = 1e-6
TOP_K = 50


@pytest.fixture(scope="module")
def server():
    with LlamaServer(gguf_file(), 4, 4096) as server:
        yield server


@pytest.fixture
def engine(server):
    return pc.load(server.url)


def tokens(engine, text):
    return np.array(asyncio.run(engine.text.encode(text)))


def extend(engine, *requests):
    async def all_at_once():
        return await asyncio.gather(*map(engine.extend, requests))

    return asyncio.run(all_at_once())


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("What is 2 + 2?", {}),
        ("What is 2 + 2?", {"chat": False}),
        ("What is 2 + 2?", {"system": "be brief"}),
        ([{"role": "user", "content": "Capital?"}, {"role": "assistant", "content": "The capital is"}], {}),
        ([{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "end"}], {}),
    ],
)
def test_the_server_encodes_prompts_as_the_tokenizer_does(engine, prompt, settings):
    here = TokenizerText(AutoTokenizer.from_pretrained(str(bundled_folder())))
    by_server, by_tokenizer = [asyncio.run(encode_prompt(text, prompt, **settings)) for text in (engine.text, here)]
    assert by_server == by_tokenizer


def test_variables_of_the_chat_template(caplog):
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n{% if think is defined and not think %}Briefly:{% endif %}"
    )
    with LlamaServer(gguf_file(), 1, 512, template) as server:
        text = pc.load(server.url, top_k=TOP_K).text
        plain, brief = [
            asyncio.run(encode_prompt(text, "hi", template_args=args)) for args in (None, {"think": False, "thnk": 1})
        ]
    assert brief[: len(plain)] == plain
    assert len(brief) > len(plain)
    assert caplog.messages == ["template_args: thnk changes nothing in the first prompt: check its name"]


def test_thirty_streams_back_to_back_without_a_note(engine, caplog):
    """The server closes each connection after its stream."""
    prompt = tokens(engine, "The capital of France is")

    async def thirty():
        for seed in range(30):
            assert len(await engine.extend(pc.Request(prompt, 2, top_k=TOP_K, seed=seed)))
        await engine.aclose()

    asyncio.run(thirty())
    assert not [record for record in caplog.records if record.name == "powercut"]


def test_a_prompt_of_emoji(engine):
    """What it draws goes on inside characters of four bytes, which are whole again in the text."""
    sampler = pc.LowTemperature(alpha=4, max_new_tokens=24, top_k=TOP_K)
    completions = pc.sample(engine, sampler, ["Only emoji: 😀 😁 😂 😃 😄 😅 "], n=8, seed=1, chat=False)
    assert any(ord(char) > 0xFFFF for completion in completions for char in completion.text)
    assert all(np.isfinite(completion.logp) for completion in completions)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("text", ["The best fruit is the", "Smileys: 😀 😁 😂 "])
def test_the_first_token_has_the_law_that_the_server_tells(engine, text, temperature):
    """False-alarm probability: ALARM. After the second text, one token in several is hidden by the server."""
    prompt = tokens(engine, text)
    traces = extend(engine, *(pc.Request(prompt, 1, temperature, TOP_K, seed=seed) for seed in range(400)))
    drawn = {int(trace.tokens[0]): trace for trace in traces}
    seen = sorted(drawn)
    counts = np.array([sum(int(trace.tokens[0]) == token for trace in traces) for token in seen])
    law = np.array([np.exp(drawn[token].logq[0]) for token in seen])
    assert law.sum() < 1 + 1e-6
    assert chi_square_p(np.append(counts, 0), np.append(law, 1e-12 + max(0.0, 1 - law.sum()))) > ALARM


def test_an_abort_frees_the_place(server, engine):
    prompt = tokens(engine, "Once upon a time")
    request = pc.Request(prompt, 800, top_k=TOP_K)

    async def one_token():
        trace = await engine.extend(request, lambda piece: False)
        latest = time.monotonic() + 60
        while await asyncio.to_thread(server.busy):
            assert time.monotonic() < latest
        return trace

    assert len(asyncio.run(one_token())) < 100


def test_a_proxy_that_names_another_owner(server):
    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def forward(self, body=None):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
                connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                data = answer.read()
            if self.path == "/v1/models":
                listed = json.loads(data)
                data = json.dumps({"data": [{**card, "owned_by": "proxy"} for card in listed["data"]]}).encode()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.forward()

        def do_POST(self):
            self.forward(self.rfile.read(int(self.headers["Content-Length"])))

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
    thread.start()
    try:
        engine = pc.load(f"http://127.0.0.1:{proxy.server_port}/v1")
        assert "(llama.cpp)" in engine.describe()
        assert len(extend(engine, pc.Request(np.array([1, 2, 3]), 3, top_k=TOP_K))[0])
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def test_the_models_own_tokenizer_is_that_of_the_server_and_others_are_not(server, tmp_path):
    engine = pc.load(server.url, tokenizer="smollm2")
    [completion] = pc.sample(engine, pc.Standard(max_new_tokens=30, stop=("e",)), ["Hello"], seed=1)
    assert completion.finished
    tokenizer = json.loads((bundled := bundled_folder()).joinpath("tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, other = "Ġrepublic", "Ġmonarchy"
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((bundled / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(pc.SettingError, match="some words have other token ids"):
        pc.load(server.url, tokenizer=str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes((bundled / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}USER: {{ m['content'] }}\n{% endfor %}")
    with pytest.raises(pc.SettingError, match="renders a conversation otherwise"):
        pc.load(server.url, tokenizer=str(tmp_path))
