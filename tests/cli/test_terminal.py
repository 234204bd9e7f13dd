"""What a model, a server or a run folder says never acts on the terminal."""

import json

import pytest

from powercut.cli import main
from powercut.errors import visible
from tests.cli import fake
from tests.report.example import about_cell, write_run

EVIL = "\x1b]0;title\x07\x9b31m\x7f\u202e\r!"
SHOWN = r"\u001b]0;title\u0007\u009b31m\u007f\u202e\u000d!"


def test_what_is_shown_of_control_characters():
    assert visible(EVIL) == SHOWN
    assert visible("é\t漢字\r\n\n😀") == "é\t漢字\r\n\n😀"
    assert visible("\ud83d \x00") == r"\ud83d \u0000"


class EvilText(fake.LetterText):
    def decode_now(self, tokens):
        return EVIL


@pytest.fixture
def evil(monkeypatch):
    monkeypatch.setattr(fake.FakeEngine, "letters", EvilText())
    monkeypatch.setattr(fake.FakeEngine, "name", EVIL)


@pytest.mark.parametrize("more", [[], ["--json"], ["-n", "2"]])
def test_a_completion_on_a_terminal_and_in_a_pipe(engine, evil, capsys, monkeypatch, more):
    short = ["sample", f"a{EVIL}", "--max-new-tokens", "6", "--blocks", "2", "--steps", "1", *more]
    assert main(short) == 0
    piped, err = capsys.readouterr()
    assert EVIL in (json.loads(piped)["text"] if "--json" in more else piped)
    assert visible(err) == err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(short) == 0
    shown = capsys.readouterr().out
    assert visible(shown) == shown
    assert (json.loads(shown)["text"] == EVIL) if "--json" in more else (SHOWN in shown)


def test_an_error_s_text(engine, capsys, monkeypatch):
    import powercut

    async def extend(self, request, keep_going=None):
        raise powercut.EngineError(EVIL)

    monkeypatch.setattr(fake.FakeEngine, "extend", extend)
    assert main(["sample", "a"]) == 2
    shown = SHOWN.replace(r"\u000d", " ")  # an error is one line
    assert capsys.readouterr().err == f"error: prompt 0, sample 0: {shown}\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_report_on_a_run_folder(tmp_path, capsys, monkeypatch, terminal):
    cells = [about_cell(f"t{EVIL}", f"m{EVIL}\ud800", "standard", {f"k{EVIL}": EVIL + i}, 3, 1) for i in "ab"]
    for at, cell in enumerate(cells):
        cell["cell"] = f"cell{at}"
    folder = write_run(tmp_path / "run", cells)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    made = [(folder / "report" / name).read_text() for name in ("report.md", "results.csv", "report.html")]
    for text in (out, err, *made):
        plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")  # what makes a heading bold
        assert visible(plain) == plain
    assert all(r"\u001b" in text.replace("\\\\", "\\") for text in made)
