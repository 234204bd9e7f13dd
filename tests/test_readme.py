"""The README names every sampler and command; settings are in docs/samplers.md (test_docs.py)."""

from pathlib import Path

from powercut.cli.app import app
from powercut.samplers import SAMPLERS

README = Path(__file__).parents[1].joinpath("README.md").read_text()


def test_every_sampler_is_in_its_table():
    for name, kind in SAMPLERS.items():
        assert f"| `{kind.__name__}` | `{name}` |" in README
    assert "(docs/samplers.md)" in README


def test_every_command_is_shown():
    for command in app.registered_commands:
        assert f"powercut {command.name or command.callback.__name__}" in README
