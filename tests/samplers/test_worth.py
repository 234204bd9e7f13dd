"""When one more request pays: chances from the chain's steps, costs from the times between its tokens."""

import pytest

from powercut.samplers.worth import Worth
from powercut.trace import Step


def step(accepted, decoded):
    return Step(0, 0, 0.0, accepted, not accepted, decoded)


def seen(cost):
    """After tokens that took ``cost(b)`` seconds with b requests in the engine."""
    worth = Worth([])
    for i in range(60):
        worth.took(cost(1 + i % 4), 1 + i % 4)
    return worth


def test_a_request_that_costs_nothing_pays_if_it_is_likely_enough():
    worth = seen(lambda busy: 0.05)
    assert worth.pays(0.2, busy=4, likely=4)
    assert not worth.pays(0.05, busy=4, likely=4)


def test_where_a_token_takes_as_long_as_there_are_requests_none_pays():
    worth = seen(lambda busy: 0.01 * busy)
    for busy in (1, 4, 30):
        assert not worth.pays(0.95, busy=busy, likely=busy)
    assert worth.pays(0.95, busy=4, likely=1)  # beside three that will not count


@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_it_pays_if_the_tokens_that_count_come_faster(chance):
    """(1 + chance) / s(2) against 1 / s(1)."""
    for growth in (0.2, 0.5, 0.9):
        worth = seen(lambda busy, growth=growth: 1 + growth * (busy - 1))
        assert worth.pays(chance, busy=1, likely=1) == ((1 + chance) / (1 + growth) > 1)


def test_the_second_request_may_cost_more_than_those_behind_it():
    """As with a file of few bits, which llama.cpp decodes row by row: a line through these would say 0.5."""
    worth = seen(lambda busy: (1.0, 1.8, 2.2, 2.6)[busy - 1])
    assert not worth.pays(0.7, busy=1, likely=1)
    assert worth.pays(0.7, busy=3, likely=2)


def test_what_was_long_ago_is_forgotten():
    worth = Worth([])
    for i in range(4000):
        worth.took(1 + 0.1 * (i % 4), 1 + i % 4)
    assert worth.pays(0.3, busy=1, likely=1)
    for i in range(400):
        worth.took(5.0 * (1 + i % 4), 1 + i % 4)
    assert not worth.pays(0.9, busy=1, likely=1)


def test_nothing_is_known_before_two_batches_were_seen():
    worth = Worth([])
    assert worth.pays(0.5, busy=1, likely=1)
    worth.took(1.0, 1)
    assert worth.pays(0.5, busy=1, likely=1)


def test_the_further_a_proposal_has_come_the_likelier_it_is_accepted():
    worth = Worth([step(True, 30), *(step(False, n) for n in (2, 3, 5, 8, 40))])
    chances = [worth.acceptance(decoded) for decoded in (0, 4, 10, 50)]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(2 / 8)
    assert chances[-1] == pytest.approx(2 / 3)
