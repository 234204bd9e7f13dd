"""Stock clients besides OpenAI's own, as people use them."""

import asyncio
from types import SimpleNamespace

from inspect_ai.model import GenerateConfig, get_model
from langchain_openai import ChatOpenAI
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

import powercut as pc
from tests.server.serving import ASKED, NAME, PATIENCE, SETTINGS, LettersEngine


def test_langchain(served, text):

    model = ChatOpenAI(model=NAME, base_url=served.url, api_key="none", seed=5, temperature=0.7, timeout=PATIENCE)
    answer = model.invoke([("human", "abc")])
    assert answer.content == text
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert "".join(chunk.content for chunk in model.stream([("human", "abc")])) == text
    assert asyncio.run(model.ainvoke([("human", "abc")])).content == text


def test_inspect(served, text, monkeypatch):

    monkeypatch.setenv("LETTERS_API_KEY", "none")
    monkeypatch.setenv("LETTERS_BASE_URL", served.url)

    async def ask(content, **config):
        async with get_model(f"openai-api/letters/{NAME}", memoize=False) as model:
            return await model.generate(content, config=GenerateConfig(seed=5, temperature=0.5, **config))

    answer = asyncio.run(ask("abc"))
    assert answer.completion == text
    assert answer.usage.output_tokens > 0
    assert asyncio.run(ask("abc", max_tokens=63)).stop_reason == "model_length"


def test_lm_eval(served, text):

    plain = {"model": NAME, "tokenizer_backend": None, "tokenized_requests": False}
    asked = {"until": ["h"], "max_gen_toks": 12, "temperature": 0.0, "do_sample": False}
    raw = LocalCompletionsAPI(base_url=f"{served.url}/completions", **plain)
    [same] = pc.sample(LettersEngine(), pc.EntropyCut(stop=("h",), **SETTINGS), ["abc"], seed=1234, chat=False)
    assert raw.generate_until([request("abc", asked)], disable_tqdm=True) == [same.text]
    chat = LocalChatCompletion(base_url=f"{served.url}/chat/completions", **plain)
    conversation = chat.apply_chat_template(ASKED)
    [answer] = chat.generate_until([request(conversation, {**asked, "until": []})], disable_tqdm=True)
    assert answer == pc.sample(LettersEngine(), pc.EntropyCut(**SETTINGS), [ASKED], seed=1234)[0].text
    assert text


def request(context, asked):
    return SimpleNamespace(args=(context, dict(asked)), doc={}, idx=0, task_name="t", repeats=1)
