"""Which server serves whom, how long one waits for those that fail, and what the log says of it."""

import asyncio
import time
from email.utils import formatdate

import pytest

import powercut as pc
from powercut.engines.http.api import _seconds
from powercut.engines.http.pool import LONGEST_PAUSE, Patience
from powercut.engines.protocol import Chain
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, OnWarning, ask, extend, load, never_stops, now


def test_pauses_grow_and_are_bounded_however_long_a_server_is_away():
    patience = Patience(retry_for=1e9, backoff=0.5)
    pauses = [patience.pause() for _ in range(5000)]
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert set(pauses[5:]) == {LONGEST_PAUSE}
    patience.renew(time.monotonic())
    assert patience.pause() == 0.5


def test_how_long_a_try_may_go_on_without_a_token(monkeypatch):
    """All of read_timeout at first, then as long as retry_for lasts since the last token."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = Patience(retry_for=600.0, backoff=0.5)
    assert patience.limit(300.0) == 300.0
    assert patience.limit(10_000.0) == 10_000.0
    now[0] += 300
    assert patience.left == 300
    patience.pause()
    assert patience.limit(1000.0) == 300
    assert patience.limit(200.0) == 200
    now[0] += 299
    assert patience.limit(1000.0) == LONGEST_PAUSE  # there is time for an answer, however late it is
    assert patience.limit(5.0) == 5.0
    now[0] += 1
    assert not patience.left
    patience.renew(now[0] - 50)  # a token came, and then nothing for 50 seconds
    assert (patience.waited, patience.left, patience.attempts) == (50, 550, 0)
    assert patience.limit(1000.0) == 1000
    hasty = Patience(retry_for=0.0, backoff=0.5)
    assert hasty.limit(300.0) == 300


def test_a_silent_server_is_left_for_another():
    """It answers whatever is no request for tokens. The times are of a test: 0.5 s of silence have failed."""
    with FakeServer(never_stops) as silent, FakeServer(never_stops) as other:
        engine = load(silent, other, top_k=3)
        silent.hold_after = 0
        for server in engine._pool.servers[:1]:
            server.api.read_timeout = 0.5
        chains = [Chain(), Chain()]
        traces = extend(engine, *(ask(seed, top_k=3, chain=chain) for seed, chain in enumerate(chains)))
        assert [len(trace) for trace in traces] == [12, 12]
        assert engine._pool.pick(chains[0]) is engine._pool.pick(chains[1]) is engine._pool.servers[1]
        silent.killed.set()


def test_a_silent_server_is_given_up_and_what_came_before_counts(monkeypatch):
    """It gives four tokens, then nothing; the time is counted from the last of them."""
    since: list[tuple[float, float]] = []
    shown: list[pc.Trace] = []
    renew = Patience.renew
    monkeypatch.setattr(
        Patience, "renew", lambda patience, at: since.append((at, time.monotonic())) or renew(patience, at)
    )
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3, retry_for=0.0)
        server.hold_after = 4

        def hasty_from_the_last_on(piece):
            shown.append(piece)
            if len(shown) == 3:
                engine._pool.servers[0].api.read_timeout = 0.5
            return True

        with pytest.raises(pc.EngineError, match=r"nothing came from .* for 0\.5 s \(read_timeout\); given up after"):
            extend(engine, ask(top_k=3), keep_going=hasty_from_the_last_on)
        server.killed.set()
    (made, _), (last_token, failed) = since[-2:]
    assert made < last_token <= failed - 0.5


def test_a_server_may_ask_for_a_longer_pause_but_not_for_more_than_is_left(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    patience = Patience(retry_for=100.0, backoff=0.5)
    assert patience.pause(30.0) == 30.0
    assert patience.pause(1e6) == 100.0
    assert Patience(0.0, 0.5).pause(30.0) == 0.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("7", 7), ("0.5", 0.5), ("-3", 0), ("nan", 0), ("inf", 0), ("soon", 0), ("Fri, 31 Feb 2026", 0)],
)
def test_retry_after_in_seconds(header, seconds):
    assert _seconds(header) == seconds


def test_retry_after_as_a_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert _seconds(formatdate(1e9 + 60, usegmt=True)) == 60
    assert _seconds(formatdate(1e9 - 60, usegmt=True)) == 0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status, monkeypatch):
    pauses = []
    pause = Patience.pause

    def noted(patience, asked=0.0):
        pauses.append(asked)
        return pause(patience, 0.0)

    monkeypatch.setattr(Patience, "pause", noted)
    busy = f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
    with FakeServer(MODEL) as server:
        engine = load(server)
        answers = [busy, busy]
        server.instead = lambda path, body: answers.pop() if body and answers else None
        extend(engine, ask())
    assert pauses == [7.0, 7.0]


def test_one_line_says_that_chains_wait_and_one_that_they_go_on():
    """Generation fails while the list of models answers."""
    with FakeServer(MODEL) as server, OnWarning(lambda: None) as heard:
        engine = load(server, backoff=0.01)
        server.failures = 40
        extend(engine, *(ask(seed, n=4) for seed in range(8)))
    assert [line.split("; ")[-1].split(" (")[0] for line in heard.lines] == [
        "chains wait, and go on when it answers",
        f"{server.url[:-3]} answers again",
    ]


def test_a_request_that_ends_its_server_is_not_sent_to_all_others(monkeypatch):
    """Each server closes the connection on the one request, and answers all the others. Time is up after ten tries."""
    met = []
    monkeypatch.setattr(Patience, "left", property(lambda patience: 0.0 if len(met) >= 10 else 600.0))

    with FakeServer(never_stops) as a, FakeServer(never_stops) as b, FakeServer(never_stops) as c:
        servers = [a, b, c]
        engine = load(*servers, top_k=3, backoff=0.01)
        for server in servers:
            server.instead = lambda path, body, server=server: (
                met.append(server) or b"" if body.get("seed") == 13 else None
            )

        async def all_at_once():
            work = [engine.extend(ask(seed, top_k=3)) for seed in (1, 13, 2)]
            return await asyncio.gather(*work, return_exceptions=True)

        one, bad, two = asyncio.run(all_at_once())
    assert len(one) == len(two) == 12
    assert isinstance(bad, pc.EngineError)
    assert "broke two servers off, and no other gets it" in str(bad)
    assert len({id(server) for server in met}) == 2


def test_an_unhappy_request_does_not_spin():
    """Others get tokens all the while, so that the server is never away: the pauses grow all the same."""
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3, backoff=0.05, retry_for=1.0)
        tries = []
        server.instead = lambda path, body: tries.append(1) or b"" if body.get("seed") == 13 else None

        async def both():
            others = asyncio.create_task(engine.extend(ask(1, top_k=3, n=10**6)))
            with pytest.raises(pc.EngineError, match="given up"):
                await engine.extend(ask(13, top_k=3))
            others.cancel()

        asyncio.run(both())
    assert len(tries) < 12


def test_closing_ends_what_runs_and_refuses_what_comes():
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)

        async def close_meanwhile():
            started = asyncio.Event()
            task = asyncio.create_task(engine.extend(ask(top_k=3, n=10**6), lambda piece: started.set() or True))
            await started.wait()
            await engine.aclose()
            await engine.aclose()
            return await asyncio.gather(task, engine.extend(ask(top_k=3)), return_exceptions=True)

        running, later = asyncio.run(close_meanwhile())
        assert isinstance(running, pc.EngineError)
        assert "closed while it decoded" in str(running)
        assert isinstance(later, pc.EngineError)
        assert "is closed: load it again" in str(later)
        assert server.aborted.wait(30)
        assert not engine._pool.servers[0].api._connections._clients


def test_one_loop_after_another():
    with FakeServer(never_stops) as server:
        engine = load(server, top_k=3)
        first = [extend(engine, ask(seed, top_k=3))[0] for seed in range(3)]
        assert [extend(engine, ask(seed, top_k=3))[0] for seed in range(3)] == first
        now(engine.aclose())
        with pytest.raises(pc.EngineError, match="is closed"):
            extend(engine, ask(top_k=3))


def test_sglang_that_repeats_itself_is_told_of_once():
    for cumulative, said in ((True, 1), (False, 0)):
        with FakeServer(never_stops, kind="sglang", cumulative=cumulative) as server, OnWarning(lambda: None) as heard:
            extend(load(server, top_k=3), *(ask(seed, top_k=3) for seed in range(5)))
        assert sum("--incremental-streaming-output" in line for line in heard.lines) == said
