"""A target restricted to completions that have something in their text: by enumeration, and in law.

The text of a token is a letter. False-alarm probability of each test: ALARM; each has a control that must fail.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions, extension_matrix, kernel_matrix, procedure_law
from powercut.study.paths import every_path
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, grid, random_table

PROMPT = (1,)


class Letters:
    """Token 0 has no text, 1 is a, 2 is b, ..."""

    has_chat_template = False

    def decode_now(self, tokens):
        return "".join(" abcdef"[int(token)] for token in tokens if token != EOS)

    async def decode(self, tokens):
        return self.decode_now(tokens)


TEXT = Letters()


def has(pattern):
    return lambda tokens: re.search(pattern, TEXT.decode_now(tokens)) is not None


def engine(probs):
    return pc.TableEngine(probs, EOS, text=TEXT)


def draw(sampler, probs, n=600, seed=0, observe=None):
    return pc.sample(engine(probs), sampler, [PROMPT], n=n, seed=seed, observe=observe)


def spaces_of(sampler, probs):
    temperature, m = sampler.proposal_temperature, sampler.min_new_tokens
    horizons = getattr(sampler, "horizons", (sampler.max_new_tokens,))
    return [enumerate_completions(probs, PROMPT, h, temperature, sampler.top_k, m) for h in horizons]


@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
@pytest.mark.parametrize("pattern", ["b", "^a?$", "ab|ba"])
@pytest.mark.parametrize("last", [True, False])
def test_the_restricted_target_is_invariant(cls, pattern, last):
    sampler = cls(alpha=3, max_new_tokens=4, blocks=1, uniform_mix=0.2, require=pattern, length_bonus=0.3)
    for seed in (1, 2):
        (space,) = spaces_of(sampler, random_table(seed, 3))
        inside = space.inside(has(pattern), last=last)
        assert 0 < inside.sum() < len(inside)
        matrix = kernel_matrix(space, sampler, inside=inside)
        pi = space.power(3, 0.3, inside)
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert np.abs(pi @ matrix - pi).max() < 1e-12
        assert not matrix[inside][:, ~inside].any()  # nobody leaves it
        free = kernel_matrix(space, sampler)
        assert np.abs(pi @ free - pi).max() > 1e-5  # control


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("cls", [pc.EntropyCut, pc.UniformCut])
def test_short_staged_chains_have_their_own_exact_law(cls, refine):
    """Redrawn extensions, steps from outside, chains that may not leave yet: far from the target, and as enumerated."""
    sampler = cls(alpha=2, steps=1, blocks=2, max_new_tokens=4, refine_finished=refine, require="bb", uniform_mix=0.2)
    probs = random_table(22, 3)
    stages = spaces_of(sampler, probs)
    law = procedure_law(stages, sampler, has("bb"))
    target = stages[-1].power(2, inside=stages[-1].inside(has("bb"), last=True)) + 1e-9
    controls = (target, procedure_law(stages, sampler))  # and where nothing is required
    drawn = draw(sampler, probs, max(draws_to_tell(control, law) for control in controls))
    counts = count(stages[-1], drawn)
    assert chi_square_p(counts, law) > ALARM
    assert all(chi_square_p(counts, control) < ALARM for control in controls)
    for c in drawn:
        assert c.stats.satisfied == (c.finished and "bb" in c.text)


def test_an_extension_is_drawn_again_until_it_fits_and_no_longer():
    probs = random_table(22, 3)
    (space,) = spaces_of(pc.Standard(max_new_tokens=2), probs)
    inside = space.inside(has("b"), last=True)
    (row,) = extension_matrix(None, space, inside)
    assert row.sum() == pytest.approx(1, abs=1e-12)
    counts = count(space, draw(pc.Standard(max_new_tokens=2, require="b"), probs))
    assert chi_square_p(counts, row) > ALARM
    never = draw(pc.Standard(max_new_tokens=2, require="x"), probs, 3)
    assert [c.stats.satisfied for c in never] == [False] * 3
    assert all(16 <= c.stats.tokens_decoded <= 32 for c in never)


LONG = {"blocks": 1, "refine_finished": True, "steps": 8, "uniform_mix": 0.3}


@pytest.mark.parametrize(
    "sampler",
    [
        pc.UniformCut(alpha=2, max_new_tokens=4, require="b", **LONG),
        pc.EntropyCut(alpha=2, max_new_tokens=4, require=lambda text: "b" in text, length_bonus=0.2, **LONG),
        pc.EntropyCut(alpha=2, max_new_tokens=4, require="b", **LONG | {"tries": 2, "steps": 20}),
        pc.Rejection(alpha=2, max_new_tokens=4, require="b"),
    ],
    ids=["uniform", "entropy-function-bonus", "several-tries", "rejection"],
)
def test_completions_have_the_restricted_law(sampler):
    probs = random_table(13, 3)
    (space,) = spaces_of(sampler, probs)
    inside = space.inside(has("b"), last=True)
    law = pi = space.power(2, sampler.length_bonus, inside)
    if not isinstance(sampler, pc.Rejection) and sampler.tries == 1:  # that of a few steps; that of many is the target
        law = procedure_law([space], sampler, has("b"))
        assert np.abs(procedure_law([space], replace(sampler, steps=30), has("b")) - pi).sum() / 2 < 2e-3
    drawn = draw(sampler, probs, 400)
    assert all(c.stats.satisfied for c in drawn)
    assert chi_square_p(count(space, drawn), law) > ALARM
    low = draw(pc.LowTemperature(alpha=2, max_new_tokens=4, require="b"), probs, 400)  # control
    assert chi_square_p(count(space, low), law) < ALARM


@pytest.mark.parametrize(
    "settings",
    [
        *grid(cls=[pc.SMC], alpha=[3], particles=[1, 2], ess_threshold=[0.8], max_new_tokens=[3]),
        *grid(
            cls=[pc.SMC], alpha=[2], particles=[2], moves=[1], ess_threshold=[1], length_bonus=[0.5], max_new_tokens=[2]
        ),
        *grid(cls=[pc.PowerSMC], alpha=[3], particles=[2], ramp_tokens=[2], max_new_tokens=[3]),
    ],
    ids=str,
)
def test_particles_weigh_what_they_should(settings):
    """E[Z-hat 1{X = x}] = p(x)^alpha e^(b n) where x has what is required, and 0 elsewhere; so E[Z-hat] = Z."""
    cls, *_ = settings.values()
    vocab, pattern = (3, "b") if settings["max_new_tokens"] == 2 else (2, "^aa?$")
    sampler = cls(block_size=1, require=pattern, **{k: v for k, v in settings.items() if k != "cls"})
    probs = random_table(1, vocab)
    space = enumerate_completions(probs, PROMPT, sampler.max_new_tokens, 1.0)
    weighed, lost = np.zeros(len(space.completions)), 0.0
    for prob, c in every_path(probs, lambda engine, rng: sampler(engine, np.array(PROMPT), rng), TEXT):
        weighed[space.index[tuple(c.tokens.tolist())]] += prob * np.exp(c.stats.log_z)
        lost += prob * (c.stats.log_z == -np.inf)
    bonus = sampler.length_bonus * np.array([len(x) for x in space.completions])
    gamma = np.exp(sampler.alpha * space.logp + bonus) * space.inside(has(pattern), last=True)
    assert np.abs(weighed - gamma).max() < 1e-12
    assert 0 < lost < 1


@pytest.mark.parametrize("settings", [{"early_reject": False}, {"look_ahead": 4}, {"look_ahead": "auto"}], ids=str)
def test_neither_early_rejection_nor_look_ahead_changes_a_chain(settings):
    probs = random_table(21, 5)
    plain = {"alpha": 3, "steps": 2, "blocks": 3, "max_new_tokens": 12, "top_k": 5, "require": "cb|dd", "tries": 1}
    for more in ({}, {"refine_finished": True, "length_bonus": 0.1}):
        paths, keys = {}, []

        def observe(i, j, event, paths=paths, keys=keys):
            paths.setdefault((keys[-1], j), []).append(event.trace)

        for changed in (True, False):
            keys.append(changed)
            drawn = draw(pc.UniformCut(**plain | more | (settings if changed else {})), probs, 25, 3, observe)
        assert all(paths[True, j] == paths[False, j] for j in range(25))
        assert {c.stats.satisfied for c in drawn} == {True, False}


def test_best_of_n_chooses_among_those_that_have_it():
    probs = random_table(22, 3)
    drawn = draw(pc.BestOfN(n=6, max_new_tokens=4, require="bb"), probs, 200)
    free = draw(pc.BestOfN(n=6, max_new_tokens=4), probs, 200)
    kept = [(a, b) for a, b in zip(drawn, free, strict=True) if a.stats.satisfied]
    assert 0 < len(kept) < 200
    assert all("bb" in a.text and a.logp / len(a.tokens) <= b.logp / len(b.tokens) for a, b in kept)
    assert all(
        a.tokens.tolist() == b.tokens.tolist() for a, b in zip(drawn, free, strict=True) if not a.stats.satisfied
    )


def test_what_is_required_of_a_model_without_text_is_refused_before_anything_is_drawn():
    table = pc.TableEngine(random_table(1, 3), EOS)
    with pytest.raises(pc.SettingError, match="require looks into texts, and this model has no tokenizer"):
        pc.sample(table, pc.EntropyCut(require="a", max_new_tokens=4, blocks=1), [PROMPT])
    assert table.usage.decoded == 0


def test_rejection_within_its_tries_or_not_at_all():
    with pytest.raises(pc.BudgetError, match="lower alpha or max_new_tokens, or require less"):
        draw(pc.Rejection(alpha=1, max_tries=5, max_new_tokens=3, require="x"), random_table(1, 3), 1)


def test_a_stop_string_is_no_part_of_the_text_and_too_early_not_looked_for():
    """The text that is looked into is the one that is shown."""

    def probs(context):
        return np.array([0.0, 0.5, 0.5])

    kinds = set()
    sampler = pc.Standard(max_new_tokens=6, stop=("ab",), min_new_tokens=2, require="b$")
    for c in draw(sampler, probs, 60):
        letters = TEXT.decode_now(c.tokens)
        if c.stats.satisfied:
            assert letters.endswith("ab")
            assert c.text == letters[: letters.index("ab", 2)]
            assert c.text.endswith("b")
        kinds.add((c.stats.satisfied, letters.startswith("ab")))
    assert (True, True) in kinds
