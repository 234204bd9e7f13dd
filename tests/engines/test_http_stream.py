"""Reading streams: where events end, how long one waits for a token, and answers of any other shape."""

import asyncio
import gzip
import json
import threading

import numpy as np
import pytest

import powercut as pc
from powercut.engines.http import api
from powercut.engines.http.api import Api, lines
from tests.checks import chi_square_p
from tests.engines.fake_server import FakeServer, write
from tests.engines.http_tools import MODEL, ask, every_kind, extend, load, never_stops, now, rejected

ALARM = 1e-6


def response(body, status="200 OK", **headers):
    """A whole answer of HTTP."""
    body = body if isinstance(body, bytes) else body.encode()
    named = {"Content-Length": len(body), "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def failing(server, **options):
    """What one request raises, which must be one line."""
    engine = load(server, retry_for=0.0, top_k=3)
    server.spoil = options.pop("spoil", server.spoil)
    server.instead = options.pop("instead", server.instead)
    with pytest.raises(pc.EngineError) as caught:
        extend(engine, ask(top_k=3, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def pieces(*parts):
    for part in parts:
        yield part


async def all_lines(*parts):
    return [line async for line in lines(pieces(*parts), "root")]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_events_end_at_newlines_and_nowhere_else(size):
    texts = ["a", "\u2028\u2029\u0085\x0b\x0c\x1c", "", "b\rc"]
    data = "\n".join(texts).encode() + b"\r\nend\n"
    split = now(all_lines(*(data[i : i + size] for i in range(0, len(data), size))))
    assert [line.decode() for line in split] == [*texts, "end"]


def test_what_follows_the_last_newline_is_no_event():
    assert now(all_lines(b"whole\ncut off")) == [b"whole"]


def test_an_event_too_large_is_given_up(monkeypatch):
    monkeypatch.setattr(api, "LARGEST_ANSWER", 1 << 20)
    assert len(now(all_lines(*[b"x" * 1000] * 1000, b"\n"))[0]) == 10**6
    with pytest.raises(pc.EngineError, match="more than 1 MiB"):
        now(all_lines(*[b"x" * 1000] * 1100, b"\n"))
    with pytest.raises(pc.EngineError, match="more than 1 MiB"):
        now(all_lines(b"x" * (1 << 21) + b"\n"))  # all in one part
    with FakeServer(never_stops) as server:
        assert "more than 1 MiB" in failing(server, spoil=lambda text: text.rstrip("\n") + " " * (1 << 21))


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1e", "\ufeff"])
def test_a_token_whose_text_ends_lines_elsewhere_keeps_its_probability(text):
    """False-alarm probability: ALARM. Raw in JSON, as servers write it; the share of token 3 is 0.2."""

    def with_text(event):
        body = json.loads(event.removeprefix("data: "))
        for choice in body["choices"]:
            choice["text"] = "".join(text if token == 3 else "a" for token in choice["token_ids"])
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

    with FakeServer(lambda context: np.array([0, 0.4, 0.3, 0.2, 0.1]), spoil=with_text) as server:
        traces = extend(load(server), *(ask(seed, n=5) for seed in range(60)))
        assert len(server.seen) == 62  # none is asked twice
    counts = np.bincount(np.concatenate([trace.tokens for trace in traces]), minlength=5)
    assert chi_square_p(counts[1:], np.array([0.4, 0.3, 0.2, 0.1])) > ALARM


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


RIGHT = {
    "a mark of UTF-8 first": lambda data: b"\xef\xbb\xbf" + data,
    "other line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "no space": lambda data: data.replace(b"data: ", b"data:"),
    "comments and other fields": lambda data: b": ping\n\n:\nevent: token\nid: 7\nretry: 3\n" + data,
    "bytes of no text": lambda data: data + b": \xff\xfe\n\n",
    "more after its end": lambda data: data + b"data: [DONE]\n\ndata: [DONE]\n\n",
}
HEADS = {
    "one byte a chunk": lambda data: chunked([data[i : i + 1] for i in range(len(data))]),
    "trailers": lambda data: chunked([data], b"X-Trailer: 1\r\n"),
    "until it closes": lambda data: b"HTTP/1.0 200 OK\r\n\r\n" + data,
    "informational answers first": lambda data: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + chunked([data]),
    "gzip": lambda data: response(gzip.compress(data), Content_Encoding="gzip"),
}


def chunked(parts, trailer=b""):
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailer + b"\r\n"


@every_kind
@pytest.mark.parametrize("how", [*RIGHT, *HEADS])
def test_odd_streams_that_are_right(kind, how):
    with FakeServer(never_stops, kind=kind) as server:
        drawn = list(server.answer((1, 2, 3), 1, 1.0, 3, 0, set()))
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in write(server, drawn, drawn, 3)).encode()
        answer = HEADS[how](data) if how in HEADS else chunked([RIGHT[how](data)])
        engine = load(server, top_k=3, retry_for=0.0)
        server.instead = lambda path, body: answer
        (trace,) = extend(engine, ask(top_k=3, n=1))
    assert trace.tokens.tolist() == [drawn[0][0]]


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


@pytest.mark.parametrize("drip", [b": still there\n\n", b" "], ids=["comments", "single bytes"])
def test_only_a_token_renews_the_deadline(drip):
    """The server keeps sending, and no token comes: nothing but the deadline ends that."""
    ended = threading.Event()
    with FakeServer(never_stops) as server:
        engine = load(server, retry_for=0.0, top_k=3)
        engine._pool.servers[0].api.read_timeout = 0.5

        def send_for_ever(handler, body):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not ended.wait(0.01):
                handler.wfile.write(drip)

        server.handle_instead = send_for_ever
        try:
            with pytest.raises(pc.EngineError, match=r"nothing came from .* for 0\.5 s \(read_timeout\)"):
                extend(engine, ask(top_k=3))
        finally:
            ended.set()


def test_slow_headers_do_not_renew_the_deadline():
    ended = threading.Event()
    with FakeServer(never_stops) as server:
        engine = load(server, retry_for=0.0, top_k=3)
        engine._pool.servers[0].api.read_timeout = 0.5

        def slow(handler, body):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.01):
                handler.wfile.write(b"x")

        server.handle_instead = slow
        try:
            with pytest.raises(pc.EngineError, match="nothing came from"):
                extend(engine, ask(top_k=3))
        finally:
            ended.set()


def test_each_token_renews_the_deadline_and_comments_do_not(monkeypatch):
    renewed = []
    reschedule = asyncio.Timeout.reschedule
    monkeypatch.setattr(
        asyncio.Timeout, "reschedule", lambda limit, when: (renewed.append(when), reschedule(limit, when))
    )
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)
        counts = []
        for n, comment in ((8, ""), (16, ""), (16, ": comment\n\n")):
            server.spoil = lambda event, comment=comment: comment + event + comment
            renewed.clear()
            assert len(extend(engine, ask(top_k=3, n=n))[0]) == n
            counts.append(len(renewed))
    assert counts[1] == counts[0] + 8
    assert counts[2] == counts[1]


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


def test_a_connection_that_died_while_it_was_kept_is_opened_again(caplog):
    """The server closes each connection after an answer without saying so before, as llama-server does."""
    with FakeServer(never_stops, close_after=True) as server:
        one = Api(server.url[:-3])

        async def thirty():
            engine = load_in_loop(server)
            for seed in range(30):
                await engine.extend(ask(seed, top_k=3, n=2))
            await engine.aclose()
            return [await one.get("/v1/models") for _ in range(3)]

        def load_in_loop(server):
            return load(server, top_k=3, retry_for=0.0)

        asyncio.run(thirty())
    assert not caplog.records
