"""The pages that people read, taken apart: their commands and their Python."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))
cli_page = importlib.import_module("cli_page")

FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
GENERATED = ("api.md", "cli.md", "errors.md")
PAGES = {file.name: file.read_text() for file in FILES if file.name not in GENERATED} | {"cli.md": cli_page.page()}
"""Every page's text by its name; of those that are generated the one with commands."""

PROGRAMS = ("powercut", "make", "pip", "pytest", "python", "curl", "inspect", "lm_eval", "vllm", "llama-server", "ray")
"""What a command begins with. A fenced block without a language holds commands, and nothing else."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`")
_NO_COMMAND = re.compile(r"\.\.\.|…|\bCOMMAND\b|\bTASK\b|\bRUN_DIR\b")
"""In the running text: of what kind a command is, and no command yet."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for found, body in _FENCE.findall(page) if found == language]


def spans(page: str) -> list[str]:
    """What is set as code in the running text."""
    return re.findall(r"`([^`]+)`", _FENCE.sub("", page))


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page, in their order: of its blocks without a language, and inline."""
    lines = []
    for body in blocks(page, ""):
        shown = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]  # the rest is output
        lines += shown or body.replace("\\\n", " ").splitlines()
    text = _FENCE.sub("", page)
    lines += [line for line in _INLINE.findall(text.replace("\n", " ")) if not _NO_COMMAND.search(line)]
    return [words for line in lines if (words := _command(shlex.split(line, comments=True)))]


def _command(words: list[str]) -> list[str]:
    """The words from the program on: no variables that are set for it, or exported."""
    start = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=|export$", word)), len(words))
    return words[start:]
