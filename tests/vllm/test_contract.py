"""The engine contract, and the exact law, on a real vLLM that serves a random Llama of six tokens in float32.

In this process, and as ``vllm serve`` behind HTTP in both ways that it can be asked.

Its arithmetic differs between batches by about 1e-6, so that equal requests draw equal tokens but in rare cases.
"""

import asyncio
import functools

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.vllm import VllmEngine
from powercut.study.exact import EOS, enumerate_completions
from tests.checks import chi_square_p, count
from tests.engines.test_contract import *  # noqa: F403
from tests.tiny import tiny_model
from tests.vllm.models import TINY, forced, load_tiny, save_tiny
from tests.vllm.server import VllmServer, spoken_to_by

ALARM = 1e-6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with VllmServer(save_tiny(tmp_path_factory.mktemp("served"))) as server:
        yield server


@pytest.fixture(scope="module", params=["vllm", "generate", "completions"])
def served(request, tmp_path_factory):
    if request.param == "vllm":
        engine = load_tiny(tmp_path_factory.mktemp("tiny"), slots=64)
        yield engine
        asyncio.run(engine.aclose())
        return
    url = request.getfixturevalue("server").url
    with spoken_to_by(request.param):
        engine = pc.load(url, top_k=6, concurrency=64, stop_tokens=[EOS])
    assert f"(vLLM {request.param})" in engine.describe()
    yield engine


@pytest.fixture
def engine(served):
    return served


@functools.cache
def model():
    return tiny_model("llama", **TINY)


@functools.cache
def probs(context):
    with torch.inference_mode():
        logits = model()(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
    return logits.double().softmax(-1).numpy()


def test_it_knows_the_model(engine):
    assert engine.text is None
    assert engine.concurrency == 64
    with pytest.raises(pc.SettingError, match="context_length=256"):
        engine.check(ask(n=300))  # noqa: F405
    if isinstance(engine, VllmEngine):
        assert engine.stop_tokens == {0}
        assert engine.capacity.vocab_size == 6


@pytest.mark.parametrize("top_k", [6, 3])
def test_draws_have_the_law_of_the_model(engine, top_k):
    """False-alarm probability: ALARM."""
    sampler = pc.LowTemperature(alpha=2, max_new_tokens=3, top_k=top_k)
    space = enumerate_completions(probs, (1, 2), 3, sampler.proposal_temperature, top_k)
    completions = pc.sample(engine, sampler, [[1, 2]], n=2000, seed=top_k)
    law = np.exp([trace.logq.sum() for trace in space.traces])
    assert chi_square_p(count(space, completions), law) > ALARM


def test_chains_have_the_power_distribution(engine):
    """False-alarm probability: ALARM; the chain's own distance from its limit is far below what 800 draws can see."""
    sampler = pc.EntropyCut(
        alpha=2, steps=8, blocks=1, uniform_mix=0.3, refine_finished=True, max_new_tokens=3, top_k=6
    )
    space = enumerate_completions(probs, (1, 2), 3, sampler.proposal_temperature, 6)
    completions = pc.sample(engine, sampler, [[1, 2]], n=800, seed=5)
    assert chi_square_p(count(space, completions), space.power(2)) > ALARM


def test_traces_are_those_of_a_forward_pass(engine):
    for trace in extend(engine, *(ask(seed, temperature=0.5) for seed in range(20))):  # noqa: F405
        want = forced(model(), PROMPT, trace.tokens, top_k=4, temperature=0.5)  # noqa: F405
        np.testing.assert_allclose(trace.logp, want.logp, atol=1e-4)
        np.testing.assert_allclose(trace.logq, want.logq, atol=1e-4)
        np.testing.assert_allclose(trace.entropy, want.entropy, atol=1e-4)
