"""``powercut report`` as a user calls it."""

import re
import subprocess
import sys

import pytest

from powercut.cli import main
from tests.report.example import about_cell, comparison, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", comparison(6, 2, models=("m",))[:3])


def test_writes_three_files_and_prints_the_table(folder, capsys):
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0][:4] == ["task", "sampler", "accuracy, %", "pass@n"]
    assert [line[:2] for line in lines[1:]] == [["math500", s] for s in ("standard", "low-temperature", "best-of-n")]
    made = folder / "report"
    assert sorted(file.name for file in made.iterdir()) == ["report.html", "report.md", "results.csv"]
    assert err == f"wrote {made}/report.md, {made}/results.csv, {made}/report.html\n"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_on_a_terminal_shows_the_columns_that_fit(folder, capsys, monkeypatch, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["report", str(folder), "--format", "csv"]) == 0
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert "\t" not in out
    assert "…" not in out
    assert "low-temperature" in out
    assert "accuracy, %" in out
    assert ("finished" in out) == (width == 200)
    assert max(map(len, out.splitlines())) <= width


def test_format_and_out(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--out", str(tmp_path / "a" / "b"), "--format", "md", "--format", "csv"]) == 0
    assert sorted(file.name for file in (tmp_path / "a" / "b").iterdir()) == ["report.md", "results.csv"]
    assert not (folder / "report").exists()
    capsys.readouterr()


def test_several_runs_make_one_report(folder, tmp_path, capsys):
    other = write_run(tmp_path / "other", comparison(6, 2, models=("rl",))[:3])
    assert main(["report", str(folder), str(other), "--format", "md"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("model\t")
    assert "wrote " + str(folder / "report" / "report.md") in err
    text = (folder / "report" / "report.md").read_text()
    assert "# Power sampling: m, rl" in text
    assert "standard, rl" in text  # tested against the other model's standard sampling


def test_a_run_still_being_written_is_reported_with_a_note(folder, capsys):
    file = next(folder.glob("cells/*standard*/results.jsonl"))
    file.write_bytes(file.read_bytes()[:-30])
    assert main(["report", str(folder)]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"note: {file}: the last line is torn (the run goes on, or was killed); left out"
    assert "is not finished: 11 of 12 completions" in err[1]
    for name in ("report.md", "report.html"):
        assert "11 of 12 completions" in (folder / "report" / name).read_text()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "is not a run: it is no folder"),
        (lambda path: path.mkdir(), "is not a run: it has no run.json; give the folder that powercut eval wrote"),
        (lambda path: write_run(path, []), "has no results yet"),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path, capsys, make, text):
    make(tmp_path / "x")
    assert main(["report", str(tmp_path / "x")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {tmp_path / 'x'} ")
    assert text in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x" / "report").exists()


def test_bad_flags(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--format", "pdf"]) == 2
    assert capsys.readouterr().err == "error: --format must be one of md, csv, html (got 'pdf')\n"
    (tmp_path / "file").write_text("")
    assert main(["report", str(folder), "--out", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert "low-temperature" in out  # the table is shown all the same
    assert err == f"error: --out: cannot write {tmp_path / 'file'}: File exists\n"


def test_a_missing_library_is_named_with_its_remedy(folder, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "powercut.report", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in [name for name in sys.modules if name.startswith("powercut.report.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["report", str(folder)]) == 2
    assert capsys.readouterr().err == "error: powercut report needs jinja2: pip install 'powercut[report]'\n"


def test_a_reader_that_goes_away_does_not_cost_the_files(tmp_path):
    folder = write_run(tmp_path / "run", [about_cell("t", "m", "standard", {}, 2, 1)])
    code = "import sys; from powercut.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "report", str(folder), "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert b"Traceback" not in error
    assert (folder / "report" / "results.csv").exists()
