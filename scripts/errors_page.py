"""The page of all error messages of powercut, from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/powercut"
KINDS = ("PowercutError", "SettingError", "EngineError", "PromptError", "ContextLengthError", "BudgetError", "Refusal")
VARIES = "…"
HEAD = f"""# Error messages

Every message of powercut, made from its source; {VARIES} stands for what varies. On the command line a message is one
line behind `error:`, and the exit code is 2. In Python it is an exception: `SettingError` (also a `ValueError`) for
what you asked for, `EngineError` (also a `RuntimeError`) for a model or server that fails, both a `PowercutError`.
Behind the server it is the `message` of a 400, or of a 500 for an engine. What to do about the usual ones:
[Troubleshooting](troubleshooting.md).
"""
AREAS = {
    "models": "Finding and loading models",
    "engines": "Engines",
    "samplers": "Samplers and their settings",
    "server": "powercut serve",
    "evals": "Evaluation",
    "report": "Reports",
    "view": "The viewer",
    "study": "Studies",
    "integrations": "Inside Inspect and lm-evaluation-harness",
    "cli": "The command line",
}
"""What a package's messages are about; all others stand under REST."""
REST = "Prompts, runs and records"


def messages(file: Path) -> Iterator[str]:
    """The messages of the errors that a file makes, in its order."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            shown = [text for argument in node.args if set(text := spelt(argument)) - set(f" {VARIES}:;.,()'")]
            if shown:
                yield max(shown, key=len)


def spelt(node: ast.expr) -> str:
    """A message as it is written, with a mark for each part that varies."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else VARIES
    if isinstance(node, ast.JoinedStr):
        return "".join(map(spelt, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spelt(node.left) + spelt(node.right)
    return VARIES


def page() -> str:
    """The whole page."""
    areas: dict[str, dict[str, None]] = {title: {} for title in (*AREAS.values(), REST)}
    for file in sorted(SOURCE.rglob("*.py")):
        area = AREAS.get(file.relative_to(SOURCE).parts[0], REST)
        areas[area] |= dict.fromkeys(messages(file))
    lists = ("".join(f"\n- {code(message)}" for message in found) for found in areas.values())
    return HEAD + "".join(f"\n## {title}\n{each}\n" for title, each in zip(areas, lists, strict=True))


def code(text: str) -> str:
    """A message as code, whatever is in it."""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"
