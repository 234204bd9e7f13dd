"""The law of what ``pc.sample`` returns, against enumeration.

Every chi-square test below has the false-alarm probability ALARM: for a random seed a correct sampler fails one test
with that probability. Seeds are fixed, so a run is repeatable. Each kind of test has a control that must fail, and
``draws_to_tell`` says how many draws that takes.
"""

import collections
import warnings

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions, kernel_matrix, procedure_law
from powercut.study.reference import published_matrix
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, random_table

PROMPT = (1,)


def draw(sampler, probs, n, observe=None):
    return pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=n, observe=observe)


def spaces(sampler, probs):
    temperature = sampler.proposal_temperature
    return [enumerate_completions(probs, PROMPT, h, temperature, sampler.top_k) for h in sampler.horizons]


LONG = {"blocks": 1, "refine_finished": True}


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        (12, pc.EntropyCut(alpha=4, steps=14, max_new_tokens=4, uniform_mix=0.2, **LONG)),
        (48, pc.UniformCut(alpha=2, steps=26, max_new_tokens=4, **LONG)),
        (12, pc.UniformCut(alpha=2, temperature=1.0, steps=17, max_new_tokens=3, top_k=2, **LONG)),
        (13, pc.EntropyCut(alpha=2, temperature=0.3, steps=17, max_new_tokens=3, uniform_mix=0.5, **LONG)),
    ],
    ids=["entropy", "uniform", "hot-topk", "colder-than-1/alpha"],
)
def test_long_chains_have_the_power_distribution(model, sampler):
    probs = random_table(model, 3)
    (space,) = spaces(sampler, probs)
    pi = space.power(sampler.alpha)
    low = pc.LowTemperature(alpha=sampler.alpha, max_new_tokens=sampler.max_new_tokens, top_k=sampler.top_k)
    cold = enumerate_completions(probs, PROMPT, low.max_new_tokens, 1 / sampler.alpha, sampler.top_k)
    assert cold.completions == space.completions
    draws = draws_to_tell(pi, np.exp([trace.logq.sum() for trace in cold.traces]))
    # The chain is long enough that what is left of its start cannot be seen with this many draws.
    assert np.abs(procedure_law([space], sampler) - pi).sum() / 2 < 1e-3
    counts = count(space, draw(sampler, probs, n=draws))
    assert chi_square_p(counts, pi) > ALARM
    # control: low-temperature sampling is not the power distribution
    assert chi_square_p(count(space, draw(low, probs, n=draws)), pi) < ALARM


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("cls", [pc.EntropyCut, pc.UniformCut])
def test_short_staged_chains_have_their_own_exact_law(cls, refine):
    """Blocks, few steps, stopping when finished: the law is a product of enumerated matrices, far from pi."""
    sampler = cls(alpha=2, steps=2, blocks=3, max_new_tokens=6, refine_finished=refine)
    probs = random_table(28, 2)
    stages = spaces(sampler, probs)
    want = procedure_law(stages, sampler)
    other = procedure_law(stages, cls(alpha=2, steps=2, blocks=3, max_new_tokens=6, refine_finished=not refine))
    counts = count(stages[-1], draw(sampler, probs, draws_to_tell(other, want)))
    assert chi_square_p(counts, want) > ALARM
    assert chi_square_p(counts, other) < ALARM  # control


def test_rounded_blocks_have_their_own_exact_law():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = pc.UniformCut(alpha=2, steps=1, blocks=3, max_new_tokens=5)
    assert sampler.horizons == (2, 3, 5)
    probs = random_table(28, 2)
    stages = spaces(sampler, probs)
    want = procedure_law(stages, sampler)
    first = enumerate_completions(probs, PROMPT, 1, sampler.proposal_temperature)
    other = procedure_law([first, *stages[1:]], sampler)
    counts = count(stages[-1], draw(sampler, probs, draws_to_tell(other, want)))
    assert chi_square_p(counts, want) > ALARM
    assert chi_square_p(counts, other) < ALARM  # control: blocks of 1, 2 and 2 tokens


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_plain_sampling_has_its_law(temperature):
    probs = random_table(4, 3)
    if temperature == 1:
        sampler = pc.Standard(max_new_tokens=4)
    else:
        sampler = pc.LowTemperature(alpha=1 / temperature, max_new_tokens=4)
    space = enumerate_completions(probs, PROMPT, 4, temperature)
    law = np.exp([t.logq.sum() for t in space.traces])
    counts = count(space, draw(sampler, probs, draws_to_tell(space.power(2), law)))
    assert chi_square_p(counts, law) > ALARM
    assert chi_square_p(counts, space.power(2)) < ALARM  # control


@pytest.mark.parametrize("cls", [pc.EntropyCut, pc.UniformCut])
def test_published_chains_have_the_law_of_the_published_step(cls):
    probs = random_table(14, 2)
    sampler = cls(alpha=2, steps=3, max_new_tokens=4, uniform_mix=0.1, rule="published", **LONG)
    (space,) = spaces(sampler, probs)
    states, matrix = published_matrix(space, sampler)
    start = np.zeros(len(states))
    for x, trace in zip(space.completions, space.traces, strict=True):
        start[states.index(x)] = np.exp(trace.logq.sum())
    law = start @ np.linalg.matrix_power(matrix, sampler.steps)
    counts = np.zeros(len(states))
    for c in draw(sampler, probs, draws_to_tell(start, law)):
        counts[states.index(tuple(c.tokens.tolist()))] += 1
        assert not any(step.early for step in c.steps)
    assert chi_square_p(counts, law) > ALARM
    assert chi_square_p(counts, start) < ALARM  # control


def test_negative_control_published_chains_fail():
    probs = random_table(48, 3)  # where UniformCut with as many steps passes
    sampler = pc.UniformCut(alpha=2, steps=26, max_new_tokens=4, rule="published", **LONG)
    space = enumerate_completions(probs, PROMPT, 4, sampler.proposal_temperature)
    drawn = draw(sampler, probs, n=500)
    inside = [c for c in drawn if tuple(c.tokens.tolist()) in space.index]
    assert len(inside) < 0.7 * len(drawn)  # the rest shrank to unfinished completions, which pi does not have at all,
    assert chi_square_p(count(space, inside), space.power(2)) < ALARM  # and those inside are not in its proportions


def test_refined_chains_are_markov():
    """Given the state, the next one has the kernel's row as its law, whatever the state before was."""
    sampler = pc.EntropyCut(
        alpha=2, temperature=1.0, steps=20, blocks=1, max_new_tokens=2, uniform_mix=0.3, refine_finished=True
    )
    probs = random_table(15, 3)
    space = enumerate_completions(probs, PROMPT, 2, sampler.proposal_temperature)
    paths = collections.defaultdict(list)

    def observe(i, j, event):
        nulls = event.step.nulls if event.step else 0
        paths[j] += paths[j][-1:] * nulls + [space.index[tuple(event.trace.tokens.tolist())]]

    draw(sampler, probs, n=600, observe=observe)
    for path in paths.values():  # the extension and 20 steps; those after the last that was made are null
        path += path[-1:] * (21 - len(path))
    rows = kernel_matrix(space, sampler)
    moves = collections.defaultdict(lambda: np.zeros(len(rows)))
    for path in paths.values():
        for before, now, after in zip(path, path[1:], path[2:], strict=False):
            moves[before, now][after] += 1
    frequent = {key: counts for key, counts in moves.items() if counts.sum() >= 120}
    assert len(frequent) >= 10
    assert len({now for _, now in frequent}) < len(frequent)  # some state is reached from several others
    p_values = {key: chi_square_p(counts, rows[key[1]]) for key, counts in frequent.items()}
    assert min(p_values.values()) > ALARM / len(frequent)
    # control: the same counts against another state's row
    assert min(chi_square_p(counts, rows[(now + 1) % len(rows)]) for (_, now), counts in frequent.items()) < ALARM
