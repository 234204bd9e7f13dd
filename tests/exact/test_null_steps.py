"""Null steps, which propose the current text, are passed over or left out, and the law is as it was.

Passed over (count="steps"): a chain of any number of steps has the law of as many plain ones, by enumeration of all
that the sampler can do, and by chi-square. Left out (count="differing"): each step leaves the power distribution as it
is.
"""

import numpy as np
import pytest

import powercut as pc
from powercut.samplers import kernel as kernel_module
from powercut.samplers.draw import Draw
from powercut.samplers.repeats import null_steps
from powercut.study.exact import EOS, enumerate_completions, extension_matrix, kernel_matrix, procedure_law
from powercut.study.paths import every_path
from powercut.target import log_ratio
from tests.checks import ALARM, chi_square_p, count, draws_to_tell, grid, random_table

PROMPT = (1,)
ONE_STAGE = {"blocks": 1, "refine_finished": True, "top_k": None}

SETTINGS = [
    *grid(cls=[pc.UniformCut], alpha=[1, 4], temperature=[None, 1.0, 2.5], min_new_tokens=[0, 1]),
    *grid(cls=[pc.EntropyCut], alpha=[3], beta=[0, 4], uniform_mix=[0.0, 0.3, 1.0], length_bonus=[0.0, 0.4]),
    *grid(cls=[pc.EntropyCut], alpha=[3], temperature=[0.1, 1.0], top_k=[2], uniform_mix=[0.3]),
]


def names(value):
    return "-".join(getattr(each, "__name__", str(each)) for each in value.values())


def spaces_of(sampler, probs):
    rest = sampler.proposal_temperature, sampler.top_k, sampler.min_new_tokens
    return [enumerate_completions(probs, PROMPT, horizon, *rest) for horizon in sampler.horizons]


def law_of(sampler, probs, space):
    """What the sampler returns, by every path that it can take, and its null steps on the average."""
    law, nulls = np.zeros(len(space.traces)), 0.0
    for prob, c in every_path(probs, lambda engine, rng: sampler(engine, np.array(PROMPT), rng)):
        law[space.index[tuple(c.tokens.tolist())]] += prob
        nulls += prob * c.stats.null_steps
    return law, nulls


CHAINS = [
    (pc.EntropyCut, {"steps": 3}),
    (pc.UniformCut, {"steps": 3}),
    (pc.UniformCut, {"steps": 1, "blocks": 2}),
    (pc.EntropyCut, {"steps": 1, "blocks": 2, "uniform_mix": 0.3, "refine_finished": False}),
]


def chain(cls, settings):
    return cls(**{"alpha": 3, "max_new_tokens": 2, **ONE_STAGE} | settings), random_table(3, 2)


@pytest.mark.parametrize(("cls", "settings"), CHAINS, ids=str)
def test_so_many_steps_have_the_law_of_so_many_plain_ones(cls, settings):
    sampler, probs = chain(cls, settings)
    spaces = spaces_of(sampler, probs)
    law, nulls = law_of(sampler, probs, spaces[-1])
    assert np.abs(law - procedure_law(spaces, sampler)).max() < 1e-12
    plain, made = law_of(
        cls(**{"alpha": 3, "max_new_tokens": 2, **ONE_STAGE} | settings, skip_repeats=False), probs, spaces[-1]
    )
    assert np.abs(law - plain).max() < 1e-12
    assert nulls == pytest.approx(made, abs=1e-12)  # counted alike, made or passed over


def without_weights(current, law, tries=1):
    """The right chance that a step differs, but cuts that are as likely as ever."""
    return law.probs(current.entropy) * kernel_differing_cuts(current, law, tries).sum()


kernel_differing_cuts = kernel_module.differing_cuts


@pytest.mark.parametrize(
    ("name", "wrong"), [("differing_cuts", without_weights), ("null_steps", lambda differs, most, rng: 0)]
)
def test_cuts_that_are_not_reweighted_and_nulls_that_are_not_counted_fail_it(monkeypatch, name, wrong):
    monkeypatch.setattr(kernel_module, name, wrong)
    sampler, probs = chain(pc.UniformCut, {"steps": 3})
    spaces = spaces_of(sampler, probs)
    assert np.abs(law_of(sampler, probs, spaces[-1])[0] - procedure_law(spaces, sampler)).max() > 1e-3


@pytest.mark.parametrize("steps", [1, 12])
def test_chi_square_at_a_number_of_steps(steps):
    """A temperature so low that most steps are null."""
    sampler = pc.UniformCut(alpha=2, temperature=0.15, steps=steps, max_new_tokens=4, **ONE_STAGE)
    probs = random_table(12, 3)
    spaces = spaces_of(sampler, probs)
    drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=600, seed=5)
    assert chi_square_p(count(spaces[-1], drawn), procedure_law(spaces, sampler)) > ALARM
    assert {c.stats.steps for c in drawn} == {steps}
    assert sum(c.stats.null_steps for c in drawn) > 0.3 * 600 * steps
    for c in drawn:
        assert c.stats.steps >= sum(1 + step.nulls for step in c.steps)
        assert c.stats.null_steps == c.stats.steps - len(c.steps)
        assert c.stats.null_steps == pytest.approx(steps * (c.stats.acceptance - c.stats.changed))


def test_their_number_is_geometric():
    class Given:
        def __init__(self, u):
            self.random = lambda: u

    for differs, u in ((0.3, 0.5), (0.3, 0.01), (1e-9, 0.5), (1.0, 0.0), (0.9, 0.99)):
        wanted = 0 if differs == 1 else int(np.log(u) / np.log1p(-differs))
        assert null_steps(differs, 10**12, Given(u)) == wanted
        assert null_steps(differs, 3, Given(u)) == min(3, wanted)
    assert null_steps(0.0, 7, None) == 7


@pytest.mark.parametrize("counted", ["steps", "differing"])
def test_a_stage_in_which_nothing_can_change_is_over_at_once(counted):
    sampler = pc.UniformCut(steps=1000, blocks=1, max_new_tokens=6, count=counted)
    [c] = pc.sample(pc.TableEngine(lambda _: [0.0, 1.0], EOS), sampler, [PROMPT], seed=1)
    assert (c.steps, c.stats.tokens_decoded) == ((), 6)
    assert (c.stats.steps, c.stats.null_steps) == (1000, 1000)


@pytest.mark.parametrize("settings", SETTINGS, ids=names)
def test_steps_that_differ_leave_the_power_distribution_invariant(settings):
    cls, settings = settings["cls"], {key: value for key, value in settings.items() if key != "cls"}
    for seed, vocab in ((3, 2),):
        sampler = cls(**{"max_new_tokens": 3, **ONE_STAGE} | settings, count="differing")
        plain = cls(**{"max_new_tokens": 3, **ONE_STAGE} | settings)
        probs = random_table(seed, vocab, zeros=True)
        [space] = spaces_of(sampler, probs)
        pi, matrix = space.power(sampler.alpha, sampler.length_bonus), np.zeros((len(space.traces),) * 2)
        for i, x in enumerate(space.traces):

            async def step(engine, rng, x=x, sampler=sampler):
                async with Draw(engine, np.array(PROMPT), sampler.decoding) as draw:
                    if sampler.kernel.nulls(x, 1, rng):  # there is no other completion
                        return x[:0], None
                    return await sampler.kernel.step(draw, x, 3, rng, differs=True)

            for prob, (tail, made) in every_path(probs, step):
                y = x.splice(made.cut, tail) if made is not None and made.accepted else x
                assert made is None or not made.accepted or made.changed_at is not None
                matrix[i, space.index[tuple(y.tokens.tolist())]] += prob
        assert np.abs(matrix - kernel_matrix(space, sampler)).max() < 1e-12
        flow = pi[:, None] * matrix
        assert np.abs(flow - flow.T).max() < 1e-12
        better = matrix - kernel_matrix(space, plain)
        assert (better - np.diag(np.diag(better))).min() > -1e-12  # it leaves each text for each other as often or more


def test_without_what_the_ratio_makes_up_for_they_do_not():
    """Null steps passed over and not counted: the limit is pi(x) times the chance that a proposal from x differs."""
    sampler = pc.UniformCut(alpha=3, max_new_tokens=3, **ONE_STAGE, count="differing")
    [space] = spaces_of(sampler, random_table(5, 3))
    pi = space.power(3)
    matrix = kernel_matrix(space, sampler, lambda x, y, cut: log_ratio(sampler.target, sampler.cut_law, x, y, cut))
    assert np.abs(pi @ matrix - pi).sum() / 2 > 0.05
    differs = np.array([kernel_differing_cuts(x, sampler.cut_law).sum() for x in space.traces])
    limit = pi * differs / (pi @ differs)
    assert np.abs(limit @ matrix - limit).max() < 1e-12


@pytest.mark.parametrize("cls", [pc.UniformCut, pc.EntropyCut])
def test_chains_of_steps_that_differ_have_their_law(cls):
    """Which is near the power distribution soon."""
    probs = random_table(12, 3)
    space = enumerate_completions(probs, PROMPT, 4, 1 / 3)
    sampler = cls(alpha=3, steps=5, max_new_tokens=4, count="differing", **ONE_STAGE)
    law, start = procedure_law([space], sampler), extension_matrix(None, space)[0]
    drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=draws_to_tell(start, law), seed=4)
    assert chi_square_p(count(space, drawn), law) > ALARM
    assert chi_square_p(count(space, drawn), start) < ALARM  # control: no step
    assert {(c.stats.steps, c.stats.null_steps, len(c.steps)) for c in drawn} == {(5, 0, 5)}
    many = cls(alpha=3, steps=15, max_new_tokens=4, count="differing", **ONE_STAGE)
    assert np.abs(procedure_law([space], many) - space.power(3)).sum() / 2 < 1e-3


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("settings", [{}, {"look_ahead": 4}, {"look_ahead": "auto", "early_reject": False}])
def test_early_rejection_and_look_ahead_change_none_of_them(settings, mix):
    def chains(**changed):
        sampler = pc.EntropyCut(
            **{"alpha": 4, "steps": 12, "blocks": 3, "max_new_tokens": 12, "uniform_mix": mix, "beta": 1.5} | changed,
            count="differing",
            refine_finished=True,
        )
        return pc.sample(pc.TableEngine(random_table(9, 5), EOS), sampler, [PROMPT], n=8, seed=2)

    plain = chains(early_reject=False)
    drawn = chains(**settings)
    for a, b in zip(drawn, plain, strict=True):
        assert a.trace == b.trace
        assert [step.accepted for step in a.steps] == [step.accepted for step in b.steps]
    if settings.get("early_reject", True):
        assert any(step.early for c in drawn for step in c.steps)


def test_a_search_for_the_mode_tries_so_many_changes():
    sampler = pc.UniformCut(
        alpha=float("inf"), temperature=0.5, steps=30, max_new_tokens=4, count="differing", **ONE_STAGE
    )
    probs = random_table(12, 3)
    space = enumerate_completions(probs, PROMPT, 4, 0.5)
    drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=5, seed=4)
    assert {c.stats.steps for c in drawn} == {30}
    assert all(c.logp > np.median(space.logp) for c in drawn)


def test_an_engine_that_does_not_tell_laws_cannot_count_steps_that_differ():
    class Silent(pc.TableEngine):
        async def extend(self, request, keep_going=None):
            trace = await super().extend(request, keep_going)
            return pc.Trace(trace.tokens, trace.logp, trace.logq, trace.entropy, trace.finished)

    sampler = pc.UniformCut(steps=3, max_new_tokens=4, count="differing", **ONE_STAGE)
    with pytest.raises(pc.SettingError, match="count=differing needs the model's law at each token"):
        pc.sample(Silent(random_table(12, 3), EOS), sampler, [PROMPT])


@pytest.mark.parametrize("settings", [{"tries": 2}, {"rule": "published"}, {"skip_repeats": False}])
def test_what_does_not_go_with_it_is_refused(settings):
    with pytest.raises(pc.SettingError, match="count differing goes with one try, rule exact and skip_repeats"):
        pc.UniformCut(count="differing", **settings)
