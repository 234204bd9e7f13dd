"""``--keep-views``: an answer links to a page of its chain."""

import re

import openai
import pytest

from powercut.server.views import page_of
from tests.server.serving import ASKED, NAME, SETTINGS, serving, web
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
    views = viewed.app.state.answering._views
    ask(viewed)
    held = next(reversed(views._views.values()))
    assert b"".join([held.packed()])
    assert page_of(held.packed(), "held").startswith("<!DOCTYPE html>")
    for _ in range(2):
        ask(viewed)
    assert held._dropped
    assert not held._packed
