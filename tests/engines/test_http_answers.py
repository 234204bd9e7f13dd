"""Answers of another shape than they should have: each is an error in one line."""

import gzip
import json

import pytest

import powercut as pc
from powercut.engines.http import api
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, ask, every_kind, extend, failing, load, never_stops, rejected, response


@every_kind
@pytest.mark.parametrize(
    "broken",
    [
        "data: [1, 2]\n\n",
        "data: 7\n\n",
        "data: \n\n",
        "data: {}\n\n",
        'data: {"choices": null}\n\n',
        'data: {"choices": [null], "meta_info": null, "completion_probabilities": [null]}\n\n',
        'data: {"choices": [{"token_ids": 7}], "meta_info": {"completion_tokens": "x"}, "tokens": "x"}\n\n',
        "data: " + "[" * 100_000 + "\n\n",
        "Data: {}\n\n",
        " data: {}\n\n",
        "\ufeffdata: {}\n\n",
        '{"error": "Unexpected endpoint"}\n\n',
        "<html>\n\n",
        'data: {"choices": [], \ndata: "usage": {}}\n\n',
        'data: {"choices": []} data: {"choices": []}\n\n',
    ],
)
def test_a_malformed_event_is_an_error_and_no_retry(kind, broken):
    with FakeServer(never_stops, kind=kind) as server:
        engine = load(server, top_k=3, retry_for=1.0)
        server.spoil = lambda text: broken
        before = len(server.calls)
        with pytest.raises(pc.EngineError) as caught:
            extend(engine, ask(top_k=3, n=2))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
        assert len(server.calls) == before + 1


HARM = {
    "NaN": lambda v: float("nan"),
    "infinite": lambda v: float("-inf"),
    "null": lambda v: None,
    "positive": lambda v: 0.5,
    "text": lambda v: "-1.0",
    "true": lambda v: True,
}


def harmed(event, harm):
    """The event with its last log-probability changed, in whatever dialect."""
    body = json.loads(event.removeprefix("data: "))

    def walk(node):
        if isinstance(node, dict):
            if "logprob" in node and not node.get("top_logprobs"):
                node["logprob"] = harm(node["logprob"])
            elif isinstance(node.get("top_logprobs"), list) and "token_logprobs" in node:
                node["top_logprobs"] = [{k: harm(v) for k, v in row.items()} for row in node["top_logprobs"]]
            else:
                for key, value in node.items():
                    if key == "output_top_logprobs":
                        node[key] = [[[harm(v), i, x] for v, i, x in row] for row in value]
                    else:
                        walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(body)
    return f"data: {json.dumps(body)}\n\n"


@every_kind
@pytest.mark.parametrize("harm", HARM)
def test_log_probabilities_that_are_none_are_an_error_in_every_dialect(kind, harm):
    with FakeServer(never_stops, kind=kind) as server:
        text = failing(server, spoil=lambda event: harmed(event, HARM[harm]))
    assert "log-probabilit" in text
    with FakeServer(never_stops, kind=kind) as server:
        server.spoil = lambda event: harmed(event, HARM[harm])
        rejected(server, "log-probabilit", top_k=3)


@every_kind
def test_token_ids_that_are_no_whole_numbers_are_an_error(kind):
    for token in (1.5, "1", True, None, -1, 2**70):
        with FakeServer(never_stops, kind=kind) as server:

            def other(event, token=token):
                body = json.loads(event.removeprefix("data: "))
                for node in (body, *body.get("choices", [])):
                    if node.get("token_ids"):
                        node["token_ids"] = [token]
                    if node.get("tokens"):
                        node["tokens"] = [token]
                for entry in (body.get("meta_info") or {}).get("output_token_logprobs") or []:
                    entry[1] = token
                return f"data: {json.dumps(body)}\n\n"

            failing(server, spoil=other)


@pytest.mark.parametrize("kind", ["completions", "generate", "llama"])
def test_chunks_that_come_twice_are_an_error(kind):
    with FakeServer(never_stops, kind=kind) as server:
        assert "sends tokens twice" in failing(server, spoil=lambda event: event * 2)


ANSWERS = {
    "empty": response(""),
    "no JSON": response("<html>hello</html>"),
    "a number": response("7"),
    "a list": response("[]"),
    "null": response("null"),
    "no models": response('{"object": "list", "data": []}'),
    "models are null": response('{"data": null}'),
    "models are numbers": response('{"data": [1, 2]}'),
    "models have no name": response('{"data": [{"object": "model"}]}'),
    "an error with 200": response('{"error": "Unexpected endpoint or method. (GET /v1/models)"}'),
    "deep": response("[" * 100_000),
    "long number": response('{"data": ' + "1" * 5000 + "}"),
    "no gzip": response("plain", Content_Encoding="gzip"),
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "no HTTP": b"220 mail.example.org ESMTP\r\n",
    "nothing": b"",
    "half": response('{"data": []}')[:-4],
    "half a head": b"HTTP/1.1 200",
    "redirect": response("", "307 Temporary Redirect", Location="/elsewhere"),
    "500": response("", "500 Internal Server Error"),
    "bytes": response(b"\xff\xfe\x00"),
    "escape codes": response('{"error": {"message": "\\u001b[2J\\u001b]0;title\\u0007"}}', "400 Bad Request"),
    "no status": b"HTTP/1.1 \r\n\r\n",
    "no gzip's end": response(gzip.compress(b"{" * 1000)[:-20], Content_Encoding="gzip"),
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a place that is none": b"HTTP/1.1 308 X\r\nLocation: http://\xff\x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "a huge code": response('data: {"error": {"code": 1' + "0" * 400 + ', "message": "x"}}\n\n'),
    "two bytes a character": response('{"data": []}'.encode("utf-16")),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_any_answer_to_the_first_question_is_one_line(answer):
    with FakeServer(MODEL) as server:
        server.instead = lambda path, body: ANSWERS[answer]
        text = rejected(server, ".", retry_for=0.0)
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", ["completions", "llama"])
def test_any_answer_to_a_request_for_tokens_is_one_line(kind, answer):
    def spoilt(path, body):
        return None if path == "/v1/models" else ANSWERS[answer]

    with FakeServer(MODEL, kind=kind) as server:
        server.instead = spoilt
        assert rejected(server, ".", retry_for=0.0).isprintable()
    with FakeServer(never_stops, kind=kind) as server:
        assert failing(server, instead=spoilt).isprintable()


def test_an_answer_too_large_is_given_up(monkeypatch):
    monkeypatch.setattr(api, "LARGEST_ANSWER", 1 << 20)
    with FakeServer(MODEL) as server:
        server.instead = lambda path, body: response("x" * (1 << 21))
        rejected(server, "more than 1 MiB")
