"""The pages of single completions that a report leads to."""

import os
import re
import shutil
import time
from urllib.parse import unquote

import pytest

from powercut.chains import read_chains
from powercut.cli import main
from powercut.evals.runs.step_file import StepFile
from powercut.records import step_file
from powercut.samplers import EntropyCut
from tests.report.example import comparison, write_run
from tests.view.recorded import recorded

CHAIN = EntropyCut(max_new_tokens=12, blocks=2, steps=3, alpha=3)


@pytest.fixture
def folder(tmp_path):
    """A run of two samplers, of one of which three completions have steps."""
    cells = [about for about in comparison(2, 2, models=("m",)) if about["task"] == "math500"]
    folder = write_run(tmp_path / "run", cells[:2])
    _, lines, _ = recorded(CHAIN, seed=3)
    for problem, seed in (("math500/1", 1), ("math500/0", 0), ("math500/1", 0)):
        save(step_file(folder / "cells" / cells[1]["cell"], problem, seed), lines)
    return folder


def save(path, lines):
    file = StepFile(path)
    for line in lines:
        file.add(line)
    file.keep()


def links(page):
    return [unquote(found) for found in re.findall(r'<a href="([^"]*)"', page.read_text())]


def test_the_report_leads_to_each_completion_that_has_steps(folder, capsys):
    assert main(["report", str(folder)]) == 0
    made = folder / "report"
    assert links(made / "report.html") == ["completions.html"]
    assert "No page shows single completions" not in (made / "report.html").read_text()
    table = (made / "completions.html").read_text()
    assert "3 of 8 completions have their steps in the run" in table
    pages = links(made / "completions.html")
    assert len(pages) == len(set(pages)) == 3
    for page, title in zip(pages, ("0, seed 0", "1, seed 0", "1, seed 1"), strict=True):
        assert f"<title>math500: math500/{title}, low-temperature</title>" in (made / page).read_text()
    rows = re.findall(r"<tr[^>]*><td.*?</tr>", table)
    assert [re.sub(r"<[^>]*>", " ", row).split()[:4] for row in rows] == [
        [f"math500/{problem}", "low-temperature", seed, verdict]
        for (problem, seed), verdict in zip(
            ((0, "0"), (1, "0"), (1, "1")), re.findall(r">(right|wrong)<", table), strict=True
        )
    ]
    err = capsys.readouterr().err
    assert err.endswith(f"wrote {made}/completions.html, which leads to 3 completions; 3 are new\n")


def test_pages_that_are_there_are_not_made_again(folder, capsys):
    assert main(["report", str(folder)]) == 0
    pages = sorted((folder / "report" / "completions").rglob("*.html"))
    before = [page.stat().st_mtime_ns for page in pages]
    steps = sorted(folder.glob("cells/*/steps/*"))[0]
    while time.time_ns() <= max(before):
        time.sleep(0.001)
    steps.touch()
    assert main(["report", str(folder)]) == 0
    after = [page.stat().st_mtime_ns for page in pages]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert capsys.readouterr().err.endswith("leads to 3 completions; 1 are new\n")


def test_pages_of_another_run_are_made_anew_however_new_they_are(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")  # with the times of the first
    _, lines, _ = recorded(CHAIN, seed=4)
    files = sorted(other.glob("cells/*/steps/*"))
    for file in files:
        times = file.stat()
        save(file, lines)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    out = tmp_path / "tables"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    pages = sorted((out / "completions").rglob("*.html"))
    before = [page.read_text() for page in pages]
    assert main(["report", str(other), "--out", str(out)]) == 0
    assert not set(before) & {page.read_text() for page in pages}
    assert capsys.readouterr().err.endswith("leads to 3 completions; 3 are new\n")
    files[0].write_bytes(files[0].read_bytes()[:-9])
    assert main(["report", str(folder), "--out", str(out)]) == 0
    assert [page.read_text() for page in pages] == before
    assert main(["report", str(other), "--out", str(out)]) == 0
    assert [page.exists() for page in pages] == [False, True, True]  # rather than the first run's


def test_of_two_runs_the_steps_are_those_of_the_result_that_counts(folder, tmp_path):
    later = shutil.copytree(folder, tmp_path / "later")
    without, *_ = sorted(later.glob("cells/*/steps/*"))
    without.unlink()
    main(["report", str(folder), str(later), "--out", str(tmp_path / "out")])
    assert len(links(tmp_path / "out" / "completions.html")) == 2
    main(["report", str(later), str(folder), "--out", str(tmp_path / "turned")])
    assert len(links(tmp_path / "turned" / "completions.html")) == 3


def test_pages_that_cannot_be_written_end_the_command_with_one_line(folder, capsys):
    (folder / "report").mkdir()
    (folder / "report" / "completions").write_text("a file")
    assert main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "note: no page" not in err
    assert re.search(r"\nerror: cannot write .*/report/completions/[^/]*: [^\n]*\n$", err)


def test_one_page_that_cannot_be_made_stops_no_other(folder, capsys):
    broken, *_ = sorted(folder.glob("cells/*/steps/*"))
    broken.write_bytes(broken.read_bytes()[:-9])
    assert main(["report", str(folder)]) == 0
    assert f"note: no page of {broken}: {broken} cannot be read" in capsys.readouterr().err
    assert len(list((folder / "report" / "completions").rglob("*.html"))) == 2


def test_without_steps_there_are_no_pages_and_the_report_says_so(tmp_path, capsys):
    folder = write_run(tmp_path / "run", comparison(2, 1, models=("m",))[:2])
    assert main(["report", str(folder)]) == 0
    report = (folder / "report" / "report.html").read_text()
    assert "No page shows single completions: powercut eval --save-trace keeps their steps." in report
    assert links(folder / "report" / "report.html") == []
    assert "completions" not in capsys.readouterr().err
    assert not (folder / "report" / "completions.html").exists()


def test_only_the_page_has_links(folder):
    assert main(["report", str(folder), "--format", "md", "--format", "csv"]) == 0
    assert sorted(file.name for file in (folder / "report").iterdir()) == ["report.md", "results.csv"]


def test_an_evaluation_s_steps_are_seen(tmp_path, engine, capsys):
    run = ["arithmetic", "--limit", "2", "--max-new-tokens", "8", "--blocks", "2", "--steps", "2", "--quiet"]
    out = tmp_path / "run"
    assert main(["eval", *run, "--save-trace", "--out", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    pages = links(out / "report" / "completions.html")
    assert len(pages) == 2
    steps = sorted(out.glob("cells/*/steps/*.jsonl.gz"))
    for file in steps:
        [chain] = read_chains(file).by_place.values()
        assert chain.completed is not None
    assert main(["view", str(steps[0])]) == 0
    page = steps[0].with_name(steps[0].name.removesuffix(".jsonl.gz") + ".html")
    assert page.exists()
    capsys.readouterr()
    assert main(["view", str(out)]) == 2
    assert "is a folder" in capsys.readouterr().err
