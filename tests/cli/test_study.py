"""``powercut study`` as a user calls it: the folder, what an interruption leaves, the table and the page."""

import csv
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from powercut.cli import main
from powercut.study.tree.cases import Case
from tests.report.test_output import Page
from tests.study.test_recorded import SETTINGS, result, walks, write_run

TREE = ["study", "tree", "--target", "root-pivot", "--tokens", "64", "--tokens", "256"]
LIMIT = 2_000_000
"""Bytes of a page."""


@pytest.fixture
def out(tmp_path):
    return tmp_path / "study"


def lines(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def check_page(folder):
    """One page that needs nothing else but what lies beside it, with a table before each plot."""
    text = (folder / "study.html").read_text()
    page = Page(text)
    assert not page.open
    assert all(link.startswith("#") or (folder / link.split("#")[0]).is_file() for link in page.links)
    assert len(text.encode()) < LIMIT
    assert "fe00" not in text
    for figure in re.findall(r"<figure>.*?</figure>", text, re.DOTALL):
        assert "<table>" in figure.split("<svg")[0]
    assert all("aria-label=" in svg for svg in re.findall(r"<svg[^>]*>", text))
    return text


def test_tree_shows_a_table_and_writes_a_folder(out, capsys):
    assert main([*TREE, "--out", str(out)]) == 0
    shown, said = capsys.readouterr()
    rows = [line.split("\t") for line in shown.splitlines()]
    assert rows[0] == ["part", "target", "layout", "k", "T", "details, nats", "β 4", "β 1", "uniform"]
    assert rows[2] == ["grid", "root-pivot", "opening", "4", "256", "0", "50", "69", "2,063"]
    assert "It shows what can happen and why" in " ".join(said.split())
    assert said.endswith(f"wrote {out}/figures.csv, {out}/study.html\n")
    assert len(lines(out)) == 6
    with (out / "figures.csv").open() as file:
        figures = list(csv.DictReader(file))
    assert [row["mixing_time"] for row in figures if row["law"] == "4"] == ["50", "50"]
    assert "2,063 [2,009, 2,101]" in check_page(out)


def test_stages_have_their_part(out, capsys):
    assert main([*TREE, "--blocks", "1", "--blocks", "4", "--law", "4+0.1", "--out", str(out), "-q"]) == 0
    assert "4 × 10" in check_page(out)
    shown, said = capsys.readouterr()
    assert "β 4 + 0.1 uniform" in shown
    assert said == f"wrote {out}/figures.csv, {out}/study.html\n"


def test_a_killed_study_goes_on_where_it_was(out, tmp_path, capsys, monkeypatch):
    many = ["study", "tree", "--target", "independent", "--tokens", "256", "--tokens", "512"]
    many += [word for k in range(1, 9) for word in ("--decisions", str(k))]
    process = subprocess.Popen([sys.executable, "-m", "powercut", *many, "--out", str(out)], stderr=subprocess.DEVNULL)
    with process:
        while process.poll() is None and not ((out / "records.jsonl").exists() and len(lines(out)) > 3):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = (out / "records.jsonl").read_bytes()
    (out / "records.jsonl").write_bytes(kept[: kept.rfind(b"\n") + 1] + b'{"key": "torn')
    before = {record["key"] for record in lines_of(kept)}
    measured, measure = [], Case.measure
    monkeypatch.setattr(Case, "measure", lambda self: (measured.append(self.key), measure(self))[1])
    assert main([*many, "--out", str(out)]) == 0
    after = {record["key"] for record in lines(out)}
    assert set(measured) == after - before
    shown = capsys.readouterr().out
    assert main([*many, "--out", str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out == shown
    assert (tmp_path / "whole" / "figures.csv").read_text() == (out / "figures.csv").read_text()


def lines_of(data):
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def test_a_finished_study_measures_nothing(out, capsys, monkeypatch):
    assert main([*TREE, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    monkeypatch.setattr(Case, "measure", None)
    assert main([*TREE, "--out", str(out)]) == 0
    assert capsys.readouterr().out == shown


def test_ctrl_c_keeps_what_is_measured(out, capsys, monkeypatch):
    measure, count = Case.measure, []

    def interrupted(self):
        count.append(self)
        if len(count) == 3:
            raise KeyboardInterrupt
        return measure(self)

    monkeypatch.setattr(Case, "measure", interrupted)
    assert main([*TREE, "--out", str(out)]) == 130
    assert capsys.readouterr().err == "interrupted: 2 of 6 measured; the same command goes on\n"
    assert len(lines(out)) == 2


def in_use(out):
    from filelock import FileLock

    out.mkdir()
    lock = FileLock(out / ".lock")
    lock.acquire()
    return lock


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda out: main([*TREE, "--alpha", "2", "--out", str(out)]), "holds a study with another alpha: give --out"),
        (lambda out: (out.mkdir(), (out / "thesis.tex").touch()), "holds other files and no study: give --out"),
        (in_use, "is in use by another powercut study: wait for it, or give another folder"),
        (lambda out: out.touch(), "cannot write to"),
    ],
)
def test_a_folder_of_something_else_is_one_line(out, capsys, prepare, message):
    held = prepare(out)
    capsys.readouterr()
    assert main([*TREE, "--out", str(out)]) == 2
    shown, said = capsys.readouterr()
    assert shown == ""
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    del held


@pytest.mark.parametrize(("line", "reason"), [("nonsense", "Expecting value"), ("[]", "list indices"), ("{}", "'key'")])
def test_a_line_that_is_no_record_is_named(out, capsys, line, reason):
    assert main([*TREE, "--out", str(out)]) == 0
    (out / "records.jsonl").write_text(line + "\n")
    capsys.readouterr()
    assert main([*TREE, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {out}/records.jsonl:1 is no record ({reason}")
    assert said.endswith("): delete the line, and it is measured again\n")


def test_without_the_libraries_a_line_says_what_to_install(out, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("powercut.study.", "powercut.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main([*TREE, "--out", str(out)]) == 2
    assert capsys.readouterr().err == "error: powercut study needs jinja2: pip install 'powercut[report]'\n"
    assert not out.exists()


@pytest.mark.parametrize("what", ["prompt", "run"])
def test_mixing_says_so_before_anything_is_measured(tmp_path, out, capsys, monkeypatch, what):
    prompt = (
        "a" if what == "prompt" else str(write_run(tmp_path / "run", {"a": (SETTINGS, [result("x", 0, [-1.0] * 9)])}))
    )
    for name in ("arviz_stats", "arviz_stats.base"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["study", "mixing", prompt, "--out", str(out)]) == 2
    assert re.fullmatch(
        r"error: powercut study needs arviz_stats(\.base)?: pip install 'powercut\[report\]'\n", capsys.readouterr().err
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["tree", "--law", "4+2"], "--law must be uniform, a beta such as 4, or 4+0.1"),
        (["tree", "--alpha", "0.5"], "--alpha must be"),
        (["tree", "--tokens", "8"], "root-pivot has details of its own, for which 8 tokens are too few"),
        (["anchors", "--problems", "1"], "--problems must be"),
        (["anchors", "--jobs", "0"], "--jobs must be"),
        (["mixing", "a", "--sampler", "smc"], "--sampler must be entropy-cut or uniform-cut (got 'smc')"),
        (["mixing", "a", "--blocks", "2"], "--blocks has no place here: the chains have one stage, leave it out"),
        (["mixing", "a", "--lag", "20", "--most", "20"], "--most must be above --lag, 20: nothing could meet (got 20)"),
        (["mixing", "a", "--tries", "2"], "chains are coupled with one try, rule exact, a finite alpha and no require"),
        (["mixing", "runs/none"], "there is no folder runs/none: give the one that powercut eval wrote, or a prompt"),
        (["mixing", ".", "--starts", "3"], "--starts has no place beside a run, whose chains are as they are"),
        (["mixing", ".", "--alpha", "3"], "--alpha has no place beside a run, whose chains are as they are"),
        (["mixing", "src"], "is not a run: it has no run.json; give the folder that powercut eval wrote"),
        (["mixing", "a", "--answer", "["], "--answer is no regular expression: "),
        (["decisions", "a", "--redraws", "3"], "--redraws must be"),
        (["decisions", "a", "--temperature", "0"], "temperature must be"),
        (["decisions", "a", "--task", "gsm8k"], "PROMPT has no place beside --task, which says what is asked"),
        (["decisions", "--task", "humaneval"], "humaneval has no answer to be found in a text: the tasks are math500"),
        (["decisions", "--task", "gsm9k"], "there is no task 'gsm9k' (did you mean gsm8k?): the tasks are"),
        (["decisions", "a", "--data", "file"], "--data is for a task: give --task, or leave it out"),
        (["divergence", "a", "--suffixes", "1"], "--suffixes must be"),
        (["lengths", "--sampler", "smc"], "--sampler must be entropy-cut or uniform-cut (got 'smc')"),
        (["lengths", "--rule", "published"], "a shaped target needs rule exact and a finite alpha"),
        (["lengths", "--min-new-tokens", "2000"], "min_new_tokens must be below max_new_tokens=1024"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(out, capsys, arguments, message):
    assert main(["study", *arguments, *(["--out", str(out)] if arguments else [])]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_anchors(out, capsys):
    words = ["study", "anchors", "--problems", "4", "--steps", "8", "--jobs", "1", "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    rows = {fields[0]: fields for fields in (line.split("\t") for line in shown.splitlines())}
    assert rows["sampler"][:4] == ["sampler", "accuracy, %", "decoded tokens", "computed, %"]
    assert float(rows["the power distribution"][3]) > 90
    assert float(rows["standard"][3]) < 40
    assert "best of n, at its cost" in rows
    assert "no evidence about large models" in " ".join(said.split())
    assert "Control: the decision comes late" in check_page(out)
    assert len(lines(out)) == 17
    assert main(words) == 0
    assert capsys.readouterr().out == shown


MIXING = [
    "mixing",
    "a",
    "--raw",
    "--max-new-tokens",
    "5",
    "--starts",
    "4",
    "--chains",
    "2",
    "--steps",
    "6",
    "--lag",
    "3",
]


def test_mixing(engine, out, capsys):
    words = ["study", *MIXING, "--most", "60", "--answer", "[a-h]", "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    assert shown.splitlines()[1].startswith("steps that changed the text, %\t")
    assert "Where no step changed the text nothing has converged" in " ".join(said.split())
    text = check_page(out)
    assert "nested R-hat" in text
    assert "answer is" in text
    assert len(lines(out)) == 4
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_decisions(engine, out, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a\nb\nc\n")
    words = ["study", "decisions", "--file", str(tmp_path / "prompts.txt"), "--limit", "2", "--raw", "--cuts", "4"]
    words += ["--redraws", "6", "--max-new-tokens", "6", "--answer", "[a-h]", "--top-k", "9", "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    assert shown.splitlines()[1].startswith("rank correlation of jump and information\t")
    assert said.startswith("at most 300 tokens are to be decoded, if every completion is as long as it can be\n")
    assert "Prompt 1: " in check_page(out)
    assert len(lines(out)) == 2
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_divergence(engine, out, capsys):
    words = ["study", "divergence", "a", "--raw", "--temperature", "1", "--max-new-tokens", "200", "--suffixes", "3"]
    words += ["--suffix-tokens", "5", "--answer", "[a-h]", "--top-k", "9", "--seed", "3", "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    assert [line.split("\t")[0] for line in shown.splitlines()][:2] == ["arm", "top jumps"]
    assert said.startswith("at most 500 tokens are to be decoded")
    assert "Left out: " in check_page(out)
    assert len(lines(out)) == 1
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_the_problems_of_a_task_in_place_of_prompts(engine, out, capsys):
    words = ["study", "decisions", "--task", "arithmetic", "--limit", "2", "--cuts", "2", "--redraws", "4"]
    words += ["--max-new-tokens", "4", "--top-k", "9", "--out", str(out), "-q"]
    assert main(words) == 0
    assert "2 problems of arithmetic; the bundled model, temperature 1; " in check_page(out)
    told = json.loads((out / "study.json").read_text())["settings"]
    assert (told["task"], told["problems"]) == ("arithmetic", ["arithmetic/0", "arithmetic/1"])
    assert {answer for record in lines(out) for cut in record["cuts"] for answer in cut["answers"]} == {None}
    capsys.readouterr()
    assert main([*words, "--style", "paper"]) == 2
    assert "holds a study with another style" in capsys.readouterr().err


def test_lengths_of_the_tree_need_no_model(out, capsys):
    assert main(["study", "lengths", "--out", str(out)]) == 0
    shown, said = capsys.readouterr()
    rows = {fields[0]: fields for fields in (line.split("\t") for line in shown.splitlines())}
    assert rows["p^α"][1:3] == ["6.06", "49.0"]
    assert rows["min_new_tokens 6"][1:3] == ["8.02", "49.0"]
    assert rows["require: worked out"][1:3] == ["9.00", "0.0"]
    assert "decoded" not in said
    check_page(out)


def test_lengths_on_a_model(engine, out, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a\nb\n")
    words = ["study", "lengths", "--file", str(tmp_path / "prompts.txt"), "--raw", "--answer", "[a-c]", "-n", "3"]
    words += ["--max-new-tokens", "16", "--blocks", "2", "--steps", "2", "--top-k", "9", "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    assert said.startswith(f"at most {2 * 3 * 5 * (16 + 2 * (8 + 16)):,} tokens are to be decoded")
    rows = {fields[0]: fields for fields in (line.split("\t") for line in shown.splitlines())}
    assert list(rows) == [
        "target",
        "p^α",
        "min_new_tokens 4",
        "length_bonus 0.5",
        "length_bonus 1",
        "require an answer",
    ]
    assert rows["require an answer"][3] == "100.0"
    assert "2 prompts; the bundled model, entropy-cut; 3 completions of each" in check_page(out)
    drawn = [record for record in lines(out) if record["of"] == "model"]
    assert len(drawn) == 10
    assert all(min(r["tokens"]) > 4 for r in drawn if r["shape"] == "min_new_tokens 4")
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_a_failing_engine_is_one_line_and_what_is_measured_stays(engine, out, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a\ng\n")
    words = ["study", "decisions", "--file", str(tmp_path / "prompts.txt"), "--raw", "--cuts", "2", "--redraws", "4"]
    assert main([*words, "--max-new-tokens", "4", "--top-k", "9", "--out", str(out), "-q"]) == 2
    assert capsys.readouterr().err == "error: the model returned NaN: try dtype float32\n"


def test_mixing_of_a_run(out, tmp_path, capsys):
    own = [result(problem, i, logp) for problem in "xy" for i, logp in enumerate(walks(seed=ord(problem)))]
    run = write_run(tmp_path / "run", {"a": (SETTINGS, own)})
    words = ["study", "mixing", str(run), "--out", str(out)]
    assert main(words) == 0
    shown, said = capsys.readouterr()
    assert shown.splitlines()[1].split("\t")[:3] == ["gsm8k, tiny, entropy-cut", "6", "0.0"]
    assert said.startswith("\nSome step changed the text of each of 6 chains.")
    assert "Autocorrelation of log p along the last stage" in check_page(out)
    assert main(words) == 0
    assert capsys.readouterr().out == shown
    write_run(run, {"a": (SETTINGS, [*own, result("z", 0, walks()[0])])})
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[1] == "7"
