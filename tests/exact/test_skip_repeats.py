"""Skipping repeats changes no law: the step through the product's own code by enumeration, chains by chi-square.

tests/exact/test_multiple_try.py holds the step against its matrix for several tries, with all that is skipped.
"""

import numpy as np
import pytest

import powercut as pc
from powercut.samplers import kernel as kernel_module
from powercut.samplers.draw import Draw
from powercut.samplers.repeats import known_parts
from powercut.study.exact import EOS, enumerate_completions, extension_matrix, kernel_matrix, procedure_law
from powercut.study.paths import every_path
from powercut.trace import Rows, Trace
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, grid, random_table

PROMPT = (1,)

SETTINGS = [
    *grid(cls=[pc.UniformCut], alpha=[1, 4], temperature=[None, 1.0, 2.5], min_new_tokens=[0, 1]),
    *grid(cls=[pc.EntropyCut], alpha=[3], beta=[0, 4], uniform_mix=[0.0, 0.3], length_bonus=[0.0, 0.4]),
    *grid(cls=[pc.EntropyCut], alpha=[3], temperature=[0.1, 1.0], top_k=[2]),
]


def make(cls, **settings):
    return cls(**{"max_new_tokens": 3, "blocks": 1, "refine_finished": True, "top_k": None} | settings)


def names(value):
    return "-".join(getattr(each, "__name__", str(each)) for each in value.values())


def matrix(sampler, probs, space):
    """The transitions of the sampler's own step, by every path that it can take; and how many tokens it decodes."""
    got, decoded = np.zeros((len(space.traces),) * 2), 0.0
    for i, x in enumerate(space.traces):

        async def step(engine, rng, x=x):
            async with Draw(engine, np.array(PROMPT), sampler.decoding) as draw:
                return await sampler.kernel.step(draw, x, sampler.max_new_tokens, rng)

        for prob, (tail, made) in every_path(probs, step):
            y = x.splice(made.cut, tail) if made.accepted else x
            got[i, space.index[tuple(y.tokens.tolist())]] += prob
            decoded += prob * made.tokens_decoded
    return got, decoded


@pytest.mark.parametrize("settings", SETTINGS, ids=names)
def test_the_step_is_the_plain_one(settings):
    for seed, vocab in ((3, 2), (5, 3)):
        sampler = make(**settings)
        probs = random_table(seed, vocab, zeros=True)
        least = sampler.min_new_tokens
        space = enumerate_completions(probs, PROMPT, 3, sampler.proposal_temperature, sampler.top_k, least)
        skipped, few = matrix(sampler, probs, space)
        plain, many = matrix(make(**settings, skip_repeats=False), probs, space)
        assert np.abs(skipped - plain).max() < 1e-12
        assert np.abs(skipped - kernel_matrix(space, sampler)).max() < 1e-12
        assert few < many


def with_the_token_itself(current, cut, tries, temperature_at, rng, *, differs):
    """Leaves by a token drawn without the exclusion of the one that it leaves."""
    [(shared, leaving)] = known_parts(current, cut, tries, temperature_at, rng, differs=differs)
    if leaving is None:
        return [(shared, leaving)]
    at = cut + len(shared)
    row = Rows(current.rows.ids[at : at + 1], current.rows.logp[at : at + 1])
    logq = row.logp[0] / temperature_at(at)
    logq = logq - np.logaddexp.reduce(logq)
    i = int(rng.choice(len(logq), p=np.exp(logq)))
    one = slice(i, i + 1)
    return [(shared, Trace(row.ids[0, one], row.logp[0, one], logq[one], leaving.entropy, rows=row))]


def test_a_leaving_token_without_the_exclusion_fails_the_same_check(monkeypatch):
    monkeypatch.setattr(kernel_module, "known_parts", with_the_token_itself)
    sampler, probs = make(pc.UniformCut, alpha=2), random_table(5, 3, zeros=True)
    space = enumerate_completions(probs, PROMPT, 3, 0.5)
    assert np.abs(matrix(sampler, probs, space)[0] - kernel_matrix(space, sampler)).max() > 1e-2


@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
def test_chains_have_their_law_for_fewer_tokens(cls):
    """Of few steps, by the matrix of the plain one, and that tends to the power distribution."""
    probs = random_table(12, 3)
    space = enumerate_completions(probs, PROMPT, 4, 1 / 3)
    laws = [procedure_law([space], make(cls, alpha=3, max_new_tokens=4, steps=steps)) for steps in (6, 40)]
    assert np.abs(laws[1] - space.power(3)).sum() / 2 < 1e-3
    start, spent = extension_matrix(None, space)[0], {}
    for skip in (True, False):
        sampler = make(cls, alpha=3, max_new_tokens=4, top_k=50, steps=6, skip_repeats=skip)
        drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=draws_to_tell(start, laws[0]), seed=4)
        assert chi_square_p(count(space, drawn), laws[0]) > ALARM
        assert chi_square_p(count(space, drawn), start) < ALARM  # control: no step
        spent[skip] = sum(c.stats.tokens_decoded for c in drawn)
    assert spent[True] < 0.8 * spent[False]


def test_what_repeats_the_whole_text_costs_nothing():
    """A law that leaves no choice: every proposal is the text as it stands."""
    sampler = pc.UniformCut(steps=10, blocks=1, max_new_tokens=6)
    [c] = pc.sample(pc.TableEngine(lambda _: [0.0, 1.0], EOS), sampler, [PROMPT], seed=1)
    assert (c.stats.acceptance, c.stats.changed, c.stats.tokens_decoded) == (1, 0, 6)


@pytest.mark.parametrize("settings", [{"early_reject": False}, {"look_ahead": 4}, {"look_ahead": "auto"}, {"tries": 2}])
def test_early_rejection_and_look_ahead_give_the_same_chains_with_it(settings):
    def chains(**changed):
        own = {"alpha": 4, "steps": 12, "blocks": 3, "max_new_tokens": 12, "tries": settings.get("tries", 1)}
        sampler = pc.EntropyCut(**own | changed, refine_finished=True)
        return pc.sample(pc.TableEngine(random_table(9, 5), EOS), sampler, [PROMPT], n=8, seed=2)

    plain = chains(early_reject=False)
    for a, b in zip(chains(**settings), plain, strict=True):
        assert a.trace == b.trace
        assert [step.accepted for step in a.steps] == [step.accepted for step in b.steps]


def test_smc_moves_skip_too():
    probs = random_table(6, 3)
    spent = {}
    for skip in (True, False):
        sampler = pc.SMC(alpha=3, particles=6, block_size=2, max_new_tokens=4, moves=3, skip_repeats=skip)
        drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=30, seed=3)
        spent[skip] = sum(c.stats.tokens_decoded for c in drawn)
    assert spent[True] < 0.9 * spent[False]
