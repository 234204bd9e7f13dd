"""Run folders: what is read, and what is said of those that are broken, or not finished."""

import json
import shutil

import numpy as np
import pytest

from powercut.errors import SettingError
from powercut.report.read import read_runs as read_all
from tests.report.example import about_cell, write_cell, write_run


def read_runs(folders):
    cells, _, notes = read_all(folders)
    return cells, notes


def run(folder, **more):
    return write_run(folder, [about_cell("math500", "m", "standard", {"top_k": 50}, 3, 2, **more)])


def results(folder):
    return next(folder.glob("cells/*/results.jsonl"))


def test_columns(tmp_path):
    [cell], notes = read_runs([run(tmp_path / "run", data={"sha256": "abc"})])
    assert notes == []
    facts = cell.facts
    assert (facts.task, facts.model, facts.sampler, facts.settings) == ("math500", "m", "standard", {"top_k": 50})
    assert (cell.expected, facts.data) == (6, {"sha256": "abc"})
    assert cell.ids == ("math500/0", "math500/1", "math500/2")
    assert cell.problem.tolist() == [0, 0, 1, 1, 2, 2]
    rows = [json.loads(line) for line in results(tmp_path / "run").read_text().splitlines()]
    assert cell.correct.tolist() == [row["correct"] for row in rows]
    assert cell.measures["logp"].tolist() == [row["logp"] for row in rows]
    assert np.isnan(cell.measures["acceptance"]).all()
    assert cell.measures["finished"].tolist() == [row["finished"] for row in rows]


def test_means_by_problem_leave_out_what_is_missing(tmp_path):
    [cell], _ = read_runs([run(tmp_path / "run")])
    assert cell.by_problem(np.array([1, 2, np.nan, 4, np.nan, np.nan])) == pytest.approx([1.5, 4, np.nan], nan_ok=True)
    assert cell.by_problem(np.array([True, False, True, True, False, False])).tolist() == [0.5, 1, 0]


def test_strict_json_spells_infinities_as_strings(tmp_path):
    folder = run(tmp_path / "run")
    line = {"id": 7, "correct": False, "logp": "-inf", "log_z": 3, "text": "x", "new": [1]}
    results(folder).write_text(json.dumps(line) + "\n")
    [cell], notes = read_runs([folder])
    assert (cell.measures["logp"].tolist(), cell.ids) == ([-np.inf], (7,))
    assert len(notes) == 1
    assert "1 of 6 completions" in notes[0]


def test_a_failed_completion_is_wrong(tmp_path):
    folder = run(tmp_path / "run")
    lines = [{"id": i, "correct": True, "error": error} for i, error in enumerate([None, "out of memory"])]
    results(folder).write_text("".join(json.dumps(line) + "\n" for line in lines))
    [cell], _ = read_runs([folder])
    assert cell.correct.tolist() == [True, False]
    assert cell.failed.tolist() == [False, True]


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_torn_last_line_is_left_out(tmp_path, keep):
    folder = run(tmp_path / "run")
    file = results(folder)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:keep])
    [cell], notes = read_runs([folder])
    assert len(cell.problem) == 5
    assert [note for note in notes if "torn" in note] == [
        f"{file}: the last line is torn (the run goes on, or was killed); left out"
    ]
    assert "5 of 6 completions" in notes[-1]


def test_a_whole_last_line_without_its_end_counts(tmp_path):
    folder = run(tmp_path / "run")
    results(folder).write_bytes(results(folder).read_bytes()[:-1])
    [cell], notes = read_runs([folder])
    assert (len(cell.problem), notes) == (6, [])


def test_bad_lines_are_one_note_with_their_place(tmp_path):
    folder = run(tmp_path / "run")
    file = results(folder)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], '{"id": "x"}\n', "\n", *lines[2:], "\x00\x00\n", "[1]\n"]))
    [cell], notes = read_runs([folder])
    assert len(cell.problem) == 6
    [note] = notes
    assert note.startswith(f"{file}:3 is no result: it has no correct; left out")
    assert note.endswith("left out, and 2 more such lines")


def test_of_two_with_the_same_problem_and_seed_the_later_counts(tmp_path):
    folder = run(tmp_path / "run")
    lines = [{"id": "a", "seed": 1, "correct": correct} for correct in (False, True)]
    results(folder).write_text("".join(json.dumps(line) + "\n" for line in lines))
    [cell], notes = read_runs([folder])
    assert cell.correct.tolist() == [True]
    assert "1 completions come twice" in notes[0]


def test_a_cell_of_two_runs_has_the_completions_of_both(tmp_path):
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    lines = [{"id": f"math500/{i}", "seed": 9, "correct": True} for i in range(3)]
    results(second).write_text("".join(json.dumps(line) + "\n" for line in lines))
    [cell], _ = read_runs([first, second])
    assert (len(cell.problem), len(cell.ids)) == (9, 3)
    assert list(cell.folders) == [results(first).parent] * 6 + [results(second).parent] * 3


def test_a_broken_cell_costs_only_itself(tmp_path):
    cells = [about_cell("math500", "m", sampler, {}, 3, 2) for sampler in ("standard", "low-temperature", "smc")]
    folder = write_run(tmp_path / "run", cells[:2])
    (folder / "cells" / cells[0]["cell"] / "cell.json").write_text('{"task": "math500", "model": 3}')
    write_cell(folder, cells[2], [])
    found, notes = read_runs([folder])
    assert [cell.facts.sampler for cell in found] == ["low-temperature"]
    file = folder / "cells" / cells[0]["cell"] / "cell.json"
    assert notes[0] == f"a cell is left out: {file} cannot be read: model must be a text (it is 3)"
    assert notes[1] == f"no results yet of {cells[2]['cell']}"


def test_what_is_not_a_run(tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(SettingError, match=r"plain is not a run: it has no run\.json; give the folder that"):
        read_runs([tmp_path / "plain"])
    with pytest.raises(SettingError, match="nowhere is not a run: it is no folder"):
        read_runs([tmp_path / "nowhere"])
    (tmp_path / "plain" / "run.json").write_text("{")
    with pytest.raises(SettingError, match=r"plain/run\.json cannot be read: Expecting property name"):
        read_runs([tmp_path / "plain"])


def test_an_empty_run_and_a_newer_one(tmp_path):
    folder = write_run(tmp_path / "run", [])
    with pytest.raises(SettingError, match="run has no results yet"):
        read_runs([folder])
    (folder / "run.json").write_text('{"format": 99}')
    message = r"run\.json has format 99, and this powercut reads up to 1: update powercut"
    with pytest.raises(SettingError, match=message):
        read_runs([folder])


def test_why_there_are_no_results_is_told(tmp_path):
    folder = run(tmp_path / "run")
    file = results(folder)
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingError, match=r"run has no results yet: .*results\.jsonl cannot be read: Is a directory"):
        read_runs([folder])
    shutil.rmtree(folder / "cells")
    (folder / "cells").write_text("")
    with pytest.raises(SettingError, match=r"run has no results yet: .*cells cannot be read: Not a directory"):
        read_runs([folder])


def test_many_unfinished_cells_are_one_note(tmp_path):
    cells = [about_cell(f"t{i}", "m", "standard", {}, 3, 2) for i in range(12)]
    folder = write_run(tmp_path / "run", cells)
    for at, file in enumerate(folder.glob("cells/*/results.jsonl")):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:4] if at < 6 else []))
    assert read_runs([folder])[1] == ["6 cells are not finished: 24 of 36 completions", "no results yet of 6 cells"]
