"""OpenAI's client for Python. ``test_older_openai.py`` has a year older one make these tests too."""

import asyncio

import openai
import pytest

import powercut as pc
from tests.server.serving import ASKED, NAME, PATIENCE, LettersEngine, serving


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served.url, api_key="none", timeout=PATIENCE) as found:
        yield found


def test_whole_answers(client, text):
    answer = client.chat.completions.create(
        model=NAME, messages=ASKED, seed=5, temperature=0.3, extra_body={"alpha": 4, "budget": 10_000}
    )
    assert answer.choices[0].message.content == text
    assert answer.powercut["settings"]["alpha"] == 4
    assert answer.usage.completion_tokens_details.decoded_tokens >= answer.usage.completion_tokens
    assert next(iter(client.models.list())).id == NAME
    assert client.models.retrieve(f"{NAME}@standard").id == f"{NAME}@standard"


def test_streams(client, text):
    chunks = list(
        client.chat.completions.create(
            model=NAME,
            messages=ASKED,
            seed=5,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"stream_progress": True},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == text
    assert any("stage 1" in getattr(delta, "reasoning_content", "") for delta in deltas)
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
    [ended] = pc.sample(LettersEngine(), pc.Standard(max_new_tokens=12, top_k=8), [ASKED], seed=1)
    assert ended.finished  # of a text that is cut off this way makes an error
    with client.chat.completions.stream(model=f"{NAME}@standard", messages=ASKED, seed=1) as stream:
        assert stream.get_final_completion().choices[0].message.content == ended.text


def test_awaited(served, text):
    async def ask():
        async with openai.AsyncOpenAI(base_url=served.url, api_key="none", timeout=PATIENCE) as client:
            whole = await client.chat.completions.create(model=NAME, messages=ASKED, seed=5)
            parts = [
                chunk.choices[0].delta.content or ""
                async for chunk in await client.chat.completions.create(
                    model=f"{NAME}@standard", messages=ASKED, seed=5, stream=True
                )
            ]
            return whole.choices[0].message.content, "".join(parts)

    standard = pc.sample(LettersEngine(), pc.Standard(max_new_tokens=12, top_k=8), [ASKED], seed=5)
    assert asyncio.run(ask()) == (text, standard[0].text)


def test_completions_and_responses(client, text):
    answer = client.completions.create(model=NAME, prompt=["ab", "cd"], seed=5, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    response = client.responses.create(model=NAME, input="abc", extra_body={"seed": 5})
    assert response.output_text == text
    events = list(client.responses.create(model=NAME, input="abc", stream=True, extra_body={"seed": 5}))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert events[-1].response.output_text == text


def test_raises_what_is_refused(client):
    asked = {"model": NAME, "messages": ASKED}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked, tools=[{"type": "function", "function": {"name": "f"}}])
    assert refused.value.param == "tools"
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="none", messages=ASKED)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.APIError, match="the model returned NaN"):
        list(client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "gab"}], stream=True))
    with pytest.raises(openai.InternalServerError) as late:  # at once: it is told not to try again
        client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "hab"}], extra_body={"deadline_s": 0.1}
        )
    assert late.value.code == "deadline"


def test_with_a_key():
    with serving(keys=["right"]) as served:
        with openai.OpenAI(base_url=f"{served.url}/", api_key="right", timeout=PATIENCE) as client:
            assert client.chat.completions.create(model=NAME, messages=ASKED).choices
        wrong = openai.OpenAI(base_url=served.url, api_key="wrong", timeout=PATIENCE)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
