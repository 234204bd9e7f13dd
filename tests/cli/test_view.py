"""``powercut view``, and ``powercut sample --html``."""

import pytest

from powercut.cli import main
from tests.cli.sample_tools import SHORT, pipe_in, run


def sampled(tmp_path, *more):
    file = tmp_path / "chain.jsonl"
    assert main(["sample", "a", "--refine-finished", *SHORT, "--save-trace", str(file), "--quiet", *more]) == 0
    return file


def test_a_page_is_written_beside_its_chain(engine, tmp_path, capsys):
    file = sampled(tmp_path)
    capsys.readouterr()
    assert main(["view", str(file)]) == 0
    page = tmp_path / "chain.html"
    assert capsys.readouterr().err == f"wrote {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert main(["view", str(file)]) == 2
    assert "chain.html exists already" in capsys.readouterr().err
    assert main(["view", str(file), "--force", "--answer", "[a-c]"]) == 0
    other = tmp_path / "other.html"
    assert main(["view", str(file), "-o", str(other)]) == 0
    assert other.exists()


def test_a_chain_may_have_any_name(engine, tmp_path):
    file = sampled(tmp_path).rename(tmp_path / "chain.jsonl.gz")
    assert main(["view", str(file)]) == 0
    assert (tmp_path / "chain.html").read_text().startswith("<!DOCTYPE html>")


def test_sample_writes_the_same_page(engine, tmp_path, capsys):
    page = tmp_path / "chain.html"
    file = sampled(tmp_path, "--html", str(page))
    assert main(["view", str(file), "-o", str(tmp_path / "other.html")]) == 0
    told = [path.read_text() for path in (page, tmp_path / "other.html")]
    assert told[0].replace("chain.html", "chain.jsonl") == told[1]


def test_several_completions_are_on_one_page(engine, tmp_path, capsys, monkeypatch):
    pipe_in(monkeypatch, b"a\nb\n")
    page = tmp_path / "page.html"
    code, _, _ = run(capsys, "--file", "-", "-n", "2", "--html", str(page), *SHORT)
    assert code == 0
    assert page.read_text().count('<script type="application/octet-stream"') == 4


def test_what_fails_has_no_page_and_the_others_have(engine, tmp_path, capsys, monkeypatch):
    pipe_in(monkeypatch, b"a\ng\n")
    page = tmp_path / "page.html"
    code, _, _ = run(capsys, "--file", "-", "--html", str(page), *SHORT)
    assert code == 2
    assert page.read_text().count('<script type="application/octet-stream"') == 1
    code, _, _ = run(capsys, "g", "--html", str(tmp_path / "none.html"), *SHORT)
    assert code == 2
    assert not (tmp_path / "none.html").exists()


def test_each_file_is_another(engine, tmp_path, capsys):
    one = str(tmp_path / "one")
    for flags in (("--output", "--html"), ("--save-trace", "--html"), ("--output", "--save-trace")):
        assert main(["sample", "a", *SHORT, flags[0], one, flags[1], one]) == 2
        assert capsys.readouterr().err == f"error: {flags[0]} and {flags[1]} name the same file\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("", "has no chains: write them with powercut sample --save-trace"),
        ("{}\n{}\n", ":1 is no line that --save-trace wrote"),
    ],
)
def test_what_is_no_chain_is_named(tmp_path, capsys, content, reason):
    file = tmp_path / "chain.jsonl"
    if content is not None:
        file.write_text(content)
    assert main(["view", str(file)]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert not (tmp_path / "chain.html").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--slots", "4"], "has no engine and no port: give --model"),
        (["--port", "80"], "has no engine and no port: give --model"),
        (["--model", "x", "-o", "page.html"], "--output is for a page without --model"),
        (["--answer", "("], "--answer is no regular expression"),
    ],
)
def test_flags_that_do_not_go_together(engine, tmp_path, capsys, flags, reason):
    file = sampled(tmp_path)
    capsys.readouterr()
    assert main(["view", str(file), *flags]) == 2
    assert reason in capsys.readouterr().err
