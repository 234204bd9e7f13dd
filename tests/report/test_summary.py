"""What a report says: names, means, tests, matched compute, ablations."""

import numpy as np
import pytest

from powercut.report.read import read_runs
from powercut.report.summary import summarise
from tests.report.example import SHARED, ablation, about_cell, comparison, write_run

RL = "rl/Qwen-7B-GRPO"


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"), comparison(30, 4), skills={RL: 0.8})
    return summarise(read_runs([folder])[0])


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    return summarise(read_runs([write_run(tmp_path_factory.mktemp("run"), ablation(20, 2))])[0])


def one_task(tmp_path, *cells):
    return summarise(read_runs([write_run(tmp_path / "run", cells)])[0])


def labels(summary, task):
    return [entry.label for entry in summary.tasks[task]]


def test_names_and_order(two_models, varied):
    assert list(two_models.tasks) == ["humaneval", "math500"]
    assert two_models.models == ["Qwen-7B", "Qwen-7B-GRPO"]
    assert labels(two_models, "math500")[:3] == ["standard", "low-temperature", "entropy-cut"]
    assert labels(varied, "gsm8k")[2:] == [
        *(f"entropy-cut (α={alpha}, steps=10)" for alpha in (1, 2)),
        *(f"entropy-cut (α=4, steps={steps})" for steps in (2, 5, 10, 20)),
        "entropy-cut (α=8, steps=10)",
        "best-of-n",
    ]


def test_models_of_the_same_last_name_keep_their_whole_names(tmp_path):
    cells = [about_cell("t", f"{owner}/Q", "standard", {}, 3, 1) for owner in "ab"]
    assert one_task(tmp_path, *cells).models == ["a/Q", "b/Q"]


def test_cells_that_nothing_shown_tells_apart_are_numbered(tmp_path):
    cells = [about_cell("t", "m", "standard", {}, 3, 1) for _ in range(2)]
    cells[1]["cell"] = "t--m--standard--0123abcd"
    assert "standard #0123abcd" in labels(one_task(tmp_path, *cells), "t")


def test_prompt_styles_tell_cells_apart(tmp_path):
    cells = [about_cell("t", "m", "standard", {}, 3, 1) for _ in range(2)]
    cells[1] |= {"cell": "t--m--standard--0123abcd", "prompt_style": "base"}
    assert sorted(labels(one_task(tmp_path, *cells), "t")) == [
        "standard (prompt style=base)",
        "standard (prompt style=chat)",
    ]


def test_figures_are_means_over_problems(two_models):
    entry = two_models.tasks["math500"][2]
    cell = entry.cell
    shares = [cell.correct[cell.problem == i].mean() for i in range(30)]
    assert entry.accuracy.value == pytest.approx(np.mean(shares))
    assert entry.means["logp"] == pytest.approx(cell.measures["logp"].mean())  # as many completions of every problem
    assert entry.means["log_z"] != entry.means["log_z"]
    assert [len(entry.pass_at), entry.problems, entry.completions, entry.errors] == [4, 30, 120, 0]
    assert entry.pass_at[0].value == pytest.approx(entry.accuracy.value)
    assert entry.pass_at[3].value == np.mean([share > 0 for share in shares])
    assert all(share.low <= share.value <= share.high for share in entry.pass_at)


def test_each_sampler_is_tested_against_the_baselines(two_models):
    pairs = [
        (t.entry.model, t.entry.label, t.baseline.model, t.baseline.label)
        for t in two_models.tests
        if t.entry.facts.task == "math500"
    ]
    base, rl = two_models.models
    assert len(pairs) == len({frozenset((pair[:2], pair[2:])) for pair in pairs})
    assert (base, "low-temperature", base, "standard") in pairs
    assert (base, "entropy-cut", base, "low-temperature") in pairs
    assert (base, "entropy-cut", rl, "standard") in pairs
    assert (rl, "standard", base, "standard") in pairs
    assert not any(label == "standard" and other == "low-temperature" for _, label, _, other in pairs)
    assert all(test.adjusted >= test.result.p for test in two_models.tests)


def test_the_baseline_with_the_same_settings_is_taken(tmp_path):
    cells = [
        about_cell("t", "m", sampler, {**SHARED, "alpha": alpha, **more}, 4, 1)
        for sampler, more in (("low-temperature", {}), ("entropy-cut", {"steps": 10}))
        for alpha in (2.0, 4.0)
    ]
    found = {(test.entry.label, test.baseline.label) for test in one_task(tmp_path, *cells).tests}
    assert found == {(f"entropy-cut (α={a})", f"low-temperature (α={a})") for a in (2, 4)}


def test_tests_are_over_the_problems_that_both_have(tmp_path):
    cells = [about_cell("t", "m", "standard", {}, 8, 2), about_cell("t", "m", "entropy-cut", {"steps": 10}, 5, 2)]
    [test] = one_task(tmp_path, *cells).tests
    assert test.result.problems == 5


def test_best_of_n_stands_beside_the_sampler_of_its_cost(two_models):
    assert len(two_models.matches) == 4
    for match in two_models.matches:
        assert match.matched.label in ("entropy-cut", "uniform-cut")
        costs = [entry.means["tokens_decoded"] for entry in (match.entry, match.matched)]
        assert match.ratio == pytest.approx(costs[0] / costs[1])
        assert 0.8 < match.ratio < 1.25


def test_best_of_n_stands_beside_the_cell_that_it_names(tmp_path):
    cuts = [about_cell("t", "m", "uniform-cut", {"alpha": alpha, "steps": 40}, 4, 1) for alpha in (2.0, 4.0)]
    best = [about_cell("t", "m", "best-of-n", {"n": None}, 4, 1, matched=cut["cell"]) for cut in cuts]
    best[1]["cell"] = "t--m--best-of-n--0123abcd"
    summary = one_task(tmp_path, *cuts, *best, about_cell("t", "m", "entropy-cut", {"steps": 10}, 4, 1))
    assert [(match.entry.label, match.matched.label) for match in summary.matches] == [
        (f"best-of-n (matched=uniform-cut α={alpha})", f"uniform-cut (α={alpha})") for alpha in (2, 4)
    ]
    assert all(match.ratio < 0.4 for match in summary.matches)


def test_ablations_vary_one_setting(varied):
    found = {ablation.setting: ablation for ablation in varied.ablations}
    assert set(found) == {"alpha", "steps"}
    assert found["alpha"].values == [1, 2, 4, 8]
    assert found["alpha"].fixed == "entropy-cut (steps=10)"
    assert found["steps"].values == [2, 5, 10, 20]
    assert found["steps"].fixed == "entropy-cut (α=4)"
    for one in found.values():
        for value, entry in zip(one.values, one.entries, strict=True):
            assert entry.facts.settings[one.setting] == value


def test_settings_that_change_together_are_no_ablation(tmp_path):
    cells = [about_cell("t", "m", "entropy-cut", {"alpha": a, "steps": s}, 3, 1) for a, s in ((2.0, 5), (4.0, 10))]
    assert one_task(tmp_path, *cells).ablations == []
