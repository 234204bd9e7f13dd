"""Files of ``powercut sample``: a full disk, and two names of one file."""

import json
import os
import resource

import pytest

from powercut.cli import main

SHORT = ["--max-new-tokens", "6", "--blocks", "2", "--steps", "1", "--quiet", "--json"]


@pytest.fixture
def full_at():
    """In place of a full disk: files that cannot grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_lines_and_loses_none(engine, capsys, tmp_path, full_at):
    path = tmp_path / "out"
    assert main(["sample", "a", "-n", "4", *SHORT]) == 0
    whole = capsys.readouterr().out.splitlines(keepends=True)
    full_at(len("".join(whole[:2])) + 50)  # the third line does not fit
    assert main(["sample", "a", "-n", "4", *SHORT, "--output", str(path)]) == 2
    out, err = capsys.readouterr()
    assert err == f"error: cannot write {path}: File too large; the rest goes to stdout\n"
    kept = path.read_text().splitlines(keepends=True)
    assert len(kept) == 2
    samples = [json.loads(line)["sample_index"] for line in (*kept, *out.splitlines())]
    assert sorted(samples) == [0, 1, 2, 3]
    assert all(line.endswith("\n") for line in kept)
    # once more, into the file of before
    assert main(["sample", "a", "-n", "4", *SHORT, "--output", str(path), "--force"]) == 2
    out, err = capsys.readouterr()
    assert len(path.read_text().splitlines()) + len(out.splitlines()) == 4


@pytest.mark.parametrize("other", ["./out", "link", "hard", "folder/../out"])
def test_two_names_of_one_file_are_refused(no_engine, capsys, tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").write_text("kept")
    (tmp_path / "link").symlink_to("out")
    os.link("out", "hard")
    assert main(["sample", "a", "--output", "out", "--save-trace", other, "--force"]) == 2
    assert capsys.readouterr().err == "error: --output and --save-trace name the same file\n"
    assert (tmp_path / "out").read_text() == "kept"


def test_two_outputs_to_a_device_are_no_such_case(engine, capsys):
    assert main(["sample", "a", *SHORT, "--output", "/dev/null", "--save-trace", "/dev/../dev/null"]) == 0
    assert capsys.readouterr() == ("", "")
