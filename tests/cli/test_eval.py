"""``powercut eval`` with a fake model, in this process."""

import errno
import gc
import json
import re
import sys
import weakref

import pytest

import powercut
from powercut.cli import main
from powercut.evals.sandbox.isolation import Isolation
from tests.cli import fake

SHORT = ["--max-new-tokens", "8", "--blocks", "2", "--steps", "2", "--quiet"]


def run(capsys, *arguments):
    code = main(["eval", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def cells(folder):
    return {file.parent.name: json.loads(file.read_text()) for file in folder.glob("cells/*/cell.json")}


def test_a_run_ends_with_a_table_and_is_not_done_again(engine, capsys, tmp_path, monkeypatch):
    out = tmp_path / "run"
    command = ["arithmetic", "--limit", "3", "--seeds", "2", "--sampler", "standard", "--sampler", "entropy-cut"]
    command += ["--alpha", "2", "--alpha", "4", *SHORT, "--out", str(out)]
    code, text, err = run(capsys, *command)
    assert code == 0, err
    assert f"powercut report {out} makes tables" in err
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["cell", "n", "accuracy", "95% interval", "changed", "tokens", "seconds", "failed"]
    names = ["arithmetic standard", "arithmetic entropy-cut (α=2)", "arithmetic entropy-cut (α=4)"]
    assert [line[0] for line in lines[1:]] == names
    assert {line[1] for line in lines[1:]} == {"6"}
    assert [bool(re.fullmatch(r"\d+%", line[4])) for line in lines[1:]] == [False, True, True]
    found = cells(out)
    assert sorted(cell["settings"].get("alpha", 0) for cell in found.values()) == [0, 2.0, 4.0]
    for name, cell in found.items():
        rows = [json.loads(line) for line in (out / "cells" / name / "results.jsonl").read_text().splitlines()]
        assert {(row["id"], row["seed"]) for row in rows} == {(f"arithmetic/{i}", s) for i in range(3) for s in (0, 1)}
        assert (cell["problems"], cell["seeds"], cell["prompt_style"]) == (3, [0, 1], "base")
    told = json.loads((out / "run.json").read_text())
    assert told["argv"][0] == "powercut"
    assert told["engines"]["smollm2"].startswith("fake")
    assert {"powercut", "python", "libraries", "git"} <= set(told)
    # once more: nothing is sampled
    made = []
    monkeypatch.setattr(powercut, "load", lambda *_, **__: made.append(fake.FakeEngine()) or made[0])
    assert run(capsys, *command)[:2] == (0, text)
    assert made[0].usage.decoded == 0


def test_settings_are_as_published_unless_given(engine, capsys, tmp_path):
    assert run(capsys, "arithmetic", "--limit", "1", "--quiet", "--steps", "0", "--out", str(tmp_path))[0] == 0
    [cell] = cells(tmp_path).values()
    assert (cell["settings"]["alpha"], cell["settings"]["max_new_tokens"]) == (4.0, 256)
    assert "\nProblem:" in cell["settings"]["stop"]


class ThinkingText(fake.LetterText):
    has_chat_template = True

    async def encode_chat(self, messages, template_args=None):
        return self.ids(f"{'b' if (template_args or {}).get('think') is False else 'a'}c")


def test_other_template_args_are_another_cell(capsys, tmp_path, monkeypatch):
    class Engine(fake.FakeEngine):
        letters = ThinkingText()

    asked = []

    async def extend(self, request, keep_going=None):
        asked.append(int(request.context[0]))
        return await fake.FakeEngine.extend(self, request, keep_going)

    monkeypatch.setattr(Engine, "extend", extend)
    monkeypatch.setattr(powercut, "load", lambda *_, **__: Engine())
    command = ["arithmetic", "--limit", "2", "--sampler", "standard", *SHORT[:2], "--quiet", "--out", str(tmp_path)]
    for args, first in (((), 1), (("think=false",), 2), (("think=true", "n=1"), 1)):
        asked.clear()
        flags = [word for arg in args for word in ("--template-arg", arg)]
        for drawn in ([first, first], []):  # the second time nothing is drawn
            assert run(capsys, *command, *flags)[0] == 0
            assert asked == drawn
            asked.clear()
    found = [cell.get("template_args") for cell in cells(tmp_path).values()]
    assert sorted(map(str, found)) == ["None", "{'think': False}", "{'think': True, 'n': 1}"]
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert 'template args={"think": false}' in page
    capsys.readouterr()
    # where the template is not used they would do nothing
    assert run(capsys, *command, "--style", "base", "--template-arg", "think=false")[::2] == (
        2,
        "error: template_args: style base puts arithmetic into no chat template; leave them out\n",
    )


def test_several_models_and_a_data_file(engine, capsys, tmp_path):
    data = tmp_path / "own.jsonl"
    data.write_text(
        '{"id": "one", "question": "ab?", "answer": "1"}\n{"id": "two", "question": "cd?", "answer": "2"}\n'
    )
    command = [
        "gsm8k",
        "--data",
        str(data),
        "--model",
        "a/one",
        "--model",
        "b/two",
        "--sampler",
        "standard",
        *SHORT[:2],
    ]
    code, text, _ = run(capsys, *command, "--out", str(tmp_path / "run"))
    assert code == 0
    assert [line.split("\t")[1] for line in text.splitlines()[1:]] == ["a/one", "b/two"]
    for cell in cells(tmp_path / "run").values():
        assert cell["data"]["file"] == str(data)
        assert len(cell["data"]["sha256"]) == 64


def test_a_model_is_closed_and_forgotten_before_the_next_is_loaded(capsys, tmp_path, monkeypatch):
    loaded, seen = [], []

    class Engine(fake.FakeEngine):
        closed = 0

        async def aclose(self):
            self.closed += 1
            seen.append((self.closed, self.usage.decoded > 0))

    def load(name, **_):
        gc.collect()
        seen.append((name, [engine() for engine in loaded if engine() is not None]))
        engine = Engine()
        loaded.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(powercut, "load", load)
    command = ["arithmetic", "--limit", "2", "--sampler", "standard", *SHORT[:2], "--out", str(tmp_path), "--quiet"]
    assert run(capsys, *command, "--model", "A", "--model", "B", "--model", "C")[0] == 0
    assert seen == [("A", []), (1, True), ("B", []), (1, True), ("C", []), (1, True)]


def test_a_model_that_fails_is_closed_too(capsys, tmp_path, monkeypatch):
    closed = []

    class Engine(fake.FakeEngine):
        async def aclose(self):
            closed.append(True)

    monkeypatch.setattr(powercut, "load", lambda *_, **__: Engine())
    code, _, err = run(capsys, "arithmetic", "--style", "chat", "--limit", "1", *SHORT, "--out", str(tmp_path))
    assert (code, closed) == (2, [True])
    assert "needs a chat template" in err


def test_failures_are_reported_and_stop_nothing(engine, capsys, tmp_path, monkeypatch):
    async def extend(self, request, keep_going=None):
        raise powercut.EngineError("the model returned NaN: try dtype float32")

    monkeypatch.setattr(fake.FakeEngine, "extend", extend)
    code, text, err = run(capsys, "arithmetic", "--limit", "2", *SHORT, "--out", str(tmp_path))
    assert code == 1
    assert "error: 2 completions failed, the first with: the model returned NaN: try dtype float32; the same" in err
    assert text.splitlines()[1].split("\t")[-1] == "2"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["maths"], "there is no task 'maths' (did you mean math500?): the tasks"),
        (["arithmetic", "--sampler", "entropy"], "did you mean entropy-cut?"),
        (["arithmetic", "--sampler", "standard", "--beta", "2"], "--beta is a setting of entropy-cut"),
        (["arithmetic", "--alpha", "2", "--alpha", "much"], "--alpha must be a number (got 'much')"),
        (["arithmetic", "--seeds", "0"], "--seeds must be at least 1 (got 0)"),
        (["arithmetic", "--limit", "0"], "--limit must be at least 1"),
        (["arithmetic", "--seeds", "9" * 30], f"--seeds must be at most 100,000 (got {'9' * 30})"),
        (["arithmetic", "--concurrency", "100001"], "--concurrency must be at most 100,000 (got 100001)"),
        (["arithmetic", "--data", "\0"], "the data file \\u0000 cannot be read: embedded null byte"),
        (["arithmetic", "--match", "entropy-cut"], "--match entropy-cut needs the sampler best-of-n in the same run"),
        (["arithmetic", "--sampler", "best-of-n", "--match", "entropy-cut"], "needs the sampler entropy-cut"),
        (["arithmetic", "gsm8k", "--data", "x.json"], "--data x.json must say for which task: give TASK=x.json"),
        (["arithmetic", "--data", "gsm8k=x.json"], "is for gsm8k, which is not among the tasks"),
        (["gsm8k", "--data", "/dev/full"], "the data file /dev/full cannot be read: It is no file"),
        (["gsm8k", "--data", "/nowhere.json"], "/nowhere.json cannot be read: No such file or directory"),
        (["humaneval"], "code that the model writes is run in docker, which is not installed here"),
        (["arithmetic", "--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_a_model_is_loaded(
    no_engine, capsys, tmp_path, monkeypatch, arguments, part
):
    monkeypatch.setenv("PATH", "")
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "run")]
    code, text, err = run(capsys, *arguments, *out)
    assert (code, text) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err
    assert not (tmp_path / "run").exists()


CODE = {
    "task_id": "own/0",
    "prompt": "def first(xs):\n",
    "canonical_solution": "    return xs[0]\n",
    "test": "def check(candidate):\n    assert candidate([3]) == 3\n",
    "entry_point": "first",
}


@pytest.fixture
def code_command(tmp_path):
    (tmp_path / "own.json").write_text(json.dumps([CODE]))
    data = ["--data", str(tmp_path / "own.json"), "--out", str(tmp_path / "run")]
    return ["humaneval", "--sampler", "standard", *SHORT[:2], *data, "--allow-unsafe-local"]


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_completion_that_ends_what_runs_it_is_wrong_and_ends_no_run(
    engine, capsys, tmp_path, monkeypatch, code_command, namespaces
):
    if not namespaces:
        monkeypatch.setattr("powercut.evals.sandbox.local_sandbox.isolation", Isolation)
    code, _, err = run(capsys, *code_command)
    assert code == 0
    assert "note: code that the model writes runs on this machine: at most 10 s, 1024 MB" in err
    [results] = tmp_path.glob("run/cells/*/results.jsonl")
    row = json.loads(results.read_text())
    kill = "    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n"
    for text, correct in [(kill, False), (CODE["canonical_solution"], True)]:
        results.write_text(json.dumps({**row, "text": text}) + "\n")
        assert run(capsys, *code_command, "--regrade")[0] == 0
        assert json.loads(results.read_text().splitlines()[-1])["correct"] is correct


def test_a_sandbox_that_cannot_start_is_one_line_before_a_model_is_loaded(
    no_engine, capsys, tmp_path, monkeypatch, code_command
):
    monkeypatch.setattr("powercut.evals.sandbox.local_sandbox.isolation", lambda: Isolation(("false",)))
    code, text, err = run(capsys, *code_command)
    assert (code, text) == (2, "")
    assert err == "error: no program can be started here: exit status 1\n"
    assert not (tmp_path / "run").exists()


def test_a_current_folder_that_was_removed_is_one_line(capsys, tmp_path, monkeypatch):
    def load(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")  # as os.getcwd does

    monkeypatch.setattr(powercut, "load", load)
    code, text, err = run(capsys, "arithmetic", "--limit", "1", "--out", str(tmp_path))
    assert (code, text, err) == (2, "", "error: the current folder cannot be used: No such file or directory\n")


def test_styles_are_checked_against_the_model(engine, capsys, tmp_path):
    code, _, err = run(capsys, "arithmetic", "--style", "chat", "--limit", "1", *SHORT, "--out", str(tmp_path))
    assert (code, err) == (2, "error: the prompt style chat needs a chat template and this model has none: use base\n")


def test_a_missing_extra_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    uses_it = ("powercut.cli.run_cells", "powercut.evals.runs.harness", "powercut.integrations.inspect")
    for name in [name for name in sys.modules if name in uses_it]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run(capsys, "arithmetic", "--out", str(tmp_path))
    assert (code, err) == (2, "error: powercut eval needs inspect_ai: pip install 'powercut[eval]'\n")
