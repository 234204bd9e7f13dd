"""SmolLM2-135M-Instruct on a real vLLM against the same weights in transformers, both float32 on the CPU.

TOLERANCE is in nats. Largest differences over 2,248 tokens: logp 4e-5, entropy 3e-5, logq 3e-4 (temperature 0.25
multiplies those of the scores by 4).
"""

import asyncio

import numpy as np
import pytest

import powercut as pc
from powercut.errors import SettingError
from powercut.models.loading import load_model
from tests.vllm.models import forced

TOLERANCE = 1e-3
QUESTIONS = ["What is 7 * 8 + 2?", "Name three colours.", "Why is the sky blue?", "Write a short poem about rain."]
CUT = {"alpha": 4.0, "steps": 4, "blocks": 3, "max_new_tokens": 48, "top_k": 50}


@pytest.fixture(scope="module")
def engine():
    engine = pc.load("vllm:smollm2", slots=16, context_length=1024, kv_cache_memory_bytes=2**30)
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def model():
    return load_model("smollm2").model


def prompts(engine):
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    return [np.array(asyncio.run(engine.text.encode_chat(chat))) for chat in chats]


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


def asks(engine, n=32, **options):
    options = {"temperature": 0.5, "top_k": 50} | options
    return [
        pc.Request(context=prompt, max_new_tokens=n, seed=100 * i + j, **options)
        for i, prompt in enumerate(prompts(engine))
        for j in range(3)
    ]


def assert_same_laws(trace, want):
    for name in ("logp", "logq", "entropy"):
        np.testing.assert_allclose(getattr(trace, name), getattr(want, name), rtol=0, atol=TOLERANCE, err_msg=name)


def test_it_knows_the_model(engine):
    assert engine.name == "vllm:smollm2"
    assert engine.stop_tokens == load_model("smollm2").stop_tokens
    assert engine.text.has_chat_template
    assert "1024 tokens" in engine.describe()


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_traces_are_those_of_a_forward_pass(engine, model, temperature):
    requests = asks(engine, temperature=temperature)
    for request, trace in zip(requests, extend(engine, *requests), strict=True):
        assert_same_laws(trace, forced(model, request.context, trace.tokens, top_k=50, temperature=temperature))


def test_tokens_follow_from_the_request_but_for_noise(engine):
    """Noise of 4e-5 changes a draw once in some thousands of tokens; from there on the traces differ."""
    alone = [extend(engine, request)[0] for request in asks(engine)]
    together = extend(engine, *asks(engine))
    same = 0
    for a, b in zip(alone, together, strict=True):
        n = min(len(a), len(b))
        differ = np.flatnonzero(a.tokens[:n] != b.tokens[:n])
        end = int(differ[0]) if len(differ) else n
        same += not len(differ)
        assert_same_laws(a[:end], b[:end])
    assert same >= len(alone) - 1
    assert len({tuple(t.tokens) for t in alone}) > len(alone) // 2


def test_stop_strings_end_a_trace(engine):
    traces = extend(engine, *asks(engine, stop=(" the",)))
    texts = [engine.text.decode_now(trace.tokens.tolist()) for trace in traces]
    assert any(trace.finished and text.endswith(" the") for trace, text in zip(traces, texts, strict=True))
    for trace, text in zip(traces, texts, strict=True):
        assert (" the" in text) <= trace.finished
        assert " the" not in engine.text.decode_now(trace.tokens[:-1].tolist())


def test_an_abort_saves_tokens(engine):
    before = engine.usage.decoded
    seen = []
    (trace,) = extend(engine, asks(engine, n=200)[0], keep_going=lambda piece: seen.append(piece) or len(seen) < 5)
    assert len(seen) == 5
    assert sum(map(len, seen)) <= len(trace) <= sum(map(len, seen)) + 3
    assert engine.usage.decoded - before == len(trace)
    asyncio.run(asyncio.sleep(1))
    assert engine.usage.decoded - before == len(trace)  # vLLM has dropped it


def test_prefixes_are_reused(engine):
    request = asks(engine)[0]
    long = np.tile(request.context, 5)
    first, second = (
        extend(engine, pc.Request(context=long, max_new_tokens=1, top_k=5, seed=seed))[0] for seed in (1, 2)
    )
    assert second.prefilled < len(long) // 2
    assert second.prefilled < first.prefilled


def test_chains_are_consistent_and_early_rejection_saves_tokens(engine, model):
    """Every completion's laws are the model's own, and a rejected proposal is no longer than it needs to be."""
    fast, slow = (
        pc.sample(engine, pc.EntropyCut(early_reject=early, **CUT), prompts(engine), n=4, seed=3)
        for early in (True, False)
    )
    for completion in fast:
        prompt = prompts(engine)[completion.prompt_index]
        assert_same_laws(completion.trace, forced(model, prompt, completion.tokens, top_k=50, temperature=0.25))
        assert completion.stats.steps == len(completion.steps) + completion.stats.null_steps
        horizons = pc.EntropyCut(**CUT).horizons
        for step in completion.steps:
            assert not (step.early and step.accepted)
            assert 0 <= step.cut < horizons[step.stage]
            assert step.tokens_decoded <= horizons[step.stage] - step.cut
    assert any(step.early for c in fast for step in c.steps)
    assert not any(step.early for c in slow for step in c.steps)
    decoded = [sum(c.stats.tokens_decoded for c in run) for run in (fast, slow)]
    assert decoded[0] < 0.95 * decoded[1]
    # The same chains, but where noise has changed a draw.
    same = sum(a.tokens.tolist() == b.tokens.tolist() for a, b in zip(fast, slow, strict=True))
    assert same >= len(fast) - 3


def test_usage_is_what_completions_cost(engine):
    before = engine.usage.decoded, engine.usage.prefilled
    completions = pc.sample(engine, pc.UniformCut(look_ahead=3, **CUT), prompts(engine), seed=4)
    assert sum(c.stats.tokens_decoded for c in completions) == engine.usage.decoded - before[0]
    assert sum(c.stats.tokens_prefilled for c in completions) == engine.usage.prefilled - before[1]
    assert engine.idle == engine.concurrency


def test_top_k_is_needed_and_bounded(engine):
    with pytest.raises(SettingError, match="give a top_k"):
        pc.sample(engine, pc.Standard(top_k=None, max_new_tokens=4), ["Hello"])
    with pytest.raises(SettingError, match="max_logprobs=2000"):
        pc.sample(engine, pc.Standard(top_k=2000, max_new_tokens=4), ["Hello"])
