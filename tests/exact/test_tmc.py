"""TMC against enumeration: where its rollouts have no variance its law is a finite sum, and tends to p^alpha.

At temperature 1/alpha the weight of a rollout is the product of sum_v p(v|.)^alpha over its positions, whatever was
drawn: so a rollout of one token, or through a model whose laws are permutations of one vector, weighs exactly what it
estimates. Every chi-square test has the false-alarm probability ALARM and a control that must fail.
"""

import itertools

import numpy as np
import pytest

import powercut as pc
from powercut.samplers.tmc import jackknife_probs
from powercut.study.exact import EOS, enumerate_completions
from tests.checks import chi_square_p, count, random_table

ALARM = 1e-6
PROMPT = (1,)


def draw(sampler, probs, n, engine=None):
    return pc.sample(engine or pc.TableEngine(probs, EOS), sampler, [PROMPT], n=n, seed=5)


def mass(probs, sampler, context, tokens):
    """Sum over all continuations, of at most ``tokens`` tokens, of p^alpha."""
    if not tokens or (context[-1] == EOS and len(context) > len(PROMPT)):
        return 1.0
    steps = enumerate_completions(probs, context, 1, 1.0, sampler.top_k).traces
    return sum(
        np.exp(sampler.target.log_density(step)) * mass(probs, sampler, (*context, int(step.tokens[0])), tokens - 1)
        for step in steps
    )


def block_law(probs, sampler, before, *, zeta=True, duplicates=False):
    """The law of the block that follows ``before``, over sequences of candidates drawn from q; its masses are exact.

    ``zeta`` False leaves out what can follow a block; ``duplicates`` lets a block drawn twice count twice. Neither is
    what the sampler should do.
    """
    size = min(sampler.block_size, sampler.max_new_tokens - len(before))
    space = enumerate_completions(probs, PROMPT + before, size, sampler.proposal_temperature, sampler.top_k)
    ahead = min(sampler.horizon, sampler.max_new_tokens - len(before) - size)
    q = np.exp([trace.logq.sum() for trace in space.traces])
    weight = np.exp(sampler.alpha * space.logp + sampler.length_bonus * np.array([len(x) for x in space.completions]))
    if zeta:
        weight = weight * [mass(probs, sampler, PROMPT + before + block, ahead) for block in space.completions]
    likely = np.argsort(-space.logp, kind="stable")
    law = np.zeros(len(q))
    for drawn in itertools.combinations_with_replacement(range(len(q)), sampler.candidates):
        times = np.bincount(drawn, minlength=len(q))
        ways = np.exp(_log_factorial(sampler.candidates) - sum(map(_log_factorial, times)))
        kept = [i for i in likely if times[i]][: sampler.keep]
        chosen = weight[kept] * (times[kept] if duplicates else 1)
        law[kept] += ways * np.prod(q**times) * chosen / chosen.sum()
    return space.completions, law


def _log_factorial(n):
    return float(np.log(np.arange(1, n + 1)).sum())


def completion_law(probs, sampler, space, **wrong):
    """The law over whole completions: block after block."""
    law = np.zeros(len(space.completions))

    def grow(before, prob):
        if before and (before[-1] == EOS or len(before) == sampler.max_new_tokens):
            law[space.index[before]] += prob
            return
        for block, share in zip(*block_law(probs, sampler, before, **wrong), strict=True):
            if share > 0:
                grow(before + block, prob * share)

    grow((), 1.0)
    return law


def whole_space(probs, sampler):
    return enumerate_completions(probs, PROMPT, sampler.max_new_tokens, sampler.proposal_temperature, sampler.top_k)


def distance(a, b):
    return float(np.abs(a - b).sum() / 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"candidates": 3, "keep": 3, "rollouts": 1},
        {"candidates": 3, "keep": 3, "rollouts": 3},
        {"candidates": 4, "keep": 2, "rollouts": 1},
        {"candidates": 3, "keep": 5, "rollouts": 2, "top_k": 2},
        {"candidates": 3, "keep": 1},
        {"candidates": 1, "keep": 8},
        {"candidates": 3, "keep": 3, "rollouts": 2, "length_bonus": -0.8},
    ],
    ids=["one-rollout", "rollouts", "most-likely", "fewer-than-keep", "keep-1", "one-candidate", "bonus"],
)
def test_the_law_is_that_of_the_definition(settings):
    """Blocks of 2 and then 1 token, rollouts of 1: nothing is estimated, so the law can be enumerated."""
    probs = random_table(22, 3)
    sampler = pc.TMC(alpha=2, block_size=2, max_new_tokens=3, horizon=5, **settings)
    space = whole_space(probs, sampler)
    law = completion_law(probs, sampler, space)
    counts = count(space, draw(sampler, probs, 2400 // sampler.candidates))
    assert chi_square_p(counts, law) > ALARM
    choices = min(sampler.candidates, sampler.keep)
    if choices > 1:  # controls; with one candidate nothing is weighed
        assert chi_square_p(counts, completion_law(probs, sampler, space, zeta=False)) < ALARM
        assert chi_square_p(counts, space.power(2)) < ALARM


def test_duplicates_count_once():
    probs = random_table(15, 3)
    sampler = pc.TMC(alpha=2, block_size=1, max_new_tokens=2, candidates=4, keep=3, rollouts=1)
    space = whole_space(probs, sampler)
    counts = count(space, draw(sampler, probs, 1200))
    assert chi_square_p(counts, completion_law(probs, sampler, space)) > ALARM
    assert chi_square_p(counts, completion_law(probs, sampler, space, duplicates=True)) < ALARM


def test_with_every_block_and_exact_rollouts_it_is_the_power_distribution():
    probs = random_table(15, 2)
    settings = {"alpha": 2, "block_size": 2, "max_new_tokens": 3, "keep": 9, "rollouts": 2}
    far, near, nearest = (
        distance(completion_law(probs, s, space := whole_space(probs, s)), space.power(2))
        for s in (pc.TMC(candidates=count, **settings) for count in (2, 8, 48))
    )
    assert far > 2 * near > 4 * nearest
    assert nearest < 1e-3  # which so few draws cannot see
    sampler = pc.TMC(candidates=48, **settings)
    space = whole_space(probs, sampler)
    drawn = draw(sampler, probs, 500)
    assert chi_square_p(count(space, drawn), space.power(2)) > ALARM
    blocks = enumerate_completions(probs, PROMPT, 2, sampler.proposal_temperature)
    counts, marginal = np.zeros((2, len(blocks.completions)))
    for x, p in zip(space.completions, space.power(2), strict=True):
        marginal[blocks.index[x[:2]]] += p
    for c in drawn:
        counts[blocks.index[tuple(c.tokens[:2].tolist())]] += 1
    assert chi_square_p(counts, marginal) > ALARM
    assert chi_square_p(counts, blocks.power(2)) < ALARM  # control: without what follows


def flat_or_sharp(context):
    """No stops; laws that are permutations of one vector, flat or sharp by the first token after the prompt."""
    low = 0.3 if context[1:2] == (2,) else 0.5
    return [0.0, low, 1 - low] if context[-1] == 1 else [0.0, 1 - low, low]


def test_block_after_block_it_is_the_power_distribution():
    """Three blocks of a token; rollouts that run to the end."""
    sampler = pc.TMC(alpha=3, block_size=1, max_new_tokens=3, candidates=32, keep=2, rollouts=2, horizon=9)
    space = whole_space(flat_or_sharp, sampler)
    pi = space.power(3)
    assert distance(completion_law(flat_or_sharp, sampler, space), pi) < 2e-2
    drawn = draw(sampler, flat_or_sharp, 400)
    assert chi_square_p(count(space, drawn), pi) > ALARM

    def first(law):
        return np.array([law[[x[0] == v for x in space.completions]].sum() for v in (1, 2)])

    counts = first(count(space, drawn))
    assert chi_square_p(counts, first(pi)) > ALARM
    assert chi_square_p(counts, first(completion_law(flat_or_sharp, sampler, space, zeta=False))) < ALARM


class Counting(pc.TableEngine):
    """Remembers how long each request may be, in the order in which they were made."""

    def __init__(self, probs):
        super().__init__(probs, EOS)
        self.asked = []

    async def extend(self, request, keep_going=None):
        self.asked.append(request.max_new_tokens)
        return await super().extend(request, keep_going)


def test_the_cost_is_that_of_its_candidates_and_rollouts():
    engine = Counting(lambda context: [0.0, 0.2, 0.2, 0.2, 0.2, 0.2])
    sampler = pc.TMC(block_size=3, max_new_tokens=8, candidates=40, keep=4, rollouts=2, horizon=4)
    [c] = draw(sampler, None, 1, engine)
    # 5^2 blocks at the least: 4 distinct ones among 40 are certain but for a chance of 1e-30 and the fixed seed.
    assert engine.asked == [3] * 40 + [4] * 8 + [3] * 40 + [2] * 8 + [2] * 40
    assert c.stats.tokens_decoded == engine.usage.decoded == sum(engine.asked)
    assert (c.stats.steps, c.stats.acceptance) == (0, None)


def test_what_needs_no_rollout_gets_none():
    forced = Counting(lambda context: [0.0, 1.0])  # all candidates are the same block
    draw(pc.TMC(block_size=2, max_new_tokens=4, candidates=3, rollouts=5), None, 1, forced)
    assert forced.asked == [2] * 6
    ended = Counting(lambda context: [1.0, 0.0] if len(context) > 1 else [0.5, 0.5])
    draw(pc.TMC(block_size=2, max_new_tokens=8, candidates=9, rollouts=5), None, 1, ended)
    assert ended.asked == [2] * 9  # every candidate ends by itself


# The jackknife


def plain_probs(log_power, log_zeta):
    weights = np.exp(log_power) * np.exp(log_zeta).mean(axis=1)
    return weights / weights.sum()


@pytest.mark.parametrize("rollouts", [1, 2, 5])
def test_jackknife_by_its_definition(rollouts):
    rng = np.random.default_rng(rollouts)
    log_power, log_zeta = rng.normal(size=4), 0.2 * rng.normal(size=(4, rollouts))
    whole = plain_probs(log_power, log_zeta)
    if rollouts > 1:
        others = [plain_probs(log_power, np.delete(log_zeta, m, axis=1)) for m in range(rollouts)]
        whole = rollouts * whole - (rollouts - 1) * np.mean(others, axis=0)
    assert (whole > 0).all()
    np.testing.assert_allclose(jackknife_probs(log_power, log_zeta), whole, rtol=1e-12)


def test_what_the_jackknife_makes_negative_is_clipped():
    log_power = np.array([np.log(1e-3), 0.0])
    log_zeta = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, -14.0, -14.0, -14.0]])
    without = [plain_probs(log_power, np.delete(log_zeta, m, axis=1)) for m in range(4)]
    assert (4 * plain_probs(log_power, log_zeta) - 3 * np.mean(without, axis=0))[0] < 0
    np.testing.assert_array_equal(jackknife_probs(log_power, log_zeta), [0.0, 1.0])


def test_far_logs_do_no_harm():
    probs = jackknife_probs(np.array([-4000.0, -4001.0]), np.array([[-900.0, -901.0], [-900.0, -901.0]]))
    np.testing.assert_allclose(probs, np.exp([0, -1]) / np.exp([0, -1]).sum(), rtol=1e-9)
    np.testing.assert_array_equal(jackknife_probs(np.array([0.0, -5000.0]), np.zeros((2, 3))), [1.0, 0.0])


def test_the_jackknife_leaves_a_bias_of_the_second_order():
    """Two candidates whose rollouts weigh one of two numbers, every outcome enumerated: no chance is involved."""
    pairs = np.log([[0.5, 0.8], [0.5, 1.6], [1.5, 0.8], [1.5, 1.6]])  # equally likely columns of log_zeta
    truth = plain_probs(np.zeros(2), pairs.T)[0]

    def bias(estimate, rollouts):
        total = 0.0
        for drawn in itertools.combinations_with_replacement(range(4), rollouts):
            ways = np.exp(_log_factorial(rollouts) - sum(map(_log_factorial, np.bincount(drawn))))
            total += ways / 4**rollouts * estimate(np.zeros(2), pairs[list(drawn)].T)[0]
        return abs(total - truth)

    plain = [bias(plain_probs, rollouts) for rollouts in (4, 8)]
    jackknife = [bias(jackknife_probs, rollouts) for rollouts in (4, 8)]
    assert 1.7 < plain[0] / plain[1] < 2.3
    assert 3.3 < jackknife[0] / jackknife[1] < 5.0
    assert jackknife[1] < plain[1] / 5
