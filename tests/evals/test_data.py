"""Rows from files, wheels and the hub, and one clear line where there is something wrong with them."""

import gzip
import json
import math
import os
import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from powercut.errors import SettingError
from powercut.evals.data import file_rows, hub_rows, wheel_rows
from powercut.evals.tasks import TASKS

ROWS = [{"question": "1?", "answer": "1"}, {"question": "2?", "answer": "2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
GPQA = [
    {
        "Question": f"{i}?",
        "Correct Answer": "right",
        **{f"Incorrect Answer {j}": f"wrong {j}" for j in (1, 2, 3)},
    }
    for i in range(40)
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    "text", [LINES, json.dumps(ROWS), json.dumps(ROWS, indent=2), "\ufeff" + LINES, LINES + "\n\n"]
)
def test_a_file(file, text):
    file.write_text(text, encoding="utf-8")
    assert [(row.number, dict(row.values)) for row in file_rows(file)] == [(1, ROWS[0]), (2, ROWS[1])]


def test_a_packed_file(tmp_path):
    """Its bytes say that it is packed, not its name."""
    packed, plain = gzip.compress(LINES.encode()), LINES.encode()
    for name, content in (("packed.jsonl.gz", packed), ("plain.jsonl.gz", plain), ("packed.jsonl", packed)):
        (tmp_path / name).write_bytes(content)
        assert [row.values for row in file_rows(tmp_path / name)] == ROWS


def test_limit_and_identities(file):
    file.write_text(LINES)
    assert [problem.id for problem in TASKS["arithmetic"].problems(data=file)] == ["1", "2"]
    assert len(TASKS["arithmetic"].problems(data=file, limit=1)) == 1
    assert len(TASKS["arithmetic"].problems()) == 500
    with pytest.raises(SettingError, match="limit must be at least 1"):
        TASKS["arithmetic"].problems(limit=0)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("gsm8k", {"question": "?"}, r"rows.jsonl row 2 needs the field answer \(it has question\)"),
        ("math500", {"answer": "1"}, r"rows.jsonl row 2 needs one of the fields question, problem, prompt"),
        ("gsm8k", {"question": "?", "answer": None}, "row 2 needs the field answer"),
        ("gsm8k", {"question": "?", "answer": " "}, "row 2: answer is empty"),
        ("gsm8k", {"question": "?", "answer": "so\n#### four"}, "row 2: answer must be a number .it is 'four'"),
        ("gsm8k", {"question": "?", "answer": "so\n#### 3 or 4"}, "row 2: answer must be a number .it is '3 or 4'"),
        ("arithmetic", {"question": "?", "answer": "2x"}, "row 2: answer must be a number .it is '2x'"),
        ("math500", {"problem": "?", "answer": "$$"}, r"row 2: answer must be a formula .it is '\$\$'"),
        ("math500", {"problem": "?", "answer": "x" * 3000}, "row 2: answer has more than 2000 characters"),
        ("math500", {"problem": "?", "answer": math.nan}, "row 2: answer must be text or a number .it is nan"),
        ("gsm8k", {"question": "?", "answer": "so\n####"}, "row 2: answer has nothing behind its last ####"),
        ("gsm8k", {"question": ["?"], "answer": "1"}, "row 2: question must be text .it is list"),
        ("aime26", {"question": "?", "answer": "1000"}, "row 2: answer must be a whole number from 0 to 999"),
        ("aime26", {"question": "?", "answer": "9" * 5000}, "row 2: answer must be a whole number from 0 to 999"),
        ("gsm8k", {"question": "\ud83d", "answer": "1"}, r"row 2: question has half a character in it .\\ud83d"),
        ("gsm8k", {"question": "?", "answer": "1", "id": "x\udc80"}, "row 2: id has half a character in it"),
        ("gsm8k", {}, "row 2 needs one of the fields question, problem, prompt .it has no field"),
        ("gsm8k", {"question": "?", "answer": "1", "id": "1"}, "row 2: its id 1 is that of row 1"),
        ("gsm8k", [1], "row 2 is not an object with named fields"),
    ],
)
def test_a_row_with_something_wrong(file, task, row, message):
    file.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row))
    with pytest.raises(SettingError, match=message) as caught:
        TASKS[task].problems(data=file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"[]", "has no rows"),
        (b"[1, 2", "is not a JSON list"),
        (LINES.encode() + b"{oops", ":3: not a JSON object"),
        (b"[" * 100_000, "is not a JSON list"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"1\n2\n", "row 1 is not an object"),
    ],
)
def test_a_file_with_something_wrong(file, content, message):
    file.write_bytes(content)
    with pytest.raises(SettingError, match=message):
        file_rows(file)


def test_no_file_no_wheel(tmp_path):
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        file_rows(tmp_path / "none.jsonl")
    (tmp_path / "bad.gz").write_bytes(b"not gzip")
    with pytest.raises(SettingError, match=r"bad.gz:1: not a JSON object"):
        file_rows(tmp_path / "bad.gz")
    packed = bytearray(gzip.compress(LINES.encode() * 50))
    packed[20] ^= 255
    for content in (packed, packed[:-9], packed[:40], b""):
        (tmp_path / "bad.gz").write_bytes(content)
        with pytest.raises(SettingError, match=r"bad.gz (is no whole gzip file .*: fetch or pack|has no rows)"):
            file_rows(tmp_path / "bad.gz")
    with pytest.raises(SettingError, match="cannot be read: embedded null byte"):
        file_rows("\0")
    with pytest.raises(SettingError, match="pip install no-such-package, or give --data FILE"):
        wheel_rows("no_such_package", "rows.jsonl")


def choices(file, seed=None):
    file.write_text("".join(json.dumps(row) + "\n" for row in GPQA))
    return TASKS["gpqa-diamond"].problems(data=file, seed=seed)


def test_choices_are_shuffled_by_row_or_by_a_seed(file):
    problems = choices(file)
    assert problems == choices(file)
    assert all(p.choices["ABCD".index(p.answer)] == "right" for p in problems)
    assert {p.answer for p in problems} == set("ABCD")
    assert [p.answer for p in problems[:8]] == list("CADDBBAC")
    again = choices(file, seed=1)
    assert [p.choices for p in again] != [p.choices for p in problems]
    assert all(p.choices["ABCD".index(p.answer)] == "right" for p in again)
    generator = random.Random(1)  # as published: the wrong ones are shuffled, then the right one is put somewhere
    for problem, row in zip(again, GPQA, strict=True):
        expected = [row[f"Incorrect Answer {i}"] for i in (1, 2, 3)]
        generator.shuffle(expected)
        expected.insert(generator.randint(0, 3), row["Correct Answer"])
        assert list(problem.choices) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "choices": ["x", "y"], "answer": "z"}, "answer must be one of the choices or its letter"),
        ({"question": "?", "choices": ["x", "x"], "answer": "x"}, "answer must be one of the choices"),
        ({"question": "?", "choices": ["x", "y", "y "], "answer": "x"}, "row 1: two choices are the same .'y'"),
        ({"question": "?", "choices": ["x", None], "answer": "x"}, "row 1: choice B must be text .it is NoneType"),
        ({"question": "?", "choices": ["x", " "], "answer": "x"}, "row 1: choice B is empty"),
        ({"question": "?", "choices": "xy", "answer": "x"}, "choices must be a list of 2 to 10"),
        ({"question": "?", "answer": "x"}, "needs one of the fields Correct Answer, correct_answer, choices"),
    ],
)
def test_choices_with_something_wrong(file, row, message):
    file.write_text(json.dumps(row))
    with pytest.raises(SettingError, match=message):
        TASKS["gpqa-diamond"].problems(data=file)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("prompt", "def f(x:\n", "prompt with canonical_solution is no Python program"),
        ("entry_point", "g", "prompt with canonical_solution does not define the function g"),
        ("test", "assert f(1) == 1", "test does not define the function check"),
        ("test", "def check(f)", "test is no Python program"),
    ],
)
def test_code_with_something_wrong(file, field, text, message):
    right = {"prompt": "def f(x):\n", "canonical_solution": "    return x\n", "entry_point": "f"}
    right["test"] = "def check(candidate):\n    assert candidate(1) == 1\n"
    file.write_text(json.dumps(right))
    assert len(TASKS["humaneval"].problems(data=file)) == 1
    file.write_text(json.dumps({**right, field: text}))
    with pytest.raises(SettingError, match=f"row 1: {message}"):
        TASKS["humaneval"].problems(data=file)


@pytest.mark.parametrize("answer", ["B", "y"])
def test_a_list_of_choices(file, answer):
    file.write_text(json.dumps({"question": "?", "choices": ["x", "y", "z"], "answer": answer}))
    [problem] = TASKS["gpqa-diamond"].problems(data=file)
    assert sorted(problem.choices) == ["x", "y", "z"]
    assert problem.choices["ABC".index(problem.answer)] == "y"


def test_a_data_set_as_the_hub_has_it(tmp_path, monkeypatch):
    """From a folder laid out like one there: the same loading code, without the network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "test.jsonl").write_text(LINES)
    (folder / "train.jsonl").write_text('{"question": "3?", "answer": "3"}\n')
    assert [dict(row.values) for row in hub_rows(str(folder))] == ROWS
    with pytest.raises(SettingError, match="cannot be fetched from the hub"):
        hub_rows(str(folder), split="validation")


class Hub(BaseHTTPRequestHandler):
    """As the model hub answers for a data set that is gated, and for one that is not there."""

    def do_GET(self):
        gated = "gpqa" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("X-Error-Message", "Access to dataset Idavidrein/gpqa is restricted")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("gpqa-diamond", "the data set Idavidrein/gpqa is gated: ask for access at https://huggingface.co/datasets/"),
        ("math500", "the data set HuggingFaceH4/MATH-500 cannot be fetched from the hub"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(hub, tmp_path, task, message):
    code = f"""
from powercut.errors import SettingError
from powercut.evals.tasks import TASKS
try:
    TASKS[{task!r}].problems()
except SettingError as error:
    print(error)
"""
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout.startswith(message), run.stderr[-500:]
    assert run.stdout.rstrip().endswith("give --data FILE")
    assert run.stdout.count("\n") == 1
