"""The published comparison: settings, and an estimate of its cost that real chains keep to."""

import numpy as np
import pytest

import powercut as pc
from powercut.errors import SettingError
from powercut.evals.published import arms, expected_cost
from powercut.evals.tasks import TASKS as EVERY_TASK

EOS = 0


def by_name(task, scale=1.0, **cut):
    return {each.name: each.sampler for each in arms(EVERY_TASK[task], scale, **cut)}


@pytest.mark.parametrize(("task", "longest", "block", "alpha"), [
    ("math500", 3072, 192, 4), ("humaneval", 3072, 192, 5), ("gpqa-diamond", 6144, 384, 4), ("aime26", 6144, 384, 4),
])  # fmt: skip
def test_the_settings_are_the_published_ones(task, longest, block, alpha):
    found = by_name(task)
    assert list(found) == ["standard", "low-temperature", "smc", "tmc", "uniform-cut", "entropy-cut", "best-of-n"]
    assert {sampler.max_new_tokens for sampler in found.values()} == {longest}
    assert {sampler.top_k for sampler in found.values()} == {50}
    for name in ("uniform-cut", "entropy-cut"):
        chain = found[name]
        assert chain.horizons == tuple(range(block, longest + 1, block))
        assert (chain.steps, chain.alpha, chain.proposal_temperature) == (10, alpha, 1 / alpha)
    assert found["entropy-cut"].beta == 4
    assert (found["smc"].particles, found["smc"].block_size, found["smc"].ess_threshold) == (64, 32, 0.5)
    tmc = found["tmc"]
    assert (tmc.candidates, tmc.keep, tmc.rollouts, tmc.block_size, tmc.horizon) == (64, 8, 8, 192, 192)
    matched = [each for each in arms(EVERY_TASK[task]) if each.match]
    assert [(each.match, each.sampler.temperature) for each in matched] == [
        ("entropy-cut", 1),
        ("entropy-cut", 1 / alpha),
    ]
    assert EVERY_TASK[task].published_seeds == (64 if task == "aime26" else 8)


def test_a_scale_shrinks_lengths_and_steps_together():
    found = by_name("math500", 0.1)
    assert {sampler.max_new_tokens for sampler in found.values()} == {304}  # a multiple of the blocks
    assert found["entropy-cut"].horizons == tuple(range(19, 305, 19))
    assert (found["entropy-cut"].steps, found["smc"].block_size, found["tmc"].horizon) == (1, 3, 19)
    assert by_name("math500", 0.001)["uniform-cut"].max_new_tokens == 16
    for scale in (0, -1, 1.01, float("nan"), float("inf")):
        with pytest.raises(SettingError, match="scale must be from"):
            arms(EVERY_TASK["math500"], scale)


def test_the_cost_is_what_chains_spend_that_never_end_early():
    """Uniform cuts, no stop, all decoded: the expected cost is exact. 6 standard errors: 2e-9."""
    engine = pc.TableEngine(lambda _: [0.0, 0.4, 0.6], EOS)
    variants = arms(EVERY_TASK["math500"], 0.02, early_reject=False, skip_repeats=False)
    for variant in variants:
        if variant.match is None and variant.name != "entropy-cut":
            expected = expected_cost(variant.sampler, variant.sampler.max_new_tokens)
            count = 60 if variant.name == "uniform-cut" else 1  # the others' cost is no matter of chance here
            spent = [c.stats.tokens_decoded for c in pc.sample(engine, variant.sampler, [[1]], n=count, seed=3)]
            assert abs(np.mean(spent) - expected) <= 6 * np.std(spent) / np.sqrt(len(spent)) + 1e-9, variant.name


def test_shorter_completions_reach_fewer_stages():
    found = by_name("math500")
    assert expected_cost(found["standard"], 300) == 300
    assert expected_cost(found["uniform-cut"], 300) == 300 + 10 * (193 / 2 + 301 / 2)
    assert all(expected_cost(sampler, 3072) > expected_cost(sampler, 300) for sampler in found.values())
