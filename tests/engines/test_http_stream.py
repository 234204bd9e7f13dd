"""Reading streams: where events end, how long one waits for a token, and odd streams that are right."""

import asyncio
import gzip
import json
import threading

import numpy as np
import pytest

import powercut as pc
from powercut.engines.http import api
from powercut.engines.http.api import Api, lines
from tests.checks import ALARM, chi_square_p
from tests.engines.fake_dialects import write
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import ask, every_kind, extend, failing, load, never_stops, now, response


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
