"""Shaped targets on the tree with an early answer, against sums by hand."""

import math

import pytest

from powercut.study.lengths.report import findings
from powercut.study.lengths.tree import GOES_ON, SHAPED, Shaped

ALPHA = 4.0
STOPS, GOES = (1 - GOES_ON) ** ALPHA, GOES_ON**ALPHA
LONG = 0.55**ALPHA * (0.9**ALPHA + 0.1**ALPHA) ** 2


def at_once(bonus=0.0, least=0):
    """Mass of the texts that answer at once, by their lengths; those that work it out have 9 tokens."""
    free = max(0, least - 2)  # tokens after the answer that cost nothing: the stop, the third one, is not allowed yet
    mass = {n: 0.45**ALPHA * GOES ** (n - 3 - free) * STOPS * math.exp(bonus * n) for n in range(3 + free, 11)}
    mass[10] += 0.45**ALPHA * GOES ** (8 - free) * math.exp(bonus * 10)  # cut off
    return mass


@pytest.mark.parametrize(
    ("shaped", "mass", "long"),
    [
        (Shaped("plain"), at_once(), LONG),
        (Shaped("bonus", length_bonus=0.3), at_once(bonus=0.3), LONG * math.exp(2.7)),
        (Shaped("least", min_new_tokens=6), at_once(least=6), LONG),
    ],
)
def test_the_target_is_the_sum_by_hand(shaped, mass, long):
    found = shaped.measure(ALPHA)
    whole = sum(mass.values()) + long
    assert found["at_once"] == pytest.approx(sum(mass.values()) / whole, rel=1e-9)
    assert found["tokens"] == pytest.approx((sum(n * m for n, m in mass.items()) + 9 * long) / whole, rel=1e-9)


def test_what_is_required_is_all_there_is():
    found = SHAPED["require: worked out"].measure(ALPHA)
    assert (found["at_once"], found["tokens"]) == (0, pytest.approx(9))


@pytest.mark.parametrize("name", SHAPED)
def test_a_chain_that_goes_on_comes_near_its_target(name):
    found = SHAPED[name].measure(ALPHA)
    assert found["distance"] < 0.01
    assert found["sampled_tokens"] == pytest.approx(found["tokens"], abs=0.06)


def test_a_least_length_lengthens_and_leaves_the_answer():
    plain, least, bonus = (SHAPED[name].measure(ALPHA) for name in ("p^α", "min_new_tokens 8", "length_bonus 0.3"))
    assert least["tokens"] > plain["tokens"] + 2
    assert least["at_once"] == pytest.approx(plain["at_once"], abs=1e-6)
    assert bonus["at_once"] < plain["at_once"] / 3


def test_the_report_of_the_tree_alone():
    records = [{"of": "tree", "shape": name} | shaped.measure(ALPHA) for name, shaped in SHAPED.items()]
    found = findings(records, None, graded=False, seed=0)
    assert [row.fields[0] for row in found.table.rows] == list(SHAPED)
    assert len(found.sections) == 1
