"""Streams: their order, their headers, and that what is sent is never taken back."""

import asyncio
import json

import pytest

from powercut.server import answer
from powercut.server.app import Bounds, create_app
from powercut.server.offer import Offer
from powercut.server.safe_text import SafeText
from tests.server.serving import NAME, SETTINGS, HalfEngine, LettersEngine, serving, web

CHAT = {"messages": [{"role": "user", "content": "abc"}], "seed": 5, "stream": True}


def streamed(served, path="/chat/completions", **fields):
    """The response's headers, and the data of its events; comments are left out."""
    with web.stream("POST", served.url + path, json={**CHAT, **fields}) as response:
        assert response.status_code == 200, response.read()
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return response.headers, [line.removeprefix("data: ") for line in lines]


def deltas(events, index=0):
    choices = [choice for event in events if event != "[DONE]" for choice in json.loads(event).get("choices", [])]
    return [choice for choice in choices if choice["index"] == index]


def text_of(events, index=0):
    return "".join(choice["delta"].get("content", "") for choice in deltas(events, index))


def test_stream_order_role_content_finish_done_one_id(served, ask):
    _, events = streamed(served)
    assert events[-1] == "[DONE]"
    assert "powercut" in json.loads(events[-2])
    chunks = [json.loads(event) for event in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in chunks)
    first, *middle, last = deltas(events)
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert all(set(choice["delta"]) == {"content"} and choice["finish_reason"] is None for choice in middle)
    assert last["delta"] == {}
    whole = ask(seed=5).json()
    assert last["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert text_of(events) == whole["choices"][0]["message"]["content"]


def test_metropolis_hastings_text_comes_at_once(served):
    _, events = streamed(served, alpha=1)
    assert [bool(choice["delta"].get("content")) for choice in deltas(events)] == [False, True, False]


@pytest.mark.parametrize("sampler", ["standard", "low-temperature"])
def test_text_that_cannot_change_is_sent_as_drawn(sampler):
    body = {**CHAT, "sampler": sampler, "min_new_tokens": 11}
    with (
        serving(HalfEngine()) as served,
        web.stream("POST", f"{served.url}/chat/completions", json=body) as answer,
    ):
        text = ""
        for line in answer.iter_lines():
            if line.startswith("data: "):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"]
            if len(text) == 4:
                break


def test_include_usage(served, ask):
    _, events = streamed(served, stream_options={"include_usage": True})
    *chunks, last = [json.loads(event) for event in events[:-1]]
    assert last["choices"] == []
    assert last["usage"] == ask(seed=5).json()["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_proxy_headers(served):
    headers, _ = streamed(served)
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    assert "no-cache" in headers["cache-control"]


def test_first_byte_before_any_token_and_keep_alive(monkeypatch):
    monkeypatch.setattr(answer, "KEEP_ALIVE", 0.05)
    body = {"messages": [{"role": "user", "content": "hab"}], "stream": True}  # hangs
    with (
        serving() as served,
        web.stream("POST", f"{served.url}/chat/completions", json=body) as response,
    ):
        lines = response.iter_lines()
        assert '"role":"assistant"' in next(lines)
        assert next(lines) == ""
        assert [next(lines) for _ in range(4)] == [": at work", "", ": at work", ""]


def test_a_chain_that_moves_without_a_word_has_comments_too(served, monkeypatch):
    monkeypatch.setattr(answer, "KEEP_ALIVE", 0.2)
    body = {**CHAT, "steps": 2000}
    with web.stream("POST", f"{served.url}/chat/completions", json=body) as response:
        lines = list(response.iter_lines())
    assert lines[2] == ": at work"
    assert lines[-2] == "data: [DONE]"


def call(app, body, send):
    """Ask the application itself; ``send`` takes the messages of its answer."""
    first = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        return first.pop() if first else await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
    scope["headers"] = [(b"content-type", b"application/json")]
    return app(scope, receive, send)


def test_what_is_drawn_while_a_slow_client_is_told_of_others_is_told_too():
    app, told = create_app(Offer(NAME, LettersEngine(), "entropy-cut", SETTINGS), Bounds()), []

    async def send(message):
        told.extend(filter(None, message.get("body", b"").decode().split("\n\n")))
        while len(told) > 8 and app.state.turns.running:  # after the opening of each
            await asyncio.sleep(0)

    asyncio.run(call(app, {**CHAT, "n": 8}, send))
    events = [event.removeprefix("data: ") for event in told]
    assert all(deltas(events, index)[-1]["finish_reason"] for index in range(8))


def test_slow_readers_do_not_hold_the_engine():
    """Chains of one who takes nothing at all are drawn all the same, and so are those of others."""
    app, told = create_app(Offer(NAME, LettersEngine(), "entropy-cut", SETTINGS), Bounds()), []

    async def never(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def always(message):
        told.append(message)

    async def both():
        held = asyncio.create_task(call(app, {**CHAT, "n": 64}, never))
        await call(app, CHAT, always)
        while app.state.turns.running or app.state.turns.waiting:
            await asyncio.sleep(0)
        assert not held.done()
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)

    asyncio.run(both())
    assert b"[DONE]" in told[-2]["body"]


def test_error_object_in_mid_stream(served):
    _, events = streamed(served, messages=[{"role": "user", "content": "gab"}])
    error = json.loads(events[-2])["error"]
    assert events[-1] == "[DONE]"
    assert error == {
        "message": "the model returned NaN: try dtype float32",
        "type": "server_error",
        "param": None,
        "code": "engine_failed",
    }


def test_progress_is_told_if_asked_for(served):
    _, events = streamed(served, stream_progress=True, include=None)
    lines = [
        choice["delta"]["reasoning_content"] for choice in deltas(events) if "reasoning_content" in choice["delta"]
    ]
    assert lines[0] == "stage 1/3, 4 tokens\n"
    assert "accepted" in lines[-1]


@pytest.mark.parametrize(("path", "prompt"), [("completions", {"prompt": "abc"}), ("responses", {"input": "abc"})])
def test_progress_is_a_comment_where_the_form_has_no_place_for_it(served, path, prompt):
    fields = {"seed": 5, "stream": True}
    told = [
        web.post(f"{served.url}/{path}", json={**prompt, **fields, "stream_progress": progress}).text.split("\n\n")
        for progress in (True, False)
    ]
    comments = [event for event in told[0] if event.startswith(":")]
    assert comments[0] == ": stage 1/3, 4 tokens"
    assert "accepted" in comments[-1]
    assert len(told[0]) - len(comments) == len(told[1])


def test_streams_of_several_choices(served, ask):
    _, events = streamed(served, n=3)
    whole = ask(seed=5, n=3).json()["choices"]
    assert [text_of(events, i) for i in range(3)] == [choice["message"]["content"] for choice in whole]


def test_logprobs_come_with_the_text(served, ask):
    for sampler in ("entropy-cut", "standard"):
        fields = {"logprobs": True, "top_logprobs": 1, "sampler": sampler}
        _, events = streamed(served, **fields)
        told = [choice["logprobs"] for choice in deltas(events) if choice["logprobs"] is not None]
        assert told == [ask(seed=5, **fields).json()["choices"][0]["logprobs"]]


@pytest.mark.parametrize("stop", [["dd"], ["abab", "ba"], ["c", "aab"]])
def test_no_beginning_of_a_stop_is_sent(served, ask, stop):
    for seed in range(8):
        fields = {"seed": seed, "sampler": "standard", "stop": stop}
        _, events = streamed(served, **fields)
        assert text_of(events) == ask(**fields).json()["choices"][0]["message"]["content"]


def test_completions_stream(served, ask):
    fields = {"prompt": ["ab", "cd"], "echo": True, "stream_options": {"include_usage": True}}
    _, events = streamed(served, "/completions", messages=None, **fields)
    chunks = [json.loads(event) for event in events[:-1]]
    whole = ask("/v1/completions", seed=5, **{**fields, "stream_options": None}).json()
    for index in range(2):
        parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(part["text"] for part in parts) == whole["choices"][index]["text"]
        assert parts[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert events[-1] == "[DONE]"


def test_a_model_of_unfinished_characters():
    """What a character is becomes known with its last byte: nothing is sent before."""
    whole = "aé€𝄞b".encode()
    for stops in ([], ["€"]):
        safe, sent = SafeText(lambda ids: bytes(ids).decode(errors="replace"), stops), []
        for byte in whole:
            safe.add([byte])
            sent.append(safe.text)
        final = whole.decode() if not stops else "aé"
        assert sent[-1] == final
        assert all(final.startswith(text) for text in sent)
