"""The bundled model behind the server."""

import json
import re
from pathlib import Path

import openai
import pytest

import powercut as pc
from powercut.engines import load
from tests.server.serving import PATIENCE, serving, web

PAGE = Path(__file__).parents[2].joinpath("docs", "server.md").read_text()

SHORT = {"max_new_tokens": 16, "blocks": 2, "steps": 2}


@pytest.fixture(scope="module")
def real():
    engine = load("smollm2", slots=4, context_length=256)
    with serving(engine, extra=SHORT) as served:
        yield served
    pc.run.run(engine.aclose())


def test_openai_talks_with_the_bundled_model(real):
    with openai.OpenAI(base_url=real.url, api_key="none", timeout=PATIENCE) as client:
        [model, *_] = [each.id for each in client.models.list()]
        asked = {"messages": [{"role": "user", "content": "What is 7 * 8?"}], "seed": 3}
        whole = client.chat.completions.create(model=model, logprobs=True, top_logprobs=3, **asked)
        [choice] = whole.choices
        told = "".join(each.token for each in choice.logprobs.content)
        assert told.removesuffix("<|im_end|>") == choice.message.content
        assert sum(each.logprob for each in choice.logprobs.content) == pytest.approx(
            whole.powercut["choices"][0]["logp"]
        )
        for sampler in ("standard", "low-temperature", "entropy-cut"):
            same = client.chat.completions.create(model=f"{model}@{sampler}", **asked).choices[0].message.content
            chunks = client.chat.completions.create(model=f"{model}@{sampler}", stream=True, **asked)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == same


def test_the_page_asks_for_the_model_that_it_serves(real):
    served = re.search(r"powercut serve --model (\w+)", PAGE)[1]
    body = json.loads(re.search(r"-d '(.*)'", PAGE)[1])
    assert web.post(f"{real.url}/chat/completions", json=body).json()["model"] == served
    assert set(re.findall(r'(?:\bmodel=|openai-api/local/)"?([\w.-]+)', PAGE)) == {served}
