"""The tree: the lumped chain is the product's own kernel, enumerated; the bounds hold; the report's integers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from powercut.errors import SettingError
from powercut.samplers import EntropyCut, UniformCut
from powercut.study.exact import enumerate_completions, kernel_matrix, procedure_law
from powercut.study.tree import early_answer
from powercut.study.tree.cases import LAWS, Case, default_cases, grid_cases, parse_law
from powercut.study.tree.chain import (
    distance,
    lower_bound,
    make_chain,
    mixing_time,
    relaxation_time,
    staged_law,
    upper_bound,
)
from powercut.study.tree.leaves import Leaves
from powercut.study.tree.report import findings
from powercut.study.tree.trees import TARGETS, binary_of_entropy, make_tree
from powercut.study.tree.whole_text import whole_text_mixing_time

ALPHA = 4.0
PROMPT = (3,)
LAW_NAMES = ("4", "1", "uniform", "4+0.1", "1+0.1")


def as_table(tree):
    """The tree as a model: its branches and the values of details are tokens 1 and 2, and no token stops."""

    def probs(context):
        done = context[len(PROMPT) :]
        branches = tuple(done[d] - 1 for d in tree.decisions if d < len(done))
        position, out = len(done), np.zeros(3)
        law = tree.law(branches) if position in tree.decisions else tree.detail(branches, position)
        out[1:] = (1, 0) if law is None else law
        return out

    return probs


def sampler(law, **options):
    options |= {"alpha": ALPHA, "top_k": None}
    if law == "uniform":
        return UniformCut(**options)
    beta, _, mix = law.partition("+")
    return EntropyCut(beta=float(beta), uniform_mix=float(mix or 0), **options)


def leaf_of(tree, completions):
    """The number of each completion's leaf."""
    return np.array([int("".join(str(x[d] - 1) for d in tree.decisions), 2) for x in completions])


SMALL = {
    "independent": make_tree("independent", 2, 8, details=0.3, every=2),
    "closing": make_tree("independent", 2, 8, "closing", details=0.3, every=2),
    "timid-root": make_tree("timid-root", 2, 8, details=0.2),
    "early": make_tree("independent", 3, 7, "early", details=0.3, every=2),
    "late": make_tree("independent", 3, 7, "late", details=0.3, every=2),
    "root-pivot": make_tree("root-pivot", 2, 26),
    "all-pivot": make_tree("all-pivot", 2, 14),
    "two-modes": make_tree("two-modes", 3, 15),
    "late-evidence": make_tree("late-evidence", 2, 26),
}


@pytest.mark.parametrize("law", LAW_NAMES)
@pytest.mark.parametrize("name", SMALL)
def test_the_chain_on_leaves_is_the_products_kernel_lumped(name, law):
    tree = SMALL[name]
    space = enumerate_completions(as_table(tree), PROMPT, tree.tokens, 1 / ALPHA)
    full = kernel_matrix(space, sampler(law, max_new_tokens=tree.tokens, blocks=1))
    leaf, leaves = leaf_of(tree, space.completions), Leaves(tree, ALPHA)
    chain, pi = make_chain(leaves, parse_law(law)), space.power(ALPHA)
    lumped = np.stack([full[:, leaf == j].sum(1) for j in range(len(leaves.pi))], 1)
    np.testing.assert_allclose(lumped, chain.steps[leaf], rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.bincount(leaf, pi), leaves.pi, rtol=0, atol=1e-12)
    np.testing.assert_allclose(leaves.pi @ chain.steps, leaves.pi, rtol=0, atol=1e-12)
    assert chain.mean(chain.changed) == pytest.approx(pi @ (1 - np.diag(full)), abs=1e-12)


@pytest.mark.parametrize("law", ["4", "uniform"])
def test_a_staged_law_is_that_of_the_products_procedure(law):
    tree = make_tree("all-pivot", 2, 14)
    cuts = sampler(law, max_new_tokens=14, blocks=2, steps=2)
    spaces = [enumerate_completions(as_table(tree), PROMPT, horizon, 1 / ALPHA) for horizon in cuts.horizons]
    enumerated = np.bincount(leaf_of(tree, spaces[-1].completions), procedure_law(spaces, cuts))
    staged = staged_law(tree, parse_law(law), ALPHA, 2, 2)
    np.testing.assert_allclose(staged.law, enumerated, rtol=0, atol=1e-12)
    assert staged.distance == pytest.approx(distance(enumerated, Leaves(tree, ALPHA).pi), abs=1e-12)


@pytest.mark.parametrize("law", LAW_NAMES)
@pytest.mark.parametrize("layout", ["opening", "closing"])
def test_mixing_of_whole_texts_is_that_of_the_enumerated_kernel(law, layout):
    tree = make_tree("independent", 2, 8, layout, details=0.3, every=2)
    space = enumerate_completions(as_table(tree), PROMPT, tree.tokens, 1 / ALPHA)
    full = kernel_matrix(space, sampler(law, max_new_tokens=tree.tokens, blocks=1))
    pi, law_after, steps = space.power(ALPHA), full, 1
    while distance(law_after, pi) > 0.25:
        law_after, steps = law_after @ full, steps + 1
    assert whole_text_mixing_time(Leaves(tree, ALPHA), parse_law(law)) == steps


@pytest.mark.parametrize("target", TARGETS)
def test_the_bounds_hold_and_the_mixing_time_is_the_least(target):
    for k, layout, law, alpha in itertools.product((1, 3), ("opening", "15"), LAW_NAMES, (1.5, 4.0)):
        chain = make_chain(Leaves(make_tree(target, k, 32 * k, layout), alpha), parse_law(law))
        steps, pi = mixing_time(chain), chain.leaves.pi
        assert lower_bound(chain) <= steps <= upper_bound(chain)
        assert distance(np.linalg.matrix_power(chain.steps, steps), pi) <= 0.25
        assert steps == 1 or distance(np.linalg.matrix_power(chain.steps, steps - 1), pi) > 0.25
        assert relaxation_time(chain) >= 1 - 1e-12


def steps_of(target, tokens, law, **options):
    return Case(section="", target=target, tokens=tokens, law=law, **options).measure()["mixing_time"]


@pytest.mark.parametrize(
    ("target", "options", "entropy", "uniform"),
    [
        ("independent", {"tokens": 256}, 3, 178),
        ("independent", {"tokens": 1024}, 3, 710),
        ("independent", {"tokens": 256, "layout": "closing"}, 3, 3),
        ("root-pivot", {"tokens": 64}, 50, 516),
        ("root-pivot", {"tokens": 256}, 50, 2063),
        ("root-pivot", {"tokens": 1024}, 50, 8254),
        ("root-pivot", {"tokens": 256, "layout": "closing"}, 50, 32),
        ("root-pivot", {"tokens": 256, "layout": "63"}, 50, 32),
        ("timid-root", {"tokens": 256}, 619, 355),
        ("all-pivot", {"tokens": 512, "k": 8}, 2018, 40063),
        ("root-pivot", {"tokens": 64, "details": 0.5}, 82, 516),
        ("root-pivot", {"tokens": 4096, "details": 0.5}, 2557, 33016),
    ],
)
def test_steps_to_mix(target, options, entropy, uniform):
    assert steps_of(target, law="4", **options) == entropy
    assert steps_of(target, law="uniform", **options) == uniform


def test_steps_to_mix_with_other_laws():
    assert steps_of("timid-root", 256, "1") == 16
    text = {"target": "independent", "layout": "closing", "tokens": 64, "details": 0.1, "whole_text": True}
    found = {law: Case(section="", law=law, **text).measure() for law in ("4", "4+0.1", "uniform")}
    assert {law: record["whole_text_mixing_time"] for law, record in found.items()} == {
        "4": 6886,
        "4+0.1": 285,
        "uniform": 29,
    }


def test_bounds_of_the_root_pivot():
    def bounds(layout, law):
        record = Case(section="", target="root-pivot", layout=layout, law=law).measure()
        return round(record["lower_bound"], 1), record["upper_bound"]

    assert bounds("0", "4") == (48.1, 51)
    assert bounds("0", "uniform") == (2009.2, 2101)
    assert bounds("63", "uniform") == (30.8, 33)


def test_stages_help_where_consequences_show_early_and_hurt_where_late():
    def apart(target, blocks):
        stages = {"k": 8, "tokens": 2048, "blocks": blocks, "steps": 160 // blocks}
        return round(Case(section="", target=target, **stages).measure()["staged_distance"], 3)

    assert [apart("root-pivot", 1), apart("root-pivot", 16)] == [0.064, 0.006]
    assert [apart("late-evidence", 1), apart("late-evidence", 16)] == [0.064, 0.692]


def test_early_answers():
    ways = {way["what"]: way for way in early_answer.measure(ALPHA)}
    assert ways["the target itself"]["short"] == pytest.approx(0.51, abs=5e-3)
    for cuts in ("entropy cuts", "uniform cuts"):
        published = ways[f"{cuts}, published step, 10,000 steps"]
        assert (round(published["distance"], 2), published["short"]) == (0.69, pytest.approx(1))
        assert ways[f"{cuts}, exact step, 10,000 steps"]["distance"] < 1e-12
    expected = {
        "entropy cuts, 5 × 8 steps, stops when finished": (0.42, 0.93),
        "uniform cuts, 5 × 8 steps, stops when finished": (0.23, 0.74),
        "entropy cuts, 5 × 8 steps, goes on when finished": (0.0, 0.51),
        "uniform cuts, 5 × 8 steps, goes on when finished": (0.016, 0.494),
    }
    for name, (apart, short) in expected.items():
        assert ways[name]["distance"] == pytest.approx(apart, abs=5e-3)
        assert ways[name]["short"] == pytest.approx(short, abs=5e-3)


def test_acceptance_says_nothing_of_mixing():
    entropy, uniform = (Case(section="", target="root-pivot", law=law).measure() for law in ("4", "uniform"))
    assert entropy["acceptance"] == pytest.approx(0.81, abs=5e-3)
    assert uniform["acceptance"] == pytest.approx(0.997, abs=5e-4)
    assert entropy["tokens_per_step"] == pytest.approx(158, abs=0.5)
    assert entropy["tokens_per_relaxation"] == pytest.approx(5800, abs=50)
    assert uniform["tokens_per_relaxation"] == pytest.approx(195_000, abs=500)
    assert uniform["changed_first"] < entropy["changed_first"] / 30


def test_a_detail_of_some_entropy():
    for nats in (0.05, 0.3, 0.6):
        p = np.array(binary_of_entropy(nats))
        assert -(p * np.log(p)).sum() == pytest.approx(nats, abs=1e-12)


def test_every_case_has_a_key_of_its_own_and_its_place_in_the_report():
    cases = list(default_cases(LAWS, ALPHA))
    assert len({case.key for case in cases}) == len(cases)
    small = [replace(case, tokens=256, k=4) if case.section == "stages" else case for case in cases]
    found = findings([case.measure() for case in small if getattr(case, "tokens", 0) <= 256])
    assert len(found.sections) == 7
    assert all(part.caption and part.table.rows for section in found.sections for part in section.parts)


GRID = {
    "targets": ["root-pivot"],
    "layouts": ["opening"],
    "decisions": [4],
    "tokens": [256],
    "details": [0.0],
    "laws": ["4"],
    "alpha": 4.0,
    "blocks": [0],
    "steps": 10,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ["oak"]}, "--target must be one of independent, timid-root, "),
        ({"layouts": ["middle"]}, "--layout must be one of opening, closing, early, late, or the first decision's "),
        ({"layouts": ["253"]}, "at most 252 (got '253')"),
        ({"decisions": [11]}, "--decisions 11 with --tokens 256 is too large"),
        ({"decisions": [8], "tokens": [20_000]}, "--decisions 8 with --tokens 20000 is too large"),
        ({"decisions": [4], "tokens": [3]}, "--decisions must be from 1 to --tokens, here 3 (got 4)"),
        ({"tokens": [16]}, "root-pivot has details of its own, for which 16 tokens are too few: raise --tokens"),
        ({"details": [0.7]}, "--details must be nats from 0 to 0.69"),
        ({"laws": ["4+2"]}, "--law must be uniform, a beta such as 4, or 4+0.1"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(change, message):
    with pytest.raises(SettingError) as error:
        grid_cases(**(GRID | change))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
