"""Cells: what they ask, by problem and seed."""

import json

from powercut.evals.runs.benchmarks import load_benchmarks
from powercut.evals.runs.plan import Cell
from powercut.samplers import Standard


def cell(file, style, seeds=3):
    [bench] = load_benchmarks(["gpqa-diamond"], [str(file)], None, None)
    return Cell(bench, "m", "standard", Standard(), style, seeds)


def test_the_published_style_orders_choices_anew_for_each_seed(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = {"Correct Answer": "right"} | {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
    file.write_text("".join(json.dumps({"id": f"q{i}", "Question": f"Q{i}?"} | row) + "\n" for i in range(6)))
    for style, orders in (("chat", 1), ("paper", 3)):
        asked = cell(file, style)
        shown = [[asked.problem((f"q{i}", seed)) for i in range(6)] for seed in range(3)]
        assert len({tuple(problem.choices for problem in each) for each in shown}) == orders
        assert all(p.choices["ABCD".index(p.answer)] == "right" for each in shown for p in each)
        assert [[p.id for p in each] for each in shown] == [[f"q{i}" for i in range(6)]] * 3
    assert cell(file, "paper", 2).problem(("q3", 1)) == cell(file, "paper", 3).problem(("q3", 1))
