"""Clients that go away, come again, or are too many."""

import asyncio
import gc

import httpx
import openai
import pytest
from openai._models import FinalRequestOptions

from powercut.server import ongoing
from powercut.server.refusals import Refusal
from powercut.server.turns import Turns
from tests.server.serving import ASKED, PATIENCE, LettersEngine, eventually, open_request, serving, web

ANSWERED = {"messages": ASKED}
HANGS = {"messages": [{"role": "user", "content": "hab"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_disconnect_frees_the_engine(stream):
    assert ongoing.patience(0) < 1
    engine = LettersEngine()
    with serving(engine) as served:
        connection = open_request(served, {**HANGS, "stream": stream, "n": 3})
        eventually(lambda: engine.running == 3)
        connection.close()
        eventually(lambda: engine.running == 0)
        eventually(lambda: served.app.state.turns.running == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_httpx_that_drops_its_connections(stream):
    engine = LettersEngine()
    with serving(engine) as served:

        async def ask_and_leave():
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                bodies = [{**HANGS, "stream": stream, "seed": seed} for seed in range(4)]
                asked = [asyncio.create_task(client.post(f"{served.url}/chat/completions", json=b)) for b in bodies]
                while engine.running < 4:
                    await asyncio.sleep(0.01)
                for each in asked:
                    each.cancel()
                await asyncio.gather(*asked, return_exceptions=True)

        asyncio.run(ask_and_leave())
        eventually(lambda: engine.running == 0)


def nobody_waits(served):
    return not any(each.readers for same in served.app.state.answering._ongoing.values() for each in same)


def joined(served, count):
    return f"powercut_retries_joined_total {count}\n" in web.get(f"{served.root}/metrics").text


def test_a_client_s_retry_does_not_start_a_second_chain(monkeypatch):
    monkeypatch.setattr(ongoing, "MARGIN", 600.0)
    engine = LettersEngine()
    with serving(engine) as served:
        first = open_request(served, HANGS, x_stainless_retry_count=0)
        eventually(lambda: engine.running == 1)
        first.close()
        eventually(lambda: nobody_waits(served))
        again = open_request(served, HANGS, x_stainless_retry_count=1)
        other = open_request(served, {**HANGS, "seed": 1}, x_stainless_retry_count=1)
        eventually(lambda: engine.running == 2)
        eventually(lambda: joined(served, 1))
        assert engine.running == 2
        again.close()
        other.close()


def test_one_that_was_refused_and_comes_back_is_given_no_one_else_s_draw(monkeypatch):
    """Several clients ask the same without a seed. One of them finds the queue full, and tries again."""
    monkeypatch.setattr(ongoing, "MARGIN", 600.0)
    engine = LettersEngine()
    with serving(engine) as served:
        first = open_request(served, HANGS, x_stainless_retry_count=0)
        eventually(lambda: engine.running == 1)
        again = open_request(served, HANGS, x_stainless_retry_count=1)
        eventually(lambda: engine.running == 2)
        assert joined(served, 0)
        answers = [
            web.post(f"{served.url}/chat/completions", json=ANSWERED, headers={"x-stainless-retry-count": str(count)})
            for count in (0, 1)
        ]
        assert len({answer.json()["id"] for answer in answers}) == 2
        first.close()
        again.close()


def test_later_retries_are_waited_for_longer():
    """Each time as long as OpenAI's clients wait, and a little more."""
    client = openai.OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=9)
    options = FinalRequestOptions(method="post", url="/", max_retries=9)
    for retries in range(9):
        waits = max(client._calculate_retry_timeout(9 - retries, options) for _ in range(20))
        assert waits + 0.15 < ongoing.patience(retries) < waits * 4 / 3 + 0.3  # theirs is up to a quarter shorter


def test_a_second_retry_joins_although_the_first_had_time_to_leave(monkeypatch):
    """The time that an earlier try's end gave does not count any more once there was another."""
    waits = []
    monkeypatch.setattr(ongoing, "patience", lambda retries: waits.append(retries) or 600.0)
    engine = LettersEngine()
    with serving(engine) as served:
        for count in range(3):
            each = open_request(served, HANGS, x_stainless_retry_count=count)
            eventually(lambda count=count: joined(served, count))
            eventually(lambda: not nobody_waits(served))
            each.close()
            eventually(lambda count=count: waits == list(range(count + 1)))
        assert engine.running == 1


class GatedEngine(LettersEngine):
    """Draws once it is ``open``."""

    open = False

    async def extend(self, request, keep_going=None):
        while not self.open:
            await asyncio.sleep(0.01)
        return await super().extend(request, keep_going)


def test_a_retry_is_given_the_answer_that_was_drawn_while_nobody_waited(monkeypatch):
    monkeypatch.setattr(ongoing, "MARGIN", 600.0)
    engine = GatedEngine()
    with serving(engine) as served:
        first = open_request(served, ANSWERED)
        eventually(lambda: served.app.state.turns.running == 1)
        first.close()
        eventually(lambda: nobody_waits(served))
        engine.open = True
        eventually(lambda: served.app.state.turns.running == 0)
        with open_request(served, ANSWERED, x_stainless_retry_count=1) as again:
            assert again.recv(12) == b"HTTP/1.1 200"
        assert joined(served, 1)


def test_retries_of_equal_requests_are_given_an_answer_each(monkeypatch):
    """Several clients ask the same without a seed, to have several draws: a retry must not make two of them one."""
    monkeypatch.setattr(ongoing, "MARGIN", 600.0)
    engine = LettersEngine()
    with serving(engine) as served:
        firsts = [open_request(served, HANGS) for _ in range(8)]
        eventually(lambda: engine.running == 8)
        for each in firsts:
            each.close()
        answering = served.app.state.answering
        eventually(lambda: not any(each.readers for same in answering._ongoing.values() for each in same))

        agains = [open_request(served, HANGS, x_stainless_retry_count=1) for _ in range(8)]
        eventually(lambda: sum(e.readers for same in answering._ongoing.values() for e in same) == 8)
        [same] = answering._ongoing.values()
        assert [each.readers for each in same] == [1] * 8
        assert engine.running == 8
        for each in agains:
            each.close()


def test_nothing_is_kept_of_what_was_answered(monkeypatch):
    monkeypatch.setattr(ongoing, "patience", lambda retries: 0.0)
    with serving() as served:
        for body in ({"seed": 1}, {"stream": True}, {"budget": 5}, {"logprobs": True, "top_logprobs": 1}, {"alpha": 0}):
            web.post(f"{served.url}/chat/completions", json={**ANSWERED, **body})
        with open_request(served, HANGS):
            eventually(lambda: served.engine.running)
        eventually(lambda: not served.app.state.answering._ongoing)

        def of_this_server(each):
            return type(each) is ongoing.Ongoing and each._engine is served.engine

        eventually(lambda: gc.collect() >= 0 and not any(map(of_this_server, gc.get_objects())))


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


def test_requests_that_come_at_once_are_counted_before_they_wait():
    turns = Turns(1, 2)
    for owner in "abc":
        turns.check_room()
        turns.expect(owner)
    with pytest.raises(Refusal, match="2 requests wait"):
        turns.check_room()
    turns.forget("b")
    turns.check_room()


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
