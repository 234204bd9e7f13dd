"""The page behind which a model is: who is let in, and what is drawn for them."""

import asyncio

import httpx
import pytest

from powercut.engines.protocol import Request
from powercut.samplers import EntropyCut
from powercut.server.branching import Branch, Door, add_pieces, create_view_app
from powercut.trace import Trace
from tests.view.recorded import WORDS, read_lines, recorded, words_engine
from tests.view.test_page import unpack

HOST = "127.0.0.1:8123"
CHAIN = EntropyCut(max_new_tokens=20, blocks=2, steps=3, alpha=2)


class Slow:
    """An engine whose requests hang; ``running`` of them do."""

    def __init__(self, engine):
        self._engine, self.running = engine, 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def extend(self, request: Request, keep_going=None):
        self.running += 1
        try:
            return await asyncio.Event().wait()
        finally:
            self.running -= 1


def asked(*requests, engine=None, chains=None, headers=None):
    """The answers to some requests (method, path, JSON) to one application; TOKEN in a path is the token."""
    engine = engine or words_engine()
    chains = chains or recorded(CHAIN, words_engine())[2]
    door = Door.at(8123)

    async def ask():
        transport = httpx.ASGITransport(create_view_app(chains, engine, "t", None, door))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=headers) as client:
            return [
                await client.request(method, path.replace("TOKEN", door.token), json=body)
                for method, path, body in requests
            ]

    return asyncio.run(ask())


def branch(**changes):
    return ("POST", "/TOKEN/branch", {"place": [0, 0], "tokens": [3, 4], "seed": 0, **changes})


def test_only_who_has_the_token_and_the_right_name_comes_in():
    page, *others = asked(("GET", "/TOKEN/", None), ("GET", "/x/", None), ("GET", "/", None), ("POST", "/x/branch", {}))
    assert page.status_code == 200
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"
    assert '"branches": true' in page.text
    assert [answer.status_code for answer in others] == [404, 404, 404]
    for headers in ({"host": "evil.example"}, {"host": "127.0.0.1:80"}):
        answers = asked(("GET", "/TOKEN/", None), branch(), headers=headers)
        assert [answer.status_code for answer in answers] == [404, 404]
    assert Door.at(1).token != Door.at(1).token
    assert len(Door.at(1).token) >= 22


def test_a_form_of_another_site_is_no_request():
    [answer] = asked(branch(), headers={"content-type": "text/plain"})
    assert answer.status_code == 404


def test_a_branch_goes_on_from_its_tokens():
    first, again, other, hot = asked(branch(), branch(), branch(seed=1), branch(temperature=5.0))
    for answer in (first, again, other, hot):
        head, arrays = unpack(answer.json()["data"])
        assert 1 <= head["count"] <= 18
        assert head["logp"] == pytest.approx(-arrays["logp"].sum() / 1000, abs=0.02)
        assert all(head["vocabulary"][i] == (WORDS[token] if token else "") for i, token in enumerate(head["tokenIds"]))
        assert head["tellsLikely"]
        assert head["finished"] == (head["tokenIds"][arrays["ids"][-1]] == 0)
    assert first.json() == again.json()
    assert len({answer.text for answer in (first, other, hot)}) > 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"place": [4, 0]}, "does not have this completion's prompt"),
        ({"place": [0]}, "does not have this completion's prompt"),
        ({"tokens": [1] * 20}, "there is no room behind max_new_tokens=20"),
        ({"temperature": 0}, "temperature must be"),
        ({"seed": -1}, "seed must be"),
        ({"tokens": "x"}, "this is no request for a branch: tokens must be a list"),
        ({"tokens": [1.5]}, "this is no request for a branch: each of tokens must be a whole number"),
    ],
)
def test_what_cannot_be_drawn_is_said(changes, reason):
    [answer] = asked(branch(**changes))
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


def test_without_a_prompt_there_is_no_branch():
    _, lines, _ = recorded(CHAIN)
    old = read_lines([line for line in lines if line["kind"] != "prompt"])
    [answer] = asked(branch(), chains=old)
    assert "sample it again with --save-trace" in answer.json()["error"]


def test_a_branch_ends_with_its_page_and_with_the_server():
    engine = Slow(words_engine())
    _, _, chains = recorded(CHAIN, words_engine())
    app = create_view_app(chains, engine, "t", None, Door.at(1))
    branching = app.state.answering

    async def drawn(leave):
        gone = False

        async def is_gone():
            return gone

        wanted = Branch(place=(0, 0), tokens=Trace.empty().tokens)
        task = asyncio.create_task(branching.draw(wanted, is_gone))
        while not engine.running:
            await asyncio.sleep(0)
        if leave:
            gone = True
        else:
            branching.end()
        with pytest.raises(asyncio.CancelledError):
            await task
        return engine.running

    assert asyncio.run(drawn(leave=True)) == 0
    assert asyncio.run(drawn(leave=False)) == 0
    [answer] = asked(branch(), engine=words_engine())
    assert answer.status_code == 200


def test_texts_that_a_file_lacks_come_from_the_model():
    _, lines, chains = recorded(CHAIN)
    old = read_lines([line for line in lines if line["kind"] != "pieces"])
    add_pieces(old, words_engine())
    assert old.pieces == chains.pieces
