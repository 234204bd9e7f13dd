"""Deadlines and budgets: a chain ends where it stands, and the answer says so."""

import asyncio
import json

import pytest

import powercut as pc
from tests.server.serving import SETTINGS, HalfEngine, LettersEngine, serving, web

PROMPT = [{"role": "user", "content": "abc"}]


def test_a_budget_ends_the_chain_after_the_last_step_that_it_pays(ask):
    events = []
    sampler = pc.EntropyCut(**SETTINGS, alpha=2)
    pc.sample(LettersEngine(), sampler, [PROMPT], seed=5, observe=lambda i, j, event: events.append(event))
    for budget in (4, 9, 15, 25, 10_000):
        answer = ask(seed=5, alpha=2, budget=budget).json()
        spent, standing, stopped = 0, None, None
        for event in events:
            spent += len(event.proposal) if event.step is None else event.step.tokens_decoded
            if spent > budget:
                stopped = "budget"
                break
            standing = event
        assert answer["powercut"]["stopped"] == stopped
        [choice] = answer["powercut"]["choices"]
        assert choice["stopped"] == stopped
        assert choice["logp"] == float(standing.trace.logp.sum())
        assert answer["usage"]["completion_tokens"] == len(standing.trace)
        assert answer["choices"][0]["finish_reason"] == ("stop" if standing.trace.finished else "length")


def test_a_budget_below_the_first_extension_gives_its_beginning(ask):
    for sampler in ("entropy-cut", "standard", "smc", "tmc", "low-temperature"):
        answer = ask(seed=1, sampler=sampler, budget=2).json()
        assert answer["powercut"]["stopped"] == "budget"
        assert answer["usage"]["completion_tokens"] <= 2
        assert answer["choices"][0]["message"]["content"]


class SlowToEnd(LettersEngine):
    """Hands over its last token, and is done some time after, as engines are that decode in a thread of their own."""

    async def extend(self, request, keep_going=None):
        trace = await super().extend(request, keep_going)
        for _ in range(100):
            await asyncio.sleep(0)
        return trace


@pytest.mark.parametrize("sampler", ["standard", "low-temperature"])
def test_a_stream_never_shows_the_token_that_spends_the_budget(sampler):
    body = {"messages": PROMPT, "sampler": sampler, "min_new_tokens": 11, "budget": 3, "seed": 5}
    with serving(SlowToEnd()) as served:
        whole = web.post(f"{served.url}/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        told = web.post(f"{served.url}/chat/completions", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in told.split("\n\n") if line.startswith("data: {")]
    assert not any("error" in event for event in events)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == whole
    assert len(whole) == 3


def test_the_budget_of_best_of_n_is_its_own(ask):
    answer = ask(sampler="best-of-n", budget=30).json()["powercut"]
    assert answer["settings"]["budget"] == 30
    assert answer["stopped"] is None


def test_what_rejection_rejects_is_no_answer(ask):
    answer = ask(sampler="rejection", budget=30, alpha=50)
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "budget"


def test_a_deadline_returns_where_the_chain_stands():
    with serving(HalfEngine()) as served:
        for seconds in (0.5, 2, 8, 32, 128):  # until it is long enough for a few tokens, on whatever machine
            body = {"messages": PROMPT, "sampler": "low-temperature", "min_new_tokens": 11, "deadline_s": seconds}
            answer = web.post(f"{served.url}/chat/completions", json=body)
            if answer.status_code == 200:
                break
    assert answer.json()["powercut"]["stopped"] == "deadline"
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert 1 <= len(answer.json()["choices"][0]["message"]["content"]) <= 4


def until_some_stand(served, path, **fields):
    """The answer under the first deadline that is long enough for a few tokens, on whatever machine."""
    for seconds in (0.5, 2, 8, 32, 128):
        answer = web.post(f"{served.url}/{path}", json={**fields, "deadline_s": seconds})
        if answer.status_code == 200 and '"error"' not in answer.text:
            break
    return answer


@pytest.mark.parametrize("stream", [False, True])
def test_choices_that_stand_are_returned_beside_those_with_nothing(served, stream):
    """The chain of the second prompt hangs. Its place is kept, since clients go by the order of choices."""
    fields = {"prompt": ["ab", "hab"], "n": 2, "seed": 5, "stream": stream, "logprobs": 0}
    answer = until_some_stand(served, "completions", **fields)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
        ends = [event for event in events if event["choices"][0]["finish_reason"]]
        ends.sort(key=lambda event: event["choices"][0]["index"])
        reasons = [event["choices"][0]["finish_reason"] for event in ends]
        texts = [""] * 4
        for event in events:
            texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
        facts = [each for event in ends for each in event["powercut"]["choices"]]
    else:
        found = answer.json()
        assert found["powercut"]["stopped"] == "deadline"
        assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
        assert found["choices"][3]["logprobs"]["tokens"] == []
        reasons = [choice["finish_reason"] for choice in found["choices"]]
        texts = [choice["text"] for choice in found["choices"]]
        facts = found["powercut"]["choices"]
    assert [each["stands"] for each in facts][2:] == [False, False]
    assert [each["logp"] is None for each in facts] == [not each["stands"] for each in facts]
    assert [bool(text) for text in texts] == [each["stands"] for each in facts]
    assert any(texts[:2])
    assert texts[2:] == ["", ""]
    assert reasons[2:] == ["length", "length"]
    assert {each["stopped"] for each in facts[2:]} == {"deadline"}


def test_a_choice_whose_turn_does_not_come_in_time_is_empty():
    engine = HalfEngine()
    engine.concurrency = 1
    with serving(engine) as served:
        answer = until_some_stand(
            served, "chat/completions", messages=PROMPT, n=3, sampler="low-temperature", min_new_tokens=11
        )
    contents = [bool(choice["message"]["content"]) for choice in answer.json()["choices"]]
    assert contents == [each["stands"] for each in answer.json()["powercut"]["choices"]] == [True, False, False]


@pytest.mark.parametrize("stream", [False, True])
def test_deadline_returned_or_an_error_with_x_should_retry_false(served, stream):
    body = {"messages": [{"role": "user", "content": "hab"}], "deadline_s": 0.2, "stream": stream}
    answer = web.post(f"{served.url}/chat/completions", json=body)
    if stream:
        assert '"code":"deadline"' in answer.text
        return
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "deadline"


def test_a_deadline_in_the_queue():
    engine = LettersEngine()
    engine.concurrency = 1
    with (
        serving(engine) as served,
        web.stream(
            "POST",
            f"{served.url}/chat/completions",
            json={"messages": [{"role": "user", "content": "hab"}], "stream": True},
        ) as hanging,
    ):
        next(hanging.iter_lines())
        body = {"messages": PROMPT, "deadline_s": 0.2}
        answer = web.post(f"{served.url}/chat/completions", json=body)
    assert answer.status_code == 504
    assert "in the queue" in answer.json()["error"]["message"]
