"""The README names every sampler, setting and command."""

import dataclasses
from pathlib import Path

from powercut.cli import app
from powercut.samplers import SAMPLERS

README = Path(__file__).parents[1].joinpath("README.md").read_text()


def test_every_sampler_and_setting_is_in_its_table():
    for name, kind in SAMPLERS.items():
        assert f"| `{kind.__name__}` | `{name}` |" in README
        for field in dataclasses.fields(kind):
            assert f"| `{field.name}` |" in README


def test_every_command_is_shown():
    for command in app.registered_commands:
        assert f"powercut {command.callback.__name__}" in README
