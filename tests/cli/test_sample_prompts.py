"""The prompts of ``powercut sample``: from the command line, a file or stdin, and what is wrong with them."""

import io

import pytest

from powercut.cli.prompts import read_prompts
from powercut.errors import SettingError
from tests.cli import fake
from tests.cli.sample_tools import SHORT, lines, pipe_in, run, write


def test_texts_come_in_the_order_of_prompts_and_samples(engine, capsys, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\n\nb\n")
    arguments = ("--file", str(prompts), "-n", "3", *SHORT)
    code, out, err = run(capsys, *arguments)
    assert code == 0
    results = {(r["prompt_index"], r["sample_index"]): r["text"] for r in lines(run(capsys, *arguments, "--json")[1])}
    assert out == "\n".join(results[i, j] + "\n" for i in range(2) for j in range(3))
    assert err.index("prompt 0, sample 2: a") < err.index("prompt 1, sample 0: b")


def test_prompts_from_stdin_lines_and_json_lines(engine, capsys, monkeypatch):
    pipe_in(monkeypatch, '﻿a\r\n{"tokens": [1, 2], "id": "q1", "odd": "\\ud800"}\n{"prompt": "b"}\n'.encode())
    code, out, _ = run(capsys, "--json", *SHORT)
    assert code == 0
    results = sorted(lines(out), key=lambda r: r["prompt_index"])
    assert [r["meta"] for r in results] == [{}, {"id": "q1", "odd": "\ud800"}, {}]


def test_a_dash_for_file_is_stdin(engine, capsys, monkeypatch):
    pipe_in(monkeypatch, b"a\n")
    assert run(capsys, "--file", "-", *SHORT)[0] == 0


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "has no prompt"),
        (b"\n \n", "has no prompt"),
        (b"a\n\xff\n", ":2: not UTF-8"),
        (b"a\nb\0\n", ":2: a NUL byte, which no UTF-8 text has; save the file as UTF-8"),
        ("a\nb".encode("utf-16-le"), ":1: a NUL byte"),
        ("a\nb".encode("utf-16"), ": a NUL byte"),
        (b"\x1f\x8b\x08", ":1: not UTF-8"),
        (b'a\n{"prompt": \n', ":2: not a JSON object"),
        (b'{"prompt": "a"} {"prompt": "b"}', ":1: not a JSON object (Extra data"),
        (b'{"prompt": "a"},', ":1: not a JSON object (Extra data"),
        (b'{"prompt": "a", "prompt": "b"}', ':1: not a JSON object ("prompt" is there twice)'),
        (b'{"messages": [{"role": "user", "role": "system", "content": "a"}]}', '("role" is there twice)'),
        (b'{"prompt": "a", "x": ' + b"9" * 6000 + b"}", ":1: not a JSON object (Exceeds the limit"),
        (b'{"prompt": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", ":1: not a JSON object (maximum recursion"),
        (b'["a"]\n["b"]\n', ":1: a list is no prompt"),
        (b"a\n[1, 2]\n", ":2: a list is no prompt: token ids are written"),
        (b"[]", "has no prompt"),
        (b"[1, 2]", ", prompt 1: a prompt is a string, a list of chat messages or a list of token ids, not int"),
        (b'["a", null]', ", prompt 2: a prompt is a string"),
        (b'["a", {"no": 1}]', ", prompt 2: an object needs one of prompt, messages, tokens"),
        (
            b'[{"role": "user", "content": "a"}]',
            ", prompt 1: an object needs one of prompt, messages, tokens (it has none",
        ),
        (b'[\n{"prompt": "a"},\n]', ": not a JSON list (Expecting value: line 3"),
        (b'[{"prompt": "a"},\n{"prompt": "b"}', ": not a JSON list (Expecting ',' delimiter: line 2"),
        (b'["a", "b",]', ":1: not a JSON list"),
        (b'["a", "b",\n"c"', ": not a JSON list"),
        (b'{"question": "a"}', ":1: an object needs one of prompt, messages, tokens"),
        (b'{"prompt": "a", "tokens": [1]}', "one of prompt, messages, tokens (it has prompt, tokens)"),
        (b'{"prompt": [1]}', ":1: prompt holds what belongs in tokens"),
        (b'{"tokens": "a"}', ":1: tokens holds what belongs in prompt"),
        (b'{"tokens": []}', ":1: the prompt is empty"),
        (b'{"tokens": [1.5]}', ":1: the prompt's token ids must be whole numbers"),
        (b'{"prompt": " "}', ":1: the prompt is empty"),
        (b'{"prompt": null}', ":1: a prompt is a string"),
        (b'{"messages": [{"role": "user"}]}', ":1: a chat message needs a role and a content"),
    ],
)
def test_a_bad_file_is_named_with_its_line(no_engine, capsys, tmp_path, content, part):
    prompts = tmp_path / "prompts"
    prompts.write_bytes(content)
    code, out, err = run(capsys, "--file", str(prompts))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {prompts}")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_prompts_that_never_end_are_refused(no_engine, capsys, monkeypatch, device):
    monkeypatch.setattr("powercut.cli.prompts._LARGEST", 1 << 20)
    code, out, err = run(capsys, "--file", device)
    assert (code, out, err) == (2, "", f"error: {device} has more than 1 MB: give it in parts\n")


def test_without_a_prompt_on_a_terminal_it_says_how_to_give_one(no_engine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, _, err = run(capsys)
    assert code == 2
    assert "--file FILE, or on stdin" in err


def test_a_json_list_is_read_as_prompts(engine, capsys, tmp_path):
    file = write(tmp_path, '[{"prompt": "a", "id": 1},\n "b",\n {"tokens": [3]}]\n')
    code, out, _ = run(capsys, "--file", file, "--json", *SHORT)
    assert code == 0
    assert {r["prompt_index"]: r["meta"] for r in lines(out)} == {0: {"id": 1}, 1: {}, 2: {}}  # as they finish


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("\ufeff\ufeff" + '{"tokens": [1]}\n\ufeff{"tokens": [2]}\n', [[1], [2]]),
        ("\ufeff" + '["a", "b"]', ["a", "b"]),
        ('[[1, 2], [{"role": "user", "content": "c"}], {"messages": [{"role": "user", "content": "d"}]}]', "mixed"),
        ("a\r\nb\rc", ["a", "b", "c"]),
        ('{"prompt": "a"}\r\n{"prompt": "b"}', ["a", "b"]),
        ("a\u2028b\u0085c\x0bd\n", ["a\u2028b\u0085c\x0bd"]),
        ("[ab]\n[b] a\n[INST] c [/INST]\n[1] and [2]\n", ["[ab]", "[b] a", "[INST] c [/INST]", "[1] and [2]"]),
        ('["a"] and on\n', ['["a"] and on']),
        ('"a"\n', ['"a"']),
        ('{"prompt": "a\\u0000b"}', ["a\0b"]),
        ('{"prompt": "\\ud83d\\ude00"}', ["😀"]),
        (
            '{"messages": [{"role": "user", "content": ["a", {"text": "b"}, {"type": "input_text", "text": "c"}]}]}',
            "abc",
        ),
    ],
)
def test_what_a_file_holds(content, prompts, tmp_path):
    found = [asked.prompt for asked in read_prompts(None, write(tmp_path, content))]
    if prompts == "mixed":
        prompts = [[1, 2], *([{"role": "user", "content": letter}] for letter in "cd")]
    if prompts == "abc":
        prompts = [[{"role": "user", "content": "abc"}]]
    assert found == prompts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "cut \\ud83d"}', "character 5 of the prompt is half a character"),
        ('{"messages": [{"role": "user", "content": "\\ud83d"}]}', "character 1 of the prompt is half a character"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "parts of text alone"),
        ('{"prompt": 7}', "a prompt is a string"),
    ],
)
def test_a_bad_line_is_named_and_may_be_skipped(engine, capsys, tmp_path, line, reason):
    file = write(tmp_path, f"a\n{line}\nb\n")
    code, out, err = run(capsys, "--file", file, *SHORT)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}:2: ")
    assert reason in err
    code, out, err = run(capsys, "--file", file, "--skip-bad", "--json", *SHORT)
    assert code == 0
    assert len(lines(out)) == 2
    assert f"skipped: {file}:2: " in err


def test_a_prompt_that_the_engine_cannot_take_is_named_and_may_be_skipped(engine, capsys, tmp_path, monkeypatch):
    def check(self, request):
        if (request.prompt_length or len(request.context)) > 3:
            raise SettingError("the prompt is too long: shorten it")

    monkeypatch.setattr(fake.FakeEngine, "check", check)
    file = write(tmp_path, "a\nabcde\nb\n")
    code, out, err = run(capsys, "--file", file, "--quiet", *SHORT)
    assert (code, out, err) == (2, "", f"error: {file}:2: the prompt is too long: shorten it\n")
    code, out, err = run(capsys, "--file", file, "-n", "2", "--skip-bad", "--quiet", "--json", *SHORT)
    assert code == 0
    assert {r["prompt_index"] for r in lines(out)} == {0, 2}
    assert err == f"skipped: {file}:2: the prompt is too long: shorten it\n"


def test_a_path_that_cannot_be(no_engine, capsys):
    assert run(capsys, "--file", "x\0y")[::2] == (2, "error: --file: cannot read x\\u0000y: embedded null byte\n")
