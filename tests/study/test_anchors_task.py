"""The task of anchors: its law, its solutions, and the exact accuracies, against enumeration of a shorter one."""

import numpy as np
import pytest

import powercut as pc
from powercut.study.anchors.task import (
    END,
    IDS,
    ITEMS,
    LENGTH,
    VOCABULARY,
    AnchorLaw,
    Problems,
    answer,
    exact_share_right,
    solutions,
)

PROBLEMS = Problems.draw(np.random.default_rng(1), 40)


def text(tokens):
    return "".join(VOCABULARY[token] for token in tokens)


def draw(sampler, count=40, forced=0, **options):
    engine = pc.TableEngine(AnchorLaw(forced), END)
    prompts = [PROBLEMS.prompt(i) for i in range(count)]
    return pc.sample(engine, sampler, prompts, **options)


def test_a_problem_reads_as_said():
    prompt = text(PROBLEMS.prompt(0))
    assert prompt[::2][:ITEMS] == "abcdefghij"
    assert prompt[-1] == "?"
    assert prompt.count("0") == 1
    assert prompt[1] != "0"


@pytest.mark.parametrize("forced", [0, 20])
def test_solutions_walk_round_once_and_answer_with_the_total(forced):
    for i, c in enumerate(draw(pc.Standard(max_new_tokens=LENGTH + forced), forced=forced)):
        assert c.finished
        assert len(c.tokens) == LENGTH + forced
        assert text(c.tokens[:forced]) == ";" * forced
        solution = text(c.tokens[forced:])
        steps = solution[: 5 * ITEMS].split(";")[:-1]
        assert sorted(step[0] for step in steps) == list("abcdefghij")
        assert all(int(step[1]) == PROBLEMS.digits[i, ord(step[0]) - ord("a")] for step in steps)
        sound = solution[0] == "abcdefghij"[PROBLEMS.anchor[i]]
        assert {step[2] for step in steps} == {"=" if sound else "~"}
        assert solution[5 * ITEMS :] == f"#{steps[-1][3]}$"
        assert answer(c.tokens) == int(steps[-1][3])


def test_what_has_no_answer_has_none():
    assert answer([]) is None
    assert answer([IDS["#"]]) is None
    assert answer([IDS["#"], IDS["$"]]) is None
    assert answer([IDS["#"], 7]) == 7


@pytest.mark.parametrize(("alpha", "low_temperature"), [(1.0, False), (4.0, True)])
def test_exact_accuracies_are_those_of_draws(alpha, low_temperature):
    """False alarm: once in 10,000."""
    few, each = 2, 80
    sampler = (
        pc.LowTemperature(alpha=alpha, max_new_tokens=LENGTH) if low_temperature else pc.Standard(max_new_tokens=60)
    )
    drawn = draw(sampler, few, n=each, seed=3)
    right = np.array([answer(c.tokens) == PROBLEMS.answers[c.prompt_index] for c in drawn]).reshape(few, each).mean(1)
    exact = np.array([exact_share_right(PROBLEMS, i, alpha, low_temperature=low_temperature) for i in range(few)])
    spread = np.sqrt((exact * (1 - exact)).sum() / each)
    assert abs(right.sum() - exact.sum()) < 3.9 * spread


def test_the_power_distribution_reasons_better_than_its_tokens():
    for alpha, low, high in ((1.0, 0.1, 0.35), (4.0, 0.97, 1.0)):
        shares = [exact_share_right(PROBLEMS, i, alpha) for i in range(20)]
        assert low < np.mean(shares) < high
    assert np.mean([exact_share_right(PROBLEMS, i, 4.0, low_temperature=True) for i in range(20)]) < 0.6


def test_the_exact_power_distribution_by_importance():
    """Of completions drawn from q, weights e^(sum g) give p^alpha: what the dynamic programme computes."""
    few, each = 2, 100
    drawn = draw(pc.LowTemperature(alpha=2.0, max_new_tokens=LENGTH, top_k=None), few, n=each, seed=5)
    for i in range(few):
        own = drawn[i * each : (i + 1) * each]
        log_weights = np.array([2.0 * c.trace.logp.sum() - c.trace.logq.sum() for c in own])
        weights = np.exp(log_weights - log_weights.max())
        right = np.array([answer(c.tokens) == PROBLEMS.answers[i] for c in own])
        estimate = (weights * right).sum() / weights.sum()
        error = np.sqrt((weights**2 * (right - estimate) ** 2).sum()) / weights.sum()
        assert abs(estimate - exact_share_right(PROBLEMS, i, 2.0)) < 5 * max(error, 0.01)


def test_the_training_data_has_the_law():
    tokens, laws = solutions(np.random.default_rng(2), PROBLEMS)
    law = AnchorLaw()
    for i, (solution, given) in enumerate(zip(tokens.tolist(), laws, strict=True)):
        prompt = PROBLEMS.prompt(i)
        for place in range(LENGTH):
            np.testing.assert_allclose(given[place], law((*prompt, *solution[:place])), rtol=0, atol=1e-15)
            assert given[place][solution[place]] > 0


def test_without_noise_every_walk_is_right():
    tokens, _ = solutions(np.random.default_rng(3), PROBLEMS, noise=0.0)
    assert [answer(solution) for solution in tokens] == PROBLEMS.answers.tolist()
