"""``--keep-views``: an answer links to a page of its chain."""

import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import openai
import pytest

from powercut.server import views as viewing
from powercut.server.views import page_of
from tests.server.serving import ASKED, NAME, SETTINGS, LettersEngine, eventually, open_request, serving, web
from tests.view.test_page import unpack


@pytest.fixture(scope="module")
def viewed():
    with serving(keep_views=2) as served:
        yield served


def ask(served, **fields):
    client = openai.OpenAI(base_url=served.url, api_key="right", max_retries=0)
    return client.chat.completions.create(model=NAME, messages=ASKED, **fields)


def payloads(page):
    return [unpack(found)[0] for found in re.findall(r'id="chain-\d+">([^<]*)</script>', page)]


def test_an_answer_links_to_its_page(viewed):
    answer = ask(viewed, n=2, seed=5)
    path = answer.powercut["view"]
    assert path.startswith(f"/view/{answer.id}?token=")
    found = web.get(viewed.root + path)
    assert found.status_code == 200
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert (found.headers["cache-control"], found.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert f"<title>{answer.id}</title>" in found.text
    shown = payloads(found.text)
    assert [head["place"] for head in shown] == [[0, 0], [0, 1]]
    for head, told in zip(shown, answer.powercut["choices"], strict=True):
        assert head["logp"] == pytest.approx(told["logp"])
        assert (head["sampler"], head["seed"], head["model"]) == ("entropy-cut", 5, NAME)
        assert head["settings"]["blocks"] == SETTINGS["blocks"]
        assert head["tellsLikely"]
        assert len(head["events"]) > 1


def test_the_page_changes_no_answer(viewed, served):
    texts = [[choice.message.content for choice in ask(one, n=3, seed=8).choices] for one in (viewed, served)]
    assert texts[0] == texts[1]


def test_a_stream_links_to_it_too(viewed):
    last = [chunk for chunk in ask(viewed, stream=True, seed=1) if chunk.choices and chunk.choices[0].finish_reason][-1]
    assert web.get(viewed.root + last.powercut["view"]).status_code == 200


def test_only_the_last_ones_are_kept(viewed):
    first, *others = [viewed.root + ask(viewed).powercut["view"] for _ in range(3)]
    assert [web.get(url).status_code for url in (first, *others)] == [404, 200, 200]
    assert "they are of the last 2" in web.get(first).json()["error"]["message"]
    assert web.get(f"{viewed.root}/view/none").status_code == 404


def test_without_it_nothing_is_kept_and_there_is_no_route(served):
    answer = ask(served)
    assert "view" not in answer.powercut
    assert web.get(f"{served.root}/view/{answer.id}").status_code == 404
    assert "/view/{answer}" not in web.get(f"{served.root}/openapi.json").json()["paths"]


def test_the_page_needs_the_key_or_the_token_of_its_link():
    with serving(keep_views=2, keys=["right"]) as served:
        mine, other = ask(served), ask(served)
        url, token = (served.root + mine.powercut["view"]).split("?token=")
        assert web.get(f"{url}?token={token}").status_code == 200
        assert web.get(url, headers={"Authorization": "Bearer right"}).status_code == 200
        for wrong in ("", "?token=", "?token=x", f"?token={other.powercut['view'].split('=')[1]}", f"?tokens={token}"):
            assert web.get(url + wrong).status_code == 401
        assert web.get(f"{url}?token=x", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert web.get(f"{served.url}/models?token={token}").status_code == 401
        assert web.get(f"{served.root}/view/none?token={token}").status_code == 401


def test_an_answer_that_ended_before_its_first_step_has_no_page(viewed):
    answer = ask(viewed, seed=2, extra_body={"budget": 2, "blocks": 1, "min_new_tokens": 6})
    page = web.get(viewed.root + answer.powercut["view"])
    assert page.status_code == 404
    assert page.json()["error"]["message"] == "there is no step of this answer, or none yet"


def test_what_is_dropped_takes_no_memory(viewed):
    views = kept(viewed)
    ask(viewed)
    held = next(reversed(views._views.values()))
    assert held.packed()
    assert page_of(held.packed(), "held").startswith("<!DOCTYPE html>")
    for _ in range(2):
        ask(viewed)
    assert held._closed
    assert not held.packed()
    assert views._bytes == sum(view.size for view in views._views.values())


def kept(served):
    return served.app.state.answering._views


def test_an_answer_that_has_ended_keeps_its_packed_steps_alone(viewed):
    answer = ask(viewed, n=2)
    view = kept(viewed)._views[answer.id]
    assert view._packer is None
    assert len(view._packed) == view.size == len(view.packed())
    assert zlib.decompress(view.packed()).count(b'"kind": "completion"') == 2


def test_an_answer_that_was_given_up_keeps_no_packer():
    """TMC's particles go with it."""
    engine = LettersEngine()
    with serving(engine, keep_views=2) as served:
        hangs = [{"role": "user", "content": "hab"}]
        connection = open_request(served, {"messages": hangs})
        eventually(lambda: engine.running == 1)
        [view] = kept(served)._views.values()
        assert not view._closed
        connection.close()
        eventually(lambda: view._closed)
        assert view._packer is None


def test_the_oldest_go_where_all_take_too_much(monkeypatch):
    with serving(keep_views=9) as served:
        paths = [ask(served, seed=0).powercut["view"] for _ in range(3)]
        [size, *_] = [view.size for view in kept(served)._views.values()]
        monkeypatch.setattr(viewing, "MOST_BYTES", int(2.5 * size))
        paths.append(ask(served, seed=0).powercut["view"])
        assert [web.get(served.root + path).status_code for path in paths] == [404, 404, 200, 200]
        assert kept(served)._bytes <= 2.5 * size


def test_what_is_too_large_is_not_kept_and_its_page_says_so(monkeypatch):
    with serving(keep_views=9) as served:
        small = ask(served, seed=0)
        monkeypatch.setattr(viewing, "LARGEST", kept(served)._bytes + 100)
        large = ask(served, n=30, seed=0)
        assert web.get(served.root + small.powercut["view"]).status_code == 200
        page = web.get(served.root + large.powercut["view"])
        assert page.status_code == 404
        assert page.json()["error"]["message"].startswith("this answer's steps took more than ")
        assert kept(served)._bytes == kept(served)._views[small.id].size


def test_one_page_is_made_at_a_time_and_few_wait(viewed, monkeypatch):
    going, guard, makes, at_once = Event(), Lock(), [0], []

    def slow(packed, title):
        with guard:
            makes[0] += 1
            at_once.append(makes[0])
        going.wait(300)
        with guard:
            makes[0] -= 1
        return title

    monkeypatch.setattr(viewing, "page_of", slow)
    url = viewed.root + ask(viewed).powercut["view"]
    most = 1 + viewing.WAITING
    with ThreadPoolExecutor(most) as pool:
        asked = [pool.submit(web.get, url) for _ in range(most)]
        try:
            eventually(lambda: kept(viewed)._asked == most)
            refused = web.get(url)
        finally:
            going.set()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["message"] == "other pages are being made: come again"
        assert [each.result().status_code for each in asked] == [200] * most
    assert at_once == [1] * most
    assert web.get(url).status_code == 200
