"""Flags come from the samplers' dataclasses; every help page has an example."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from powercut.cli import main
from powercut.cli.options import flag, sampler_from_flags
from powercut.samplers import SAMPLERS, EntropyCut, Standard


@pytest.fixture
def page(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def show(*arguments):
        assert main([*arguments, "--help"]) == 0
        return capsys.readouterr().out

    return show


STUDIES = [f"study {name}" for name in ("anchors", "decisions", "divergence", "lengths", "mixing", "tree")]
COMMANDS = ["sample", "eval", "models", "report", "reproduce", "serve", "study", *STUDIES, "verify"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_page_has_an_example(page, command):
    text = page(*command.split())
    assert re.search(r"(?i)example", text)
    assert f"powercut {command}".strip() in text


SHOW = """
import contextlib, io, json, os, sys
from powercut.cli import main
pages = {}
for columns in ("100", "200"):
    os.environ["COLUMNS"] = columns
    for command in sys.argv[1:]:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert main([*command.split(), "--help"]) == 0
        pages[columns + command] = shown.getvalue()
json.dump(pages, sys.stdout)
"""


@pytest.fixture(scope="module")
def narrow_and_wide():
    """Each command's page at 100 and at 200 columns, from a process where nothing changes how rich draws."""
    run = subprocess.run([sys.executable, "-c", SHOW, *COMMANDS], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_example_is_broken_in_two_at_100_columns(narrow_and_wide, command):
    """What is copied from there runs."""

    def examples(columns):
        lines = [line.strip().removeprefix("Example: ") for line in narrow_and_wide[columns + command].splitlines()]
        return [line for line in lines if line.startswith(f"powercut {command}")]

    wide = examples("200")
    assert wide
    assert examples("100") == wide
    assert max(map(len, narrow_and_wide["100" + command].splitlines())) <= 100


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 0
    assert "sample" in capsys.readouterr().out


def test_every_setting_of_every_sampler_is_a_flag_with_its_help_and_default(page):
    text = page("sample")
    for kind in SAMPLERS.values():
        for field in dataclasses.fields(kind):
            assert flag(field.name) in text
    assert "Settings of every sampler" in text
    assert "Settings of entropy-cut" in text
    assert "Default: 4." in text


@pytest.mark.parametrize(
    ("owners", "flags"),
    [
        ("smc, power-smc", ("--particles", "--ess-threshold", "--moves")),
        ("power-smc", ("--ramp-tokens",)),
        ("entropy-cut, uniform-cut", ("--steps", "--tries")),
        ("tmc", ("--candidates", "--keep", "--rollouts", "--horizon")),
        ("best-of-n", ("--budget", "--select")),
    ],
)
def test_flags_stand_with_the_samplers_that_have_them(page, owners, flags):
    [panel] = re.findall(rf"─ Settings of {owners} ─.*?╰", page("sample"), re.DOTALL)
    assert all(f"{name} " in panel for name in flags)


def test_a_default_that_differs_is_shown_for_each(page):
    assert "Default: 32 (smc, power-smc); 192 (tmc)." in page("sample")


def test_flags_are_read_as_the_settings_types():
    built = sampler_from_flags(
        "entropy-cut",
        {"alpha": "2", "top_k": "all", "stop": ["x", "id:7"], "early_reject": False, "steps": "0", "beta": None},
    )
    assert built == EntropyCut(alpha=2.0, top_k=None, stop=("x", 7), early_reject=False, steps=0)
    assert type(built.alpha) is float
    assert sampler_from_flags("entropy-cut", {"temperature": "none"}) == EntropyCut()
    assert sampler_from_flags("standard", {"stop": [], "alpha": None}) == Standard()


def test_help_says_of_each_sampler_what_holds_for_it(page):
    text = " ".join(page("sample").replace("│", " ").split())
    assert (
        "Power of the target p^alpha. inf: accept only gains in log p (entropy-cut, uniform-cut). Default: 4." in text
    )
    assert "None: 1/alpha (all but best-of-n). Default: none (all but best-of-n); 1 (best-of-n)." in text
    assert "Settings of all but standard, best-of-n" in text


@pytest.mark.parametrize("columns", ["80", "100", "140"])
def test_nothing_is_cut_off_at_usual_widths(page, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    panels = re.findall(r"─ (?:Settings|Switches) of .*?╰", page("sample"), re.DOTALL)
    assert len(panels) > 5
    assert not any("…" in panel for panel in panels)
