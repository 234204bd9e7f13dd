"""What a statement of Python defines and uses, and whether it does anything."""

from __future__ import annotations

import ast

_IMPORTS = (ast.Import, ast.ImportFrom)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, *_IMPORTS)


def names(statement: ast.stmt) -> list[str]:
    """What a statement gives a value to."""
    if isinstance(statement, _IMPORTS):
        return [(each.asname or each.name).split(".")[0] for each in statement.names]
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def free(statement: ast.stmt) -> set[str]:
    """What a statement uses and has not set, wherever."""
    nodes = list(ast.walk(statement))
    mentioned = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in mentioned if not isinstance(node.ctx, ast.Load)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {name for node in nodes if isinstance(node, _DEFINITIONS) for name in names(node)}
    return {node.id for node in mentioned} - own


def span(statement: ast.stmt) -> tuple[int, int]:
    """Its first and its last line, decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)])
    return first, statement.end_lineno or first


def is_stub(statement: ast.stmt | None) -> bool:
    """Whether a function has nothing but a docstring and a placeholder, or prose."""
    return isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and all(
        isinstance(each, (ast.Pass, ast.Raise, *_IMPORTS)) or does_nothing(each) for each in statement.body
    )


def _calls(statement: ast.stmt) -> bool:
    effects = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, effects) for node in ast.walk(statement))


def does_nothing(statement: ast.stmt) -> bool:
    """Whether a statement can do nothing but fail: a word of prose, or "Note: this"."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    return isinstance(statement, ast.Expr) and not _calls(statement)


def defines_only(statement: ast.stmt) -> bool:
    """Whether a statement of another block is there for others, and no example of a call."""
    return isinstance(statement, _DEFINITIONS) or (isinstance(statement, ast.Assign) and not _calls(statement))
