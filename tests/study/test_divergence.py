"""Edit distances, places of each arm, and suffixes of a model whose texts part at its decisions alone."""

import asyncio
import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

import powercut as pc
from powercut.cuts import EntropyJump
from powercut.report.stats import sign_test
from powercut.study.divergence.distance import edit_distance, mean_distance
from powercut.study.divergence.measure import Suffixes, measure_suffixes
from powercut.study.divergence.positions import (
    APART,
    HIGH,
    JUMP,
    MENDED,
    MOST,
    STILL,
    UNIFORM,
    mended_places,
    published_places,
)
from powercut.study.divergence.report import findings
from tests.cli.fake import LETTERS, LetterText


def by_the_table(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(first) + 1), np.arange(len(second) + 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = min(table[i, j] + (a != b), table[i, j + 1] + 1, table[i + 1, j] + 1)
    return table[-1, -1]


def test_edit_distances_are_those_of_the_table():
    rng = np.random.default_rng(0)
    for _ in range(300):
        kinds = rng.integers(1, 6)
        first, second = (rng.integers(kinds, size=rng.integers(0, 90)).tolist() for _ in range(2))
        assert edit_distance(first, second) == by_the_table(first, second)


def test_distances_of_texts_that_are_known():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance([7] * 400, [7] * 300) == 100
    assert mean_distance(["ab", "ab", "cd"]) == pytest.approx(4 / 3)


def entropies(n=400, seed=0):
    """Mostly 0, with jumps here and there, some of which last for two tokens."""
    rng = np.random.default_rng(seed)
    h = np.where(rng.random(n) < 0.25, rng.random(n), 0.0)
    h[1:] = np.where(rng.random(n - 1) < 0.3, 0.9 * h[:-1], h[1:])
    return h


def in_arm(places, arm):
    return [place.position for place in places if place.arm == arm]


def test_published_places_are_the_ends_of_the_order():
    h = entropies()
    jumps, places = EntropyJump(1)(h), published_places(h)
    inside = np.arange(20, 380)
    top, bottom = in_arm(places, JUMP), in_arm(places, STILL)
    assert len(top) == len(bottom) == MOST
    assert top[0] == inside[jumps[inside].argmax()]
    assert jumps[top].min() >= np.sort(jumps[inside])[-36]
    assert bottom == [at for at in np.flatnonzero(jumps == 0) if at >= 20][:1] + bottom[1:]
    assert all(place.pair is None for place in places)
    for arm in (top, bottom):
        assert all(abs(a - b) >= APART for a, b in itertools.combinations(arm, 2))


def test_mended_places_are_matched_and_their_ties_are_the_seeds():
    h = entropies()
    jumps = EntropyJump(1)(h)
    several = [mended_places(h, np.random.default_rng(seed)) for seed in range(40)]
    for places in several:
        first = in_arm(places, JUMP)
        assert first == in_arm(several[0], JUMP)
        assert (jumps[in_arm(places, STILL)] == 0).all()
        assert (jumps[in_arm(places, HIGH)] == 0).all()
        assert min(h[in_arm(places, HIGH)]) > h[20:380].mean()
        assert {place.arm for place in places} == set(MENDED)
        for place in places:
            assert place.pair in range(len(first))
            assert 20 <= place.position < 380
        for arm in MENDED:
            assert all(abs(a - b) >= APART for a, b in itertools.combinations(in_arm(places, arm), 2))
    assert len({tuple(in_arm(places, STILL)) for places in several}) > 30
    apart = [abs(p.position - in_arm(places, JUMP)[p.pair]) for places in several for p in places if p.arm == UNIFORM]
    assert np.mean(apart) < 30  # of 400 tokens: positions at random are a hundred and more apart


@pytest.mark.parametrize("choose", [published_places, lambda h: mended_places(h, np.random.default_rng(0))])
def test_the_shortest_text_has_a_place_at_least(choose):
    assert len(in_arm(choose(entropies(20)), JUMP)) == 1


RUN, LENGTH = 15, 61


def deciding(context):
    """Every RUN tokens a or b, with even odds, which is then repeated; at LENGTH tokens the end."""
    law, done = np.zeros(len(LETTERS)), context[1:]
    if len(done) == LENGTH - 1:
        law[0] = 1
    elif len(done) % RUN == 0:
        law[[1, 2]] = 0.5
    else:
        law[done[-1]] = 1
    return law


def measured(suffixes, prompts=8):
    engine = pc.TableEngine(deciding, 0, text=LetterText())
    sampler = pc.LowTemperature(temperature=1.0, max_new_tokens=LENGTH + 5, top_k=None)
    records = {}
    asyncio.run(
        measure_suffixes(
            engine,
            sampler,
            [np.array([8])] * prompts,
            suffixes,
            lambda _, text: text[-1:] or None,
            range(prompts),
            records.__setitem__,
        )
    )
    return [records[i] for i in range(prompts)]


def test_suffixes_part_at_decisions():
    records = measured(Suffixes(each=8, tokens=5, published=False, seed=1))
    for record in records:
        assert (record["length"], record["finished"]) == (LENGTH, True)
        for place in record["places"]:
            decides = place["position"] % RUN == 0
            assert (place["jump"] > 0) == decides
            assert (place["distance"] > 0) >= decides
            assert place["length"] <= 5
    assert all({p["position"] for p in r["places"] if p["arm"] == JUMP} == {15, 30, 45} for r in records)
    found = findings(records, Suffixes(8, 5, False, 1), "a table")
    rows = {row.fields[0]: row.fields for row in found.table.rows}
    assert list(rows) == list(MENDED)
    paired = found.sections[0].parts[1].table.rows
    still = next(row.fields for row in paired if row.fields[:2] == [STILL, "edit distance, tokens"])
    assert still[4:7] == ["8", "0", "8"]
    assert still[7] == "0.008"
    assert len(found.rows) == sum(len(record["places"]) for record in records)


def test_suffixes_to_the_end_reach_an_answer():
    records = measured(Suffixes(each=4, tokens=None, published=True, seed=2), prompts=3)
    for record in records:
        assert {place["arm"] for place in record["places"]} == {JUMP, STILL}
        assert all(place["finished"] == 1 and None not in place["answers"] for place in record["places"])
        assert all(place["length"] == LENGTH - place["position"] for place in record["places"])
    found = findings(records, Suffixes(4, None, True, 2), "a table")
    assert "ties decide" in found.says


def test_what_is_too_short_is_left_out_and_said():
    engine = pc.TableEngine(lambda context: [1.0] if len(context) > 9 else [0.0, 1.0], 0, text=LetterText())
    sampler, records = pc.LowTemperature(temperature=1.0, max_new_tokens=40, top_k=None), {}
    plan = Suffixes(4, 5, False, 0)
    work = measure_suffixes(engine, sampler, [np.array([8])], plan, lambda *_: None, [0], records.__setitem__)
    asyncio.run(work)
    assert records[0]["places"] == []
    found = findings([records[0]], plan, "a table")
    assert "Left out: 1 completions of fewer than 20 tokens" in found.sections[0].parts[0].caption
    assert found.rows == []


def test_what_a_study_may_cost():
    assert Suffixes(16, 192, False, 0).most_tokens(3072) == 3072 + 4 * 5 * 16 * 192
    assert Suffixes(16, None, True, 0).most_tokens(100) == 100 + 2 * 5 * 16 * 100


def test_the_sign_test():
    assert sign_test(8, 0) == pytest.approx(2 / 2**8)
    assert sign_test(0, 0) == 1
    assert sign_test(12, 5) == pytest.approx(scipy_stats.binomtest(12, 17).pvalue)
