"""What the tests of ``powercut sample`` share: a run of it, what it printed, and what it is given."""

import io
import json

from powercut.cli import main

SHORT = ["--max-new-tokens", "6", "--blocks", "2", "--steps", "3"]


def run(capsys, *arguments):
    code = main(["sample", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def lines(text):
    def refuse(word):
        raise AssertionError(f"not strict JSON: {word}")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def pipe_in(monkeypatch, data: bytes):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def write(tmp_path, content):
    file = tmp_path / "prompts"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)
