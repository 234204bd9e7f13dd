"""Where a model decides: information against laws that are known, and the map of a model with one decision."""

import asyncio
import math

import numpy as np
import pytest
from scipy import stats

import powercut as pc
from powercut.study.bootstrap import clustered_interval
from powercut.study.decisions.information import (
    information,
    mutual_information,
    rank_correlation,
)
from powercut.study.decisions.measure import Redraws, choose_cuts, measure_prompts
from powercut.study.decisions.report import findings
from tests.cli.fake import LETTERS, LetterText


def test_mutual_information_of_laws_that_are_known():
    same = np.array([0, 1] * 50)
    assert mutual_information(same, same) == pytest.approx(math.log(2))
    assert mutual_information(same, np.zeros(100, dtype=int)) == 0
    assert mutual_information(same, np.repeat([0, 1], 50)) == pytest.approx(0, abs=1e-12)
    a, b = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    joint = [(0.5, 0.5 * 0.75), (0.25, 0.5 * 0.75), (0.25, 0.5 * 0.25)]
    assert mutual_information(a, b) == pytest.approx(sum(p * math.log(p / q) for p, q in joint))


def test_information_by_chance_is_none_and_its_alarms_are_rare():
    """p is valid: of 200 independent pairs at most 24 are below 0.05, but for once in 10,000."""
    rng = np.random.default_rng(0)
    found = [information(rng.integers(3, size=16), rng.integers(3, size=16), rng, 99) for _ in range(200)]
    assert sum(each.p <= 0.05 for each in found) <= 24
    assert abs(np.mean([each.estimate for each in found])) < 0.03


def test_a_token_that_settles_the_answer_is_found():
    rng = np.random.default_rng(1)
    tokens = [5, 7] * 8
    found = information(tokens, ["five" if token == 5 else None for token in tokens], rng, 99)
    assert found.p == 0.01
    assert found.low < found.estimate < math.log(2)
    assert found.estimate > 0.6


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(2)
    x, y = rng.integers(6, size=40).astype(float), rng.normal(size=40)
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert math.isnan(rank_correlation(np.ones(4), np.arange(4.0)))


def test_an_interval_over_groups():
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=(1, 1)) + np.zeros((20, 1)) for _ in range(50)]
    value, low, high = clustered_interval(groups, lambda x: float(x.mean()), rng, 400)
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(50), rel=0.4)
    assert math.isnan(clustered_interval(groups[:1], lambda x: float(x.mean()), rng)[1])


def test_cuts_are_the_largest_jumps_and_others():
    jumps = np.array([0.0, 3.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0])
    chosen = choose_cuts(jumps, 4, np.random.default_rng(0))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 4
    assert {1, 3} <= set(chosen)
    assert choose_cuts(jumps, 8, np.random.default_rng(0)) == list(range(8))


def one_decision(context):
    """After the prompt a or b, which settles the last letter; then c or d, of no consequence; then it; then the end."""
    law, done = np.zeros(len(LETTERS)), context[1:]
    if len(done) < 2:
        law[[1, 2] if not done else [3, 4]] = 0.5
    else:
        law[0 if len(done) == 3 else done[0]] = 1
    return law


def test_the_map_finds_the_decision_and_not_the_detail():
    engine = pc.TableEngine(one_decision, 0, text=LetterText())
    sampler = pc.LowTemperature(temperature=1.0, max_new_tokens=4, top_k=None)
    records = {}

    def last(_, text):
        return text[-1:] or None

    asyncio.run(
        measure_prompts(engine, sampler, [np.array([8])] * 3, Redraws(4, 24, 0), last, [0, 1, 2], records.__setitem__)
    )
    found = findings([records[i] for i in range(3)], "a table", 0)
    by_place = {}
    for row in found.rows:
        by_place.setdefault(row["position"], []).append(row)
    assert all(row["p"] < 0.02 and row["estimate"] > 0.5 for row in by_place[0])
    assert all(row["estimate"] == pytest.approx(0, abs=0.15) for place in (1, 2, 3) for row in by_place[place])
    assert found.table.rows[0].fields[0] == "rank correlation of jump and information"
    everywhere = np.mean([row["estimate"] for row in found.rows])
    more = np.mean([row["estimate"] for row in by_place[0]]) - everywhere  # nothing else jumps
    assert [row.fields[:2] for row in found.table.rows[3:]] == [
        ["information where one of these cuts is, nats", f"{everywhere:.3f}"],
        *([f"more where β {beta} cuts, nats", f"{more:+.3f}"] for beta in (1, 2, 4, 8)),
    ]
    assert len(found.sections[1].parts) == 3
    assert [part.link[0] for part in found.sections[1].parts] == [f"completions.html#chain={i}" for i in (1, 2, 3)]
    page = found.pages["completions.html"]
    assert page.count('<script type="application/octet-stream"') == 3
    assert '"notes": []' in page
    older = [{name: value for name, value in records[i].items() if name != "lines"} for i in range(3)]
    assert findings(older, "a table", 0).pages == {}
    assert findings(older, "a table", 0).sections[1].parts[0].link is None
