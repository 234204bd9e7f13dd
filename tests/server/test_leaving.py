"""Clients that go away, come again, or are too many."""

import asyncio

import pytest

from powercut.server import ongoing
from powercut.server.refusals import Refusal
from powercut.server.turns import Turns
from tests.server.serving import LettersEngine, eventually, open_request, serving, web

HANGS = {"messages": [{"role": "user", "content": "hab"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_disconnect_frees_the_engine(stream):
    assert ongoing.GRACE < 1
    engine = LettersEngine()
    with serving(engine) as served:
        connection = open_request(served, {**HANGS, "stream": stream, "n": 3})
        eventually(lambda: engine.running == 3)
        connection.close()
        eventually(lambda: engine.running == 0)
        eventually(lambda: served.app.state.turns.running == 0)


def test_a_client_s_retry_does_not_start_a_second_chain(monkeypatch):
    monkeypatch.setattr(ongoing, "GRACE", 30.0)
    engine = LettersEngine()
    with serving(engine) as served:
        first = open_request(served, HANGS, x_stainless_retry_count=0)
        eventually(lambda: engine.running == 1)
        first.close()
        again = open_request(served, HANGS, x_stainless_retry_count=1)
        other = open_request(served, {**HANGS, "seed": 1}, x_stainless_retry_count=1)
        eventually(lambda: engine.running == 2)
        eventually(lambda: "powercut_retries_joined_total 1" in web.get(f"{served.root}/metrics").text)
        assert engine.running == 2
        again.close()
        other.close()


def test_a_retry_is_given_the_answer_that_its_first_try_missed(monkeypatch):
    monkeypatch.setattr(ongoing, "GRACE", 30.0)
    with serving() as served:
        body = {"messages": [{"role": "user", "content": "abc"}]}  # no seed: a second chain would be another
        texts = [
            web.post(
                f"{served.url}/chat/completions", json=body, headers={"x-stainless-retry-count": str(count)}
            ).json()
            for count in (0, 1)
        ]
    assert texts[0]["id"] == texts[1]["id"]
    assert texts[0]["powercut"] == texts[1]["powercut"]


def test_a_full_queue_says_429_with_retry_after():
    engine = LettersEngine()
    engine.concurrency = 1
    with serving(engine, most_waiting=2) as served:
        waiting = [open_request(served, {**HANGS, "seed": seed}) for seed in range(3)]
        eventually(lambda: served.app.state.turns.waiting == 2)
        answer = web.post(f"{served.url}/chat/completions", json={**HANGS, "seed": 9})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "queue_full"
        for each in waiting:
            each.close()


def test_requests_take_turns():
    """One with many chains does not keep another waiting for all of them."""
    order = []

    async def chain(turns, owner, width=1):
        async with turns.turn(owner, width):
            order.append(owner)
            await asyncio.sleep(0)

    async def both():
        turns = Turns(2, 10)
        await asyncio.gather(*(chain(turns, "many") for _ in range(10)), *(chain(turns, "few") for _ in range(3)))
        assert (turns.running, turns.waiting) == (0, 0)

    asyncio.run(both())
    assert order[:8].count("few") == 3


def test_wide_chains_and_cancelled_ones():
    async def work():
        turns = Turns(4, 10)
        entered = asyncio.Event()
        leave = asyncio.Event()

        async def hold(owner, width):
            async with turns.turn(owner, width):
                entered.set()
                await leave.wait()

        first = asyncio.create_task(hold("a", 3))
        await entered.wait()
        wide = asyncio.create_task(hold("b", 100))
        narrow = asyncio.create_task(hold("c", 1))
        await asyncio.sleep(0)
        assert (turns.running, turns.waiting) == (1, 2)  # the wide one is not overtaken for ever
        wide.cancel()
        await asyncio.gather(wide, return_exceptions=True)
        await asyncio.sleep(0)
        assert (turns.running, turns.waiting) == (2, 0)
        leave.set()
        await asyncio.gather(first, narrow)
        assert turns.running == 0
        async with turns.turn("d", 100):
            assert turns.running == 1

    asyncio.run(work())
    with pytest.raises(Refusal, match="0 requests wait"):
        Turns(1, 0).check_room()
