"""SMC and PowerSMC beyond their law: accounts, histories, what they ask of an engine, and that seeds repeat."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.tiny import tiny_model

PROMPT = (1,)


class Recorder(pc.TableEngine):
    """Keeps every request."""

    def __init__(self, probs=None):
        super().__init__(random_table(3, 4) if probs is None else probs, EOS)
        self.requests = []

    async def extend(self, request, keep_going=None):
        self.requests.append(request)
        return await super().extend(request, keep_going)


def draw(sampler, engine=None, n=1, **options):
    return pc.sample(Recorder() if engine is None else engine, sampler, [PROMPT], n=n, **options)


@pytest.mark.parametrize("moves", [0, 1])
def test_power_smc_without_a_ramp_is_smc(moves):
    settings = {"alpha": 3, "particles": 6, "block_size": 2, "max_new_tokens": 7, "moves": moves, "ess_threshold": 0.9}
    for one, other in zip(
        draw(pc.PowerSMC(ramp_tokens=0, **settings), n=10), draw(pc.SMC(**settings), n=10), strict=True
    ):
        assert one.trace == other.trace
        assert one.steps == other.steps
        for name in ("log_z", "ess", "tokens_decoded", "acceptance"):
            assert getattr(one.stats, name) == getattr(other.stats, name)
    [ramped] = draw(pc.PowerSMC(ramp_tokens=4, **settings))  # control
    assert ramped.stats.log_z != other.stats.log_z


@pytest.mark.parametrize("kind", [pc.SMC, pc.PowerSMC])
@pytest.mark.parametrize("alpha", [1, 4])
def test_log_z_where_it_is_known(kind, alpha):
    """One law at every step and no stop: Z = (sum_v p(v)^alpha)^T, and at 1/alpha no particle outweighs another."""
    law = np.array([0.0, 0.5, 0.3, 0.2])
    sampler = kind(
        alpha=alpha, particles=5, block_size=2, max_new_tokens=9, **{"ramp_tokens": 0} if kind is pc.PowerSMC else {}
    )
    [c] = draw(sampler, Recorder(lambda context: law))
    assert c.stats.log_z == pytest.approx(9 * math.log((law**alpha).sum()))
    assert c.stats.ess == pytest.approx([5] * 5)
    assert c.stats.tokens_decoded == 45
    assert c.stats.acceptance is None


def test_one_particle_weighs_its_own_completion():
    for kind in (pc.SMC, pc.PowerSMC):
        for c in draw(kind(alpha=2, particles=1, block_size=3, max_new_tokens=8), n=10):
            assert c.stats.log_z == pytest.approx(2 * c.trace.logp.sum() - c.trace.logq.sum())
            assert c.stats.ess == pytest.approx([1] * len(c.stats.ess))
            assert len(c.stats.ess) == math.ceil(len(c.tokens) / 3)


def test_a_finished_particle_costs_nothing():
    engine = Recorder()
    completions = draw(pc.SMC(particles=8, block_size=1, max_new_tokens=12), engine, n=5)
    assert not any(r.context[-1] == EOS for r in engine.requests)
    assert all(r.max_new_tokens == 1 for r in engine.requests)
    decoded = sum(c.stats.tokens_decoded for c in completions)
    assert decoded == engine.usage.decoded == len(engine.requests) < 5 * 8 * 12
    # and once all are finished, nothing is waited for
    [c] = draw(pc.SMC(particles=8, block_size=4, max_new_tokens=100), Recorder(lambda context: [1.0, 0.0]))
    assert (c.stats.tokens_decoded, c.stats.ess) == (8, (8.0,))


def test_the_last_effective_sample_size_is_of_the_weights_drawn_by():
    """A ramp longer than the completion: the catch-up with alpha comes before it is taken."""
    sampler = pc.PowerSMC(alpha=4, particles=16, block_size=6, max_new_tokens=6, ramp_tokens=600)
    [c] = draw(sampler)
    assert len(c.stats.ess) == 1
    assert c.stats.ess[0] < 12  # of the ramp's own weights, at a power of 1.03, it is near 16
    [flat] = draw(dataclasses.replace(sampler, alpha=1.03))
    assert flat.stats.ess[0] > 15


@pytest.mark.parametrize("moves", [1, 2])
def test_moves_come_after_every_block_and_their_steps_are_kept(moves):
    shown = []
    sampler = pc.SMC(alpha=2, particles=3, block_size=2, max_new_tokens=6, moves=moves, skip_repeats=False)
    [c] = draw(sampler, observe=lambda i, j, event: shown.append(event.step))
    assert [s.stage for s in c.steps] == [0] * 3 * moves + [1] * 3 * moves + [2] * moves
    assert [s for s in shown if s is not None] == list(c.steps)
    assert len(c.stats.ess) == 3
    assert c.stats.steps == len(c.steps)
    assert c.stats.acceptance == np.mean([s.accepted for s in c.steps])


@pytest.mark.parametrize(
    "sampler",
    [
        pc.SMC(particles=5, block_size=2, max_new_tokens=8, moves=2, ess_threshold=0.9),
        pc.PowerSMC(particles=5, block_size=2, max_new_tokens=8, moves=1, ramp_tokens=5, ess_threshold=0.9),
    ],
    ids=lambda s: type(s).__name__,
)
def test_no_schedule_changes_the_result(sampler):
    alone = draw(sampler, n=8, concurrency=1)
    crowded = draw(sampler, n=8, concurrency=8)
    other = draw(sampler, n=8, seed=1)
    for a, b in zip(alone, crowded, strict=True):
        assert (a.trace, a.steps, a.stats.log_z, a.stats.ess) == (b.trace, b.steps, b.stats.log_z, b.stats.ess)
    assert [c.stats.log_z for c in alone] != [c.stats.log_z for c in other]


def test_tokens_are_drawn_at_their_own_blocks_temperature():
    sampler = pc.PowerSMC(
        alpha=5, particles=4, block_size=2, max_new_tokens=12, ramp_tokens=8, moves=3, top_k=None, ess_threshold=1
    )
    engine = Recorder(lambda context: [0.02, 0.5, 0.28, 0.2])
    draw(sampler, engine, n=3)
    powers = {0: 2, 2: 3, 4: 4, 6: 5, 8: 5, 10: 5}
    for request in engine.requests:
        start = len(request.generated)
        end = start + request.max_new_tokens
        assert {powers[t // 2 * 2] for t in range(start, end)} == {round(1 / request.temperature)}
    # beyond the ramp one request does for several blocks
    assert any(len(r.generated) < 8 and len(r.generated) + r.max_new_tokens == 12 for r in engine.requests)
    # parts of one decode have noise of their own
    assert len({r.seed for r in engine.requests}) == len(engine.requests)
    assert list(pc.SMC().decoding.parts(3, 77)) == [(77, 0.25)]


class Watched(TransformersEngine):
    """Keeps, of every request, how long its context was and how much of it was computed."""

    def __init__(self, slots):
        model = tiny_model("llama", vocab_size=20, dtype=torch.float64)
        super().__init__(model, slots=slots, context_length=96)
        self.costs = []

    async def extend(self, request, keep_going=None):
        trace = await super().extend(request, keep_going)
        self.costs.append((len(request.generated), trace.prefilled))
        return trace


@pytest.mark.parametrize(("moves", "most"), [(0, 1.0), (1, 1.2)])
def test_resampled_particles_share_their_prefixes_in_the_engines_cache(moves, most):
    """With a slot for each particle a request computes the last token before it, whoever drew the others.

    Moves leave a store to be filled again now and then.
    """
    engine = Watched(slots=8)
    prompt = tuple(itertools.islice(itertools.cycle(range(1, 20)), 30))
    sampler = pc.SMC(
        alpha=2, particles=8, block_size=6, max_new_tokens=48, ess_threshold=1, temperature=1.0, top_k=None, moves=moves
    )
    [c] = pc.sample(engine, sampler, [prompt], seed=2)
    assert max(c.stats.ess[:-1]) < 8  # every block but the last is resampled
    assert len(engine.costs) >= 64
    first, *others = [prefilled for _, prefilled in engine.costs]
    assert first == len(prompt)
    assert np.mean(others) <= most
    assert c.stats.tokens_prefilled == engine.usage.prefilled == first + sum(others)
