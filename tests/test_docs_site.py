"""The site: every page has its place, what is generated says what the code says, and pictures are those of the code."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

import powercut as pc
from powercut.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def leaves(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else leaves(value)


def test_every_page_has_its_place(script):
    nav = list(leaves(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert len(nav) == len(set(nav))
    assert set(nav) == {page.name for page in DOCS.glob("*.md")} | set(script("generated_pages").PAGES)


def test_generated_pages_are_not_kept(script):
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"docs/{name}" for name in script("generated_pages").PAGES} <= set(ignored)


def test_they_are_written(script, tmp_path, capsys):
    script("generated_pages").main([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["api.md", "cli.md", "errors.md"]


def flags(text):
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))


def test_the_command_line_s_page_is_its_help(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    sections = re.split(r"^## ", script("cli_page").page(), flags=re.MULTILINE)[1:]
    assert len(sections) > 10
    for section in sections:
        name, _, rest = section.partition("\n")
        assert main([*name.split()[1:], "--help"]) == 0
        shown = capsys.readouterr().out
        rows = re.findall(r"^\| (`.*?) \| (.*) \|$", rest, re.MULTILINE)
        spelt = set().union(*(flags(row[0]) for row in rows if row[0].startswith("`-")), set())
        heads = [re.match(r"│[ *]+(?:-\S+ *)+", line) for line in shown.splitlines()]
        assert spelt == flags(" ".join(head[0] for head in heads if head)) - {"-h", "--help"}
        words = " ".join(re.sub("[│╭╰─]", " ", shown).split())
        for _, text in rows:
            plain = text.replace("\\|", "|").replace("&lt;", "<").split(" Default: ")[0]
            assert plain.replace("`", "") in words.replace("`", "")


def test_the_python_page_has_the_public_names(script):
    parts = script("api_page").PARTS
    assert sorted(name for names in parts.values() for name in names) == sorted(pc.__all__)
    page = script("api_page").page()
    for name in pc.__all__:
        assert f"::: powercut.{name}\n" in page
    assert "| `refine_finished` | `False` |" in page


def strings(script):
    """Every text in the source, as the page of errors writes it."""
    for file in (ROOT / "src/powercut").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                yield script("errors_page").spelt(node)


def test_messages_that_are_explained_are_messages(script):
    page = (DOCS / "troubleshooting.md").read_text()
    explained = re.findall(r"^\| `([^`]* [^`]* [^`]*)` \|", page, re.MULTILINE)
    assert len(explained) > 5
    source = "\n".join(strings(script))
    assert [message for message in explained if message not in source] == []


def test_the_page_of_errors_has_them(script):
    page = script("errors_page").page()
    assert page.count("\n- `") > 300
    assert "\n- `the … engine has no option …`\n" in page
    assert len(re.findall("^## ", page, re.MULTILINE)) == len(script("errors_page").AREAS) + 1


def test_pictures_are_those_of_the_code(script, tmp_path, capsys):
    script("pictures").main([str(tmp_path)])
    page = (DOCS / "how-it-works.md").read_text()
    drawn = {path.name: texts(path) for path in tmp_path.iterdir()}
    assert drawn == {path.name: texts(path) for path in (DOCS / "pictures").iterdir()}
    assert all(f"(pictures/{name})" in page for name in drawn)


def texts(path):
    """What is written in a picture: its ticks, shares and names."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    assert found
    return found
