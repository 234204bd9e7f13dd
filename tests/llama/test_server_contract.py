"""The engine contract, and the exact law, on a real llama.cpp server of a random Llama of six tokens in float32.

It hides one of them. Its cache holds 16-bit floats, so that its log-probabilities are right to about 1e-3, and equal
requests draw equal tokens but in rare cases.
"""

import functools

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions
from tests.checks import chi_square_p, count
from tests.engines.test_contract import *  # noqa: F403
from tests.llama.server import LlamaServer
from tests.llama.tiny_gguf import HIDDEN, write_gguf
from tests.tiny import tiny_model

ALARM = 1e-6
PLACES = 16


@functools.cache
def model():
    return tiny_model("llama", vocab_size=6)


@functools.cache
def probs(context):
    with torch.inference_mode():
        logits = model()(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
    return logits.double().softmax(-1).numpy()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with LlamaServer(
        write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf", model()), PLACES, PLACES * 256
    ) as server:
        yield server


@pytest.fixture
def engine(server):
    return pc.load(server.url, top_k=6, stop_tokens=[EOS])


def test_it_knows_the_server(engine):
    assert engine.concurrency == PLACES
    assert "(llama.cpp)" in engine.describe()
    with pytest.raises(pc.SettingError, match="context_length=256"):
        engine.check(ask(n=300))  # noqa: F405


@pytest.mark.parametrize(("top_k", "temperature"), [(6, 1.0), (6, 0.5), (4, 0.5)])
def test_draws_have_the_law_of_the_model_hidden_tokens_too(engine, top_k, temperature):
    """False-alarm probability: ALARM."""
    sampler = pc.LowTemperature(alpha=1 / temperature, max_new_tokens=3, top_k=top_k)
    space = enumerate_completions(probs, (1, 2), 3, temperature, top_k)
    completions = pc.sample(engine, sampler, [[1, 2]], n=1000, seed=top_k)
    assert any(HIDDEN in completion.tokens for completion in completions)
    law = np.exp([trace.logq.sum() for trace in space.traces])
    assert chi_square_p(count(space, completions), law) > ALARM


def test_traces_are_those_of_a_forward_pass(engine):
    for trace in extend(engine, *(ask(seed, temperature=0.5) for seed in range(20))):  # noqa: F405
        context = tuple(PROMPT.tolist())  # noqa: F405
        for token, logp in zip(trace.tokens.tolist(), trace.logp, strict=True):
            top = np.sort(probs(context))[-4:].sum()
            assert abs(logp - np.log(probs(context)[token] / top)) < 0.02
            context += (token,)
