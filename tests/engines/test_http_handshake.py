"""What the checks at the start find, each in one line."""

import asyncio
import json

import pytest

import powercut as pc
from powercut.engines.http.api import Api
from powercut.study.exact import EOS
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, ask, every_kind, extend, load, never_stops, now, rejected
from tests.tiny import tiny_tokenizer


def test_no_server():
    with FakeServer(MODEL) as server:
        pass
    rejected(server, "no answer from http://127.0.0.1:.*start the server")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http:", "no server is named"),
        ("https:,", "no server is named"),
        ("http://host/" + "x" * 10_000, "has 10012 characters"),
        ("http:///v1", "no base URL"),
        ("http://", "no base URL"),
        ("http://host:99999/v1", "no base URL"),
        ("http://host:x/v1", "no base URL"),
        ("http://[::1/v1", "no base URL"),
        ("http://host/v1,ftp://other", "no base URL"),
        ("http://u:secret@host/v1", "no key into the URL"),
        ("http://u:secret@host:99999/v1", r"'http://\*\*\*@host:99999/v1' is no base URL"),
        ("http://u:secret@[::1/v1", r"'http://\*\*\*@\[::1/v1' is no base URL"),
        ("http://host/v1?", "no key into the URL"),
        ("http://host/v1#secret", "'http://host/v1' has a fragment"),
        ("http://u:secret@host/" + "x" * 10_000, "has 10021 characters"),
        ("u:secret@host:8000", "http://host:8000"),
        ("http://host:1/v1 http://host:2/v1", "no base URL"),
        ("http://host:1/v1;http://host:2/v1", "no base URL"),
        ("http://http://host:1", "no base URL"),
        ("http://host:1\x1b[2J", "no base URL"),
        ("http://\ud800/", "no base URL"),
        ("ftp://u:secret@host/v1", "begins with http:// or https://"),
        ("localhost:8000,localhost:8001/v1", "http://localhost:8000,http://localhost:8001/v1"),
        ("http://host/v1?key=secret", "no key into the URL"),
        ("http://host/v1#part", "fragment"),
        ("http://host/v1#", "fragment"),
        ("http://host/v1,http://host", "each server once"),
        ("http://host/v1,http://host/v1/", "each server once"),
        ("localhost:11434", "http://localhost:11434"),
        ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("[::1]:8000", r"http://\[::1\]:8000"),
    ],
)
def test_urls_that_are_none(url, match):
    with pytest.raises(pc.SettingError, match=match) as caught:
        pc.load(url)
    assert "secret" not in str(caught.value)


@every_kind
def test_another_model(kind):
    with FakeServer(MODEL, kind=kind, model="org/some") as server:
        rejected(server, "model: .* serves org/some, not org/other", model="org/other")
        assert load(server, model="org/some").name == "org/some"


def test_the_scheme_may_be_in_capitals_and_have_spaces_around():
    with FakeServer(MODEL) as server:
        assert pc.load(server.url.replace("http", " HTTP") + "/ \n", top_k=4).name == "fake"


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\u202eab", "x" * 5000])
def test_a_server_whose_model_has_no_name(name):
    listed = json_answer({"data": [{"id": name, "owned_by": "vllm"}]})
    with FakeServer(MODEL, instead=lambda path, body: listed) as server:
        assert rejected(server, "lists what is no name", model=None).isprintable()


def test_a_redirect_names_the_address_to_give():
    moved = b"HTTP/1.1 308 X\r\nLocation: https://elsewhere/v1/models\r\nContent-Length: 0\r\n\r\n"
    with FakeServer(MODEL, instead=lambda path, body: moved) as server:
        rejected(
            server, "^http://127.0.0.1:[0-9]+ sends its callers on to https://elsewhere/v1/models: give the address"
        )


def test_servers_of_different_models():
    with (
        FakeServer(MODEL) as one,
        FakeServer(MODEL, model="other") as two,
        pytest.raises(pc.SettingError, match="other"),
    ):
        load(one, two)


@every_kind
def test_no_log_probs(kind):
    with FakeServer(MODEL, kind=kind, log_probs=False) as server:
        rejected(server, "no log-probabilities")


@every_kind
def test_processed_log_probs(kind):
    remedies = {"llama": "newer", "sglang": "SGLANG_RETURN_ORIGINAL_LOGPROB=1"}
    with FakeServer(MODEL, kind=kind, processed=True) as server:
        rejected(server, remedies.get(kind, "--logprobs-mode raw_logprobs"))


def test_too_few_log_probs():
    with FakeServer(MODEL, max_logprobs=3) as server:
        rejected(server, "top_k=4: .*max allowed: 3.*--max-logprobs 4")
    with FakeServer(MODEL) as server:
        rejected(server, "top_k=7: .* only 6 log-probabilities", top_k=7)


@every_kind
def test_more_log_probs_than_were_tried_out_are_refused_by_the_first_request(kind):
    """Nothing is asked before, which would hold up the event loop."""
    with FakeServer(MODEL, kind=kind, max_logprobs=5) as server:
        engine = load(server)
        before = len(server.calls)
        engine.check(ask(top_k=6))
        assert len(server.calls) == before
        assert len(extend(engine, ask(n=1, top_k=5))[0])
        remedy = "--max-logprobs 6, or lower top_k" if kind in ("completions", "generate") else "lower top_k"
        with pytest.raises(pc.SettingError, match=f"top_k=6: .* refuses .*max allowed: 5.*: .*{remedy}"):
            extend(engine, ask(n=1, top_k=6))
    with FakeServer(MODEL, kind=kind) as server:
        engine = load(server)
        with pytest.raises(pc.EngineError, match="6 log-probabilities for a token where top_k is 7"):
            extend(engine, ask(top_k=7))


def test_requests_that_no_server_can_serve():
    with FakeServer(MODEL, max_model_len=20) as server:
        engine = load(server)
        with pytest.raises(pc.SettingError, match="top_k=None"):
            pc.sample(engine, pc.Standard(top_k=None), [[1]])
        with pytest.raises(pc.SettingError, match=r"context_length=20: .*give the server a longer one"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=20), [[1]])
        with pytest.raises(pc.SettingError, match=r"temperature 0\.001"):  # which vLLM would raise to 0.01
            pc.sample(engine, pc.LowTemperature(alpha=1000, top_k=4, max_new_tokens=2), [[1]])
        with pytest.raises(pc.SettingError, match="tokenizer on this machine"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=4, stop=("x",)), [[1]])
    assert engine.describe() == f"fake at {server.url[:-3]} (vLLM completions), up to 64 requests at once"


def test_what_is_no_such_server():
    with FakeServer(MODEL) as server:
        server.kind = "llama"  # the list of models says llama.cpp, and this path is not there
        api = Api(server.url[:-3])
        assert asyncio.run(api.get("/v1/models"))["data"][0]["owned_by"] == "llamacpp"
        with pytest.raises(pc.EngineError, match="404"):
            asyncio.run(api.post("/nothing", {}))


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": "x"},
        {"top_k": True},
        {"top_k": None, "concurrency": 1.5},
        {"read_timeout": 0},
        {"connect_timeout": -1.0},
        {"retry_for": float("nan")},
        {"retry_for": -1},
        {"backoff": "x"},
        {"backoff": float("inf")},
    ],
)
def test_options_that_cannot_be_used(options):
    with pytest.raises(pc.SettingError, match="must be a"):
        pc.load("http://host/v1", **options)


@pytest.mark.parametrize(
    "about", [[], 7, {"total_slots": -5}, {"total_slots": "x"}, {"default_generation_settings": 7}]
)
def test_a_server_that_tells_nonsense_of_itself(about):
    with FakeServer(MODEL, kind="llama") as server:
        server.instead = lambda path, body: json_answer(about) if path.startswith("/props") else None
        if isinstance(about, dict) and about.get("total_slots") == -5:
            assert load(server).concurrency == 64
        else:
            rejected(server, "llama.cpp")


def test_an_option_it_does_not_have():
    with pytest.raises(pc.SettingError, match="http engine has no option slots"):
        pc.load("http://host/v1", slots=3)


# dialects


@every_kind
@pytest.mark.parametrize("owner", ["me", "vllm", "llamacpp", "sglang", "openai"])
def test_a_proxy_may_name_any_owner(kind, owner):
    with FakeServer(MODEL, kind=kind, owner=owner) as server:
        (trace,) = extend(load(server), ask(3))
    assert trace.tokens.tolist() == extend(pc.TableEngine(MODEL, EOS), ask(3))[0].tokens.tolist()


def json_answer(body, status=200):
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def plain(text, status):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


NOT_FOUND = json_answer({"detail": "Not Found"}, 404)
TEXT_STREAM = 'data: {"choices": [{"text": "hi", "index": 0, "finish_reason": "length"%s}]}\n\ndata: [DONE]\n\n'
BY_TEXT = ', "logprobs": {"tokens": ["hi"], "token_logprobs": [-1.0], "top_logprobs": [{"hi": -1.0, "ho": -2.0}]}'
OTHERS = {  # what each says to any POST, by its path
    "ollama": lambda path: (
        json_answer({"error": {"message": "json: cannot unmarshal array into Go struct field"}}, 400)
        if path == "/v1/completions"
        else plain("404 page not found", 404)
    ),
    "lm studio": lambda path: json_answer({"error": f"Unexpected endpoint or method. (POST {path})"}),
    "tgi": lambda path: plain("Failed to deserialize the JSON body into the target type: prompt: invalid type", 422),
    "openai": lambda path: (
        json_answer({"error": {"message": "Unrecognized request argument supplied: add_special_tokens"}}, 400)
        if path == "/v1/completions"
        else json_answer({"error": {"message": f"Invalid URL (POST {path})"}}, 404)
    ),
    "llama-cpp-python": lambda path: json_answer({"error": {"message": "[{'type': 'string_type'}]"}}, 422),
    "only chat": lambda path: NOT_FOUND,
    "all 400": lambda path: json_answer({"error": "unknown route"}, 400),
    "all 500": lambda path: json_answer({"error": "unknown route"}, 500),
    "a web page": lambda path: plain("<html>hello</html>", 200),
    "text without log-probabilities": lambda path: plain(TEXT_STREAM % "", 200),
    "log-probabilities by text": lambda path: plain(TEXT_STREAM % BY_TEXT, 200),
    "closes": lambda path: b"",
}


@pytest.mark.parametrize("models", [["m"], ["m", "embedder"]])
@pytest.mark.parametrize("other", OTHERS)
def test_other_kinds_of_server(other, models):
    def answer(path, body):
        if path == "/v1/models":
            return json_answer({"object": "list", "data": [{"id": name, "owned_by": "library"} for name in models]})
        return OTHERS[other](path) if body else NOT_FOUND

    with FakeServer(MODEL, instead=answer) as server:
        rejected(server, "is none of vLLM, SGLang and llama-server", retry_for=0.0)


@pytest.mark.parametrize("listed", [NOT_FOUND, plain("<html>", 200), json_answer({"error": "Unexpected endpoint"})])
def test_a_server_without_models(listed):
    with FakeServer(MODEL, instead=lambda path, body: listed) as server:
        rejected(server, "is none of vLLM, SGLang and llama-server")


def test_several_models_to_choose_from():
    def answer(path, body):
        data = [{"id": name, "owned_by": "vllm"} for name in ("fake", "other")]
        return json_answer({"data": data}) if path == "/v1/models" else None

    with FakeServer(MODEL, instead=answer) as server:
        rejected(server, "serves fake, other: say which")
        assert load(server, model="fake").name == "fake"


@pytest.mark.parametrize("path", ["/v1/models", "/completion"])
def test_a_server_that_still_loads_its_model_is_waited_for(path, caplog):
    loading = json_answer({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)
    left = [3]

    def answer(asked, body):
        left[0] -= asked == path and left[0] > 0
        return loading if asked == path and left[0] else None

    with FakeServer(MODEL, kind="llama") as server:
        server.instead = answer
        load(server)
    assert sum("Loading model; waiting for it" in record.getMessage() for record in caplog.records) == 1
    with FakeServer(MODEL, kind="llama") as server:
        server.instead = lambda asked, body: loading
        rejected(server, "Loading model.*start the server", retry_for=0.0)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_names_a_time_is_waited_for(path, status, caplog):
    busy = f"HTTP/1.1 {status} X\r\nRetry-After: 0.01\r\nContent-Length: 0\r\n\r\n".encode()
    left = [2]

    def answer(asked, body):
        left[0] -= asked == path and left[0] > 0
        return busy if asked == path and left[0] else None

    with FakeServer(MODEL) as server:
        server.instead = answer
        load(server)
        assert sum(f"HTTP {status}: no reason given; waiting" in record.getMessage() for record in caplog.records) == 1
        server.instead = lambda asked, body: busy
        rejected(server, f"HTTP {status}.*start the server", retry_for=0.0)


# what a server tells of itself


@pytest.mark.parametrize("kind", ["llama", "sglang"])
def test_concurrency_follows_the_servers_places(kind):
    with FakeServer(MODEL, kind=kind, places=3) as one, FakeServer(MODEL, kind=kind, places=5) as two:
        assert load(one, two).concurrency == 8
        assert load(one, two, concurrency=7).concurrency == 14
    with FakeServer(MODEL, kind=kind) as server:
        assert load(server).concurrency == 64


def test_the_context_of_one_place_is_the_limit():
    with FakeServer(MODEL, kind="llama", places=3, max_model_len=20) as server:
        engine = load(server)
        with pytest.raises(pc.SettingError, match="context_length=20"):
            engine.check(ask(n=18))


def test_the_model_is_named_in_every_request_to_llama_server():
    with FakeServer(never_stops, kind="llama", tokenizer=tiny_tokenizer(), model="org/a b") as server:
        bodies = []
        server.instead = lambda path, body: bodies.append(body)
        engine = load(server, top_k=3)
        now(engine.text.encode_chat([{"role": "user", "content": "hi"}]))
        now(engine.text.decode([50]))
        extend(engine, ask(top_k=3))
        assert {body.get("model") for body in bodies if body} == {"org/a b"}
        assert "/props?model=org%2Fa%20b" in server.calls
