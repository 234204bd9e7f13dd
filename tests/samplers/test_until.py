"""Stages that end when nothing seems to change any more: when, what comes of them, and what it does to the law."""

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions, extension_matrix, kernel_matrix
from tests.checks import chi_square_p, count, random_table
from tests.letters import Letters

ALARM = 1e-6
PROMPT = (1,)
CHAIN = {"alpha": 3, "steps": 12, "blocks": 3, "max_new_tokens": 12, "refine_finished": True}


def draw(n=8, table=9, **settings):
    engine = pc.TableEngine(random_table(table, 4), EOS, text=Letters(".abc"))
    return pc.sample(engine, pc.EntropyCut(**CHAIN | {"uniform_mix": 0.2} | settings), [PROMPT], n=n, seed=2)


def by_stage(completion):
    return [[step for step in completion.steps if step.stage == stage] for stage in range(3)]


@pytest.mark.parametrize("settings", [{}, {"count": "differing"}, {"tries": 2}, {"skip_repeats": False}])
def test_a_stage_ends_with_so_many_changes_tried_in_vain(settings):
    ended = 0
    for c in draw(until=3, **settings):
        for steps in by_stage(c):
            tried = [step.accepted for step in steps if not (step.accepted and step.changed_at is None)]
            streaks = [k for k in range(3, len(tried) + 1) if not any(tried[k - 3 : k])]
            assert streaks in ([], [len(tried)])
            ended += bool(streaks)
    assert ended == sum(c.stats.stages_ended for c in draw(until=3, **settings)) > 0


def test_what_comes_before_the_end_is_the_chain_without_it():
    for whole, short in zip(draw(blocks=1), draw(blocks=1, until=2), strict=True):
        assert whole.steps[: len(short.steps)] == short.steps
        assert whole.stats.stages_ended is None


@pytest.mark.parametrize("settings", [{"answer": "^."}, {"answer": "[abc]"}, {"answer": lambda text: len(text) // 4}])
def test_an_answer_that_stays_the_same_ends_it(settings):
    ended = [c.stats.stages_ended for c in draw(until=4, **settings)]
    assert sum(ended) > 0
    assert draw(until=4, answer="never")[0].stats.stages_ended == 0  # no answer has not stayed the same


@pytest.mark.parametrize("rule", [{}, {"rule": "published", "skip_repeats": False}, {"refine_finished": False}])
@pytest.mark.parametrize("ahead", [{"look_ahead": 4}, {"look_ahead": "auto"}])
def test_look_ahead_gives_the_same_chains(ahead, rule):
    for a, b in zip(draw(until=2, **ahead, **rule), draw(until=2, **rule), strict=True):
        assert a.trace == b.trace
        assert a.steps == b.steps
        assert a.stats.stages_ended == b.stats.stages_ended


def law_of(space, sampler):
    """The law of a stage that ends so, by enumeration of texts and streaks of steps that changed nothing."""
    matrix = kernel_matrix(space, sampler)
    stay = np.diag(np.diag(matrix))
    streaks = [extension_matrix(None, space)[0], *(np.zeros(len(space.traces)) for _ in range(sampler.until - 1))]
    ended = np.zeros(len(space.traces))
    for _ in range(sampler.steps):
        ended = ended + streaks[-1] @ stay
        streaks = [sum(streaks) @ (matrix - stay), *(law @ stay for law in streaks[:-1])]
    return ended + sum(streaks)


def chain(**settings):
    return pc.UniformCut(alpha=3, blocks=1, max_new_tokens=4, refine_finished=True, count="differing", **settings)


def test_its_law_is_that_of_a_chain_that_stops_so():
    """By enumeration; the power distribution is another. False-alarm probability ALARM."""
    probs, sampler = random_table(12, 3), chain(steps=8, until=2)
    space = enumerate_completions(probs, PROMPT, 4, 1 / 3)
    law = law_of(space, sampler)
    drawn = pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=600, seed=3)
    assert chi_square_p(count(space, drawn), law) > ALARM
    assert np.abs(law - space.power(3)).sum() / 2 > 0.02


def test_with_steps_without_end_what_is_hardest_to_leave_wins():
    space = enumerate_completions(random_table(12, 3), PROMPT, 4, 1 / 3)
    hardest = int(np.argmax(np.diag(kernel_matrix(space, chain()))))
    shares = [law_of(space, chain(steps=3000, until=patience))[hardest] for patience in (4, 8, 16)]
    assert space.power(3)[hardest] < shares[0] < shares[1] < shares[2]
    never = law_of(space, chain(steps=40, until=41))
    assert np.abs(never - space.power(3)).sum() / 2 < 1e-3


def test_answers_need_texts():
    with pytest.raises(pc.SettingError, match="answer looks into texts, and this model has no tokenizer"):
        pc.sample(pc.TableEngine(random_table(9, 4), EOS), pc.EntropyCut(**CHAIN, until=2, answer="x"), [PROMPT])
    with pytest.raises(pc.SettingError, match="until must be a whole number of at least 1"):
        pc.EntropyCut(until=0)
