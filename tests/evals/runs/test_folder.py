"""The run folder: nothing finished is lost or read twice, whatever ends a process."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from filelock import FileLock

from powercut.durable import Lines
from powercut.errors import PowercutError, SettingError
from powercut.evals.runs.folder import RunFolder
from powercut.evals.runs.provenance import provenance
from powercut.records import CellFacts, Result, RunFacts

FACTS = CellFacts(task="t", model="m", sampler="s", settings={}, seeds=(0, 1), problems=2)
KEYS = frozenset((problem, seed) for problem in "ab" for seed in (0, 1))


def result(problem="a", seed=0, *, error=None, **fields):
    return Result(id=problem, seed=seed, correct=True, error=error, text="é\n\udc80", **fields)


@pytest.fixture
def run(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        yield folder


def open_cell(folder, facts=FACTS, keys=KEYS):
    return folder.cell(facts, "cell", keys)


def results(folder):
    return folder.path / "cells" / "cell" / "results.jsonl"


def add(cell, *rows):
    for each in rows:
        asyncio.run(cell.add_completion(replace(each, correct=None)))
        asyncio.run(cell.add_result(each))


def test_what_was_added_is_found_again(run):
    add(open_cell(run), result("a", 0, logp=float("-inf")), result("b", 1))
    again = open_cell(run)
    assert again.done.keys() == {("a", 0), ("b", 1)}
    assert again.done["a", 0].logp == float("-inf")
    assert not again.sampled
    assert json.loads(results(run).read_text().splitlines()[0])["text"] == "é\n\udc80"


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(run, kept):
    add(open_cell(run), result("a", 0))
    whole = results(run).read_bytes()
    results(run).write_bytes(whole + whole[:kept])
    cell = open_cell(run)
    assert cell.done.keys() == {("a", 0)}
    add(cell, result("b", 0))
    assert open_cell(run).done.keys() == {("a", 0), ("b", 0)}
    assert results(run).read_bytes().startswith(whole)


def test_a_broken_line_before_the_last_is_named(run):
    add(open_cell(run), result("a", 0), result("a", 1))
    first, second = results(run).read_bytes().splitlines(keepends=True)
    results(run).write_bytes(first[:20] + b"\n" + second)
    with pytest.raises(SettingError, match=r"results.jsonl:1 is no result .*: delete the line, and its completion"):
        open_cell(run)
    assert results(run).read_bytes() == first[:20] + b"\n" + second


def test_a_completion_that_is_not_graded_yet_is_kept(run):
    cell = open_cell(run)
    asyncio.run(cell.add_completion(Result(id="a", seed=0, text="4")))
    add(cell, result("b", 0))
    again = open_cell(run)
    assert again.sampled["a", 0].text == "4"
    assert again.sampled.keys() == {("a", 0)}
    asyncio.run(again.add_result(result("a", 0)))
    again.close()
    assert not (run.path / "cells" / "cell" / "completions.jsonl").exists()


def test_what_is_being_written_is_kept_although_nobody_waits_for_it(run, monkeypatch):
    go = threading.Event()
    append = Lines.append

    def slow(self, record):
        go.wait(timeout=60)
        append(self, record)

    async def cancelled(cell):
        working = [asyncio.ensure_future(cell.add_completion(Result(id=each, text="x"))) for each in "abcdef"]
        await asyncio.sleep(0)
        for work in working:
            work.cancel()
        return await asyncio.gather(*working, return_exceptions=True)

    cell = open_cell(run)
    add(cell, result("a", 1))
    monkeypatch.setattr(Lines, "append", slow)
    assert {type(each) for each in asyncio.run(cancelled(cell))} == {asyncio.CancelledError}
    threading.Timer(0.05, go.set).start()
    cell.close()
    assert set(cell.sampled) == set(open_cell(run).sampled) == {(each, 0) for each in "abcdef"}


def test_what_failed_is_tried_again_and_a_text_is_not_sampled_again(run):
    cell = open_cell(run)
    asyncio.run(cell.add_result(result("a", 0, error="the model returned NaN")))
    add(cell, result("b", 0), result("b", 1, error="the grader broke"))
    again = open_cell(run)
    assert again.done.keys() == {("b", 0)}
    assert again.sampled.keys() == {("b", 1)}
    assert results(run).read_text().count("\n") == 1


def test_grades_are_taken_away_and_completions_kept(run):
    add(open_cell(run), result("a", 0, answer="7"), result("a", 1, reason="no"), result("b", 0, error="down"))
    add(open_cell(run, keys=KEYS | {("c", 0)}), result("c", 0))
    cell = run.cell(FACTS, "cell", KEYS, regrade=True)
    kept = {("a", 0), ("a", 1), ("b", 0)}  # the last waits for its grade anyhow
    assert cell.sampled.keys() == kept
    assert cell.done.keys() == {("c", 0)}  # not asked for
    assert cell.sampled["a", 0] == replace(result("a", 0), correct=None)
    for again in (cell, open_cell(run)):  # a kill now loses no text
        assert again.sampled.keys() == kept
    asyncio.run(again.add_result(replace(again.sampled["a", 1], correct=False)))
    again.close()
    assert {key: each.correct for key, each in open_cell(run).done.items()} == {("c", 0): True, ("a", 1): False}


def test_what_failed_and_is_not_asked_for_stays(run):
    asyncio.run(open_cell(run).add_result(result("a", 1, error="no")))
    assert open_cell(run, keys={("a", 0)}).done["a", 1].error == "no"


def test_a_cell_may_grow_and_never_shrinks(run):
    open_cell(run)
    open_cell(run, replace(FACTS, seeds=(0,), problems=7))
    about = json.loads((run.path / "cells" / "cell" / "cell.json").read_text())
    assert (about["seeds"], about["problems"]) == ([0, 1], 7)


def test_run_json_tells_of_every_process(tmp_path):
    for word in ("first", "second"):
        with RunFolder(tmp_path) as folder:
            folder.record(RunFacts(argv=(word,)))
            folder.record(RunFacts(argv=(word,), engines={"m": float("inf")}))  # once more is known
    told = json.loads((tmp_path / "run.json").read_text())
    assert (told["format"], told["argv"], told["engines"]) == (1, ["first"], {"m": "inf"})
    assert [(again["argv"], again["engines"]) for again in told["resumed"]] == [(["second"], {"m": "inf"})]


def test_one_process_at_a_time(run):
    code = (
        "import sys, pathlib\nfrom powercut.evals.runs.folder import RunFolder\n"
        "RunFolder(pathlib.Path(sys.argv[1])).__enter__()"
    )
    other = subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, text=True, timeout=60)
    assert f"{run.path} is in use by another powercut eval: wait for it, or give another folder" in other.stderr
    with pytest.raises(SettingError, match="in use"), RunFolder(run.path):
        pass


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import os, sys, pathlib\nfrom powercut.evals.runs.folder import RunFolder\n"
        "RunFolder(pathlib.Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, timeout=60)
    assert killed.returncode == -9
    with RunFolder(tmp_path):
        pass


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingError, match="holds other files and no run: give a new folder"), RunFolder(tmp_path):
        pass
    for text, message in (
        ("{", "run.json cannot be read: Expecting"),
        ('{"format": 2}', "has format 2, and this powercut reads up to 1: update powercut"),
        ("[]", "run.json cannot be read: it is no JSON object"),
    ):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(SettingError, match=message), RunFolder(tmp_path):
            pass
    file = tmp_path / "thesis.tex"
    with pytest.raises(SettingError, match="cannot write to"), RunFolder(file):
        pass


def test_a_full_disk_is_one_line_and_leaves_whole_lines(tmp_path):
    lines = Lines(tmp_path / "lines")
    lines.append({"id": "a", "seed": 0})
    before = (tmp_path / "lines").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # in place of a full disk: a file that cannot grow
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        with pytest.raises(PowercutError, match=r"cannot write .*lines: "):
            lines.append({"id": "b", "seed": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "lines").read_bytes() == before
    assert os.listdir(tmp_path) == ["lines"]  # noqa: PTH208


def test_what_another_process_wrote_before_the_lock_was_had_is_kept(tmp_path, monkeypatch):
    with RunFolder(tmp_path) as folder:
        folder.record(RunFacts(argv=("first",)))
    lock, ran = FileLock.acquire, []

    def acquire(self, *arguments, **options):
        if not ran:
            ran.append(True)
            with RunFolder(tmp_path) as other:
                other.record(RunFacts(argv=("second",)))
        return lock(self, *arguments, **options)

    monkeypatch.setattr("powercut.locking.FileLock.acquire", acquire)
    with RunFolder(tmp_path) as folder:
        folder.record(RunFacts(argv=("third",)))
    assert [again["argv"] for again in json.loads((tmp_path / "run.json").read_text())["resumed"]] == [
        ["second"],
        ["third"],
    ]


def test_a_folder_that_is_refused_is_left_as_it_was_and_free(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingError), RunFolder(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]  # noqa: PTH208
    (tmp_path / "thesis.tex").unlink()
    for text in ("[]", '{"format": 1}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(SettingError) if text == "[]" else contextlib.nullcontext(), RunFolder(tmp_path):
            pass


def in_place_of_a_file(path):
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "x").write_text("")


def a_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def in_place_of_a_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("run.json", in_place_of_a_file),
        ("run.json.tmp", in_place_of_a_file),
        (".lock", in_place_of_a_file),
        ("logs", in_place_of_a_folder),
        ("cells", in_place_of_a_folder),
        ("cells/cell", in_place_of_a_folder),
        ("cells/cell/cell.json", in_place_of_a_file),
        ("cells/cell/cell.json.tmp", in_place_of_a_file),
        ("cells/cell/results.jsonl", in_place_of_a_file),
        ("cells/cell/completions.jsonl", in_place_of_a_file),
        ("run.json", a_pipe),
        ("cells/cell/cell.json", a_pipe),
        ("cells/cell/results.jsonl", a_pipe),
        ("cells/cell/completions.jsonl", a_pipe),
    ],
)
def test_folders_in_place_of_files_and_the_reverse_are_one_line(tmp_path, name, spoil):
    def take_up():
        with RunFolder(tmp_path / "run") as folder:
            folder.record(RunFacts())
            add(open_cell(folder), result("a", 0))

    take_up()
    spoil(tmp_path / "run" / name)
    with pytest.raises(PowercutError) as error:
        take_up()
    assert str(tmp_path / "run") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil", [a_pipe, lambda path: path.symlink_to(path.name)], ids=["pipe", "loop"])
def test_what_stands_where_a_file_is_drafted_is_replaced(tmp_path, spoil):
    with RunFolder(tmp_path / "run") as folder:
        spoil(tmp_path / "run" / "run.json.tmp")
        folder.record(RunFacts(argv=("first",)))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["argv"] == ["first"]


def test_a_full_disk_is_one_line_for_whole_files_too(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.record(RunFacts(argv=("first",)))
        before = (tmp_path / "run.json").read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            with pytest.raises(PowercutError, match=r"cannot write .*run\.json: "):
                folder.record(RunFacts(argv=("second",)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "run.json").read_bytes() == before


def test_no_password_of_an_address_is_kept():
    facts = provenance(["powercut", "eval", "--model", "http://u:secret@host:8000/v1,http://v:secret@other/v1"])
    assert facts.argv[-1] == "http://***@host:8000/v1,http://***@other/v1"
