"""From a completion's text to the Python program that it gives as its answer. Python's own parser says what is code."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from powercut.evals.graders.code.statements import defines_only, does_nothing, free, is_stub, names, span
from powercut.evals.problem import Problem

_INDENT = "    "
_FENCE = re.compile(r"`{3,}")
_LANGUAGE = re.compile(r"\A[ \t]*[\w+#.{}=-]*[ \t]*\n")
_MOST_FENCES = 200
_MOST_INSIDE = 6
"""Fences in the strings of one block."""
_LINES_OF_PROSE = 30
"""In front of a function, after which no code of its is looked for."""
_MOST_PARSED = 3_000_000
"""Characters, of one text: some seconds. Only hostile texts get there, and are read no further."""


def solution(problem: Problem, text: str) -> str | None:
    """The program that ``text`` gives as its answer, imports and helpers of the question included; None if it is empty.

    ``text`` continues the question, or holds the function (in a fence or not) or its body. The last block that defines
    the function is taken, whole if it parses, else the longest part of it that does; a bare signature only if there is
    nothing else. Bodies get the question's indentation. What cannot be read so is given as it stands, for Python to
    say what is wrong with it.
    """
    text = text.replace("\r\n", "\n")
    if not re.sub(r"`{3,}[ \t]*\w*", "", text).strip():
        return None
    reader = _Reader(problem)
    blocks = list(reader.blocks(text))
    if read := reader.read(blocks):
        block, found = read
        return _program(found, [other.parsed for other in blocks if other is not block])
    code = next((block.code for block in [*blocks[1:], blocks[0]] if block.code.strip()), text)
    return f"{problem.question}{textwrap.indent(textwrap.dedent(code), _INDENT)}\n"


_Parsed = tuple[list[str], list[ast.stmt]]
"""Lines, and the statements that they parse as."""


def given(problem: Problem) -> str:
    """What the question has in front of its function: imports and helpers."""
    parts = re.split(rf"^(?:async )?def {re.escape(problem.entry_point)}\b", problem.question, flags=re.MULTILINE)
    return parts[0] if len(parts) > 1 else ""


@dataclass(frozen=True)
class _Block:
    """A part of the text between fences, with its parsed ``tree`` where all of it parses."""

    code: str
    tree: ast.Module | None

    @property
    def parsed(self) -> _Parsed:
        """Its lines and statements; no statements where not all of it parses."""
        return self.code.split("\n"), self.tree.body if self.tree else []


@dataclass(frozen=True)
class _Found:
    """Lines that define the function, as ``statements``; ``given`` are lines of the question that belong before them.

    ``rest`` is what follows a function that ended: it may help out, and may be anything.
    """

    lines: list[str]
    statements: list[ast.stmt]
    given: str = ""
    rest: _Parsed = ([], [])

    def function(self, name: str) -> ast.stmt | None:
        """The statement that the name has its last value from."""
        return next((each for each in reversed(self.statements) if name in names(each)), None)


class _Reader:
    """Reads the blocks of one text for the function that its problem asks for."""

    def __init__(self, problem: Problem) -> None:
        self.name, self.question = problem.entry_point, problem.question
        name = re.escape(self.name)
        self._defines = re.compile(rf"(?:async )?def {name}\b|{name}\s*(?::[^=]+)?=")
        self._given = given(problem)
        self._left = _MOST_PARSED

    def blocks(self, text: str) -> Iterator[_Block]:
        """What stands before, between and behind fences, wherever they are.

        A fence in a string of the code is known by the code around it, which parses only with it.
        """
        fences = list(_FENCE.finditer(text))[:_MOST_FENCES]
        starts = [0, *(fence.end() for fence in fences)]
        ends = [*(fence.start() for fence in fences), len(text)]
        at = 0
        while at < len(starts):
            read = [self._block(text[starts[at] : ends[at]], at > 0)]
            if at > 0 and read[0].tree is None and re.search("[\"']", read[0].code):
                for last in range(at + 1, min(at + _MOST_INSIDE, len(ends))):
                    read.append(self._block(text[starts[at] : ends[last]], True))
            whole = next((number for number, block in enumerate(read) if block.tree is not None), 0)
            yield read[whole]
            at += whole + 1

    def _block(self, code: str, fenced: bool) -> _Block:
        if fenced:
            code = textwrap.dedent(_LANGUAGE.sub("", code, count=1))
        tree = self._parse(code)
        return _Block(code, tree if isinstance(tree, ast.Module) else None)

    def read(self, blocks: Sequence[_Block]) -> tuple[_Block, _Found] | None:
        """The block that gives the answer, and what it gives."""
        before = blocks[0]
        if re.match(r"(?:[ \t]*\n)*[ \t]", before.code) and (found := self.continued(before)):
            return before, found  # what continues the question comes before any second thought
        stub = None
        for block in reversed(blocks):
            if found := self.defined(block):
                if not is_stub(found.function(self.name)):
                    return block, found
                stub = stub or (block, found)
        for block in [*blocks[1:], before]:
            if found := self.continued(block):
                return block, found
        return stub

    def defined(self, block: _Block) -> _Found | None:
        """The longest part of a block that parses and defines the function; a bare signature only for want of more."""
        lines, statements = block.parsed
        if statements:
            found = _Found(lines, statements, self._given)
            return found if found.function(self.name) else None
        stub = None
        for at in reversed([number for number, line in enumerate(lines) if self._defines.match(line)]):
            part = self._around(lines, at)
            if part is not None and not is_stub(part.function(self.name)):
                return part
            stub = stub or part
        return stub

    def _around(self, lines: list[str], at: int) -> _Found | None:
        """The longest part that parses and defines the function in line ``at``."""
        longest, failures = None, 0
        for start in range(at, -1, -1):
            if not lines[start] or lines[start][0] in " \t":
                continue
            read = self._longest(lines[start:])
            found = _Found(read[0], read[1], self._given) if read and len(read[0]) > at - start else None
            if found is not None and found.function(self.name):
                longest, failures = found, 0
            elif (failures := failures + 1) > _LINES_OF_PROSE:
                break
        return longest

    def continued(self, block: _Block) -> _Found | None:
        """The question, continued by a block whose indentation may have suffered."""
        best: tuple[int, _Found] | None = None
        for body in _indentations(block.code):
            lines, statements = self._longest((self.question + body).split("\n")) or ([], [])
            at = next((number for number, each in enumerate(statements) if self.name in names(each)), None)
            if at is None or is_stub(statements[at]):
                continue
            end = statements[at].end_lineno or 0
            if best is None or end > best[0]:
                best = end, _Found(lines[:end], statements[: at + 1], rest=(lines, statements[at + 1 :]))
        return best[1] if best else None

    def _longest(self, lines: list[str]) -> _Parsed | None:
        """As many of the lines as parse."""
        while lines:
            tree = self._parse("\n".join(lines))
            if isinstance(tree, ast.Module):
                return lines, tree.body
            lines = lines[: min(len(lines) - 1, tree)]
        return None

    def _parse(self, code: str) -> ast.Module | int:
        """The tree of a program, or the number of the line (from 0) where it stops being one."""
        self._left -= len(code)
        if self._left < 0:
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none, and the like
            try:
                return ast.parse(code)
            except SyntaxError as error:
                return max((error.lineno or 1) - 1, 0)
            except (ValueError, MemoryError, RecursionError):  # a null byte, half a character; nested too deeply
                return 0


def _program(found: _Found, others: Sequence[_Parsed]) -> str:
    """What was found, with the question's imports and helpers, and with what it needs of the others."""
    lines = [*found.lines]
    future = []
    for number, statement in enumerate(found.statements):
        is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        around = found.statements[max(number - 1, 0) : number] + found.statements[number + 1 : number + 2]
        first, last = span(statement)
        if (is_future or does_nothing(statement)) and not any({first, last} & {*span(each)} for each in around):
            future += lines[first - 1 : last] if is_future else []
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join([*future, found.given, *_helpers(found, [*others, found.rest]), *lines]) + "\n"


def _helpers(found: _Found, others: Sequence[_Parsed]) -> list[str]:
    """The source of what is used and not defined there, from the last of the others that defines it."""
    known = {name for each in found.statements for name in names(each)}
    wanted = {name for each in found.statements for name in free(each)} - known
    helpers = []
    for lines, statements in reversed(others):
        for each in reversed(statements):
            if defines_only(each) and wanted & {*names(each)}:
                first, last = span(each)
                helpers.append("\n".join(lines[first - 1 : last]))
                wanted = (wanted | free(each)) - {*names(each)} - known
    return helpers[::-1]


def _indentations(code: str) -> Iterator[str]:
    """A body as it stands and as it may have been meant: all of it moved to 4 spaces, or its first line alone."""
    code = re.sub(r"\A(?:[ \t]*\n)+", "", code)
    yield from _moved(code)
    if re.search(r"^ *\t", code, re.MULTILINE):
        yield from _moved(re.sub(r"^[ \t]+", lambda space: space[0].expandtabs(4), code, flags=re.MULTILINE))


def _moved(code: str) -> Iterator[str]:
    yield code
    yield textwrap.indent(textwrap.dedent(code), "    ")
    first, _, rest = code.partition("\n")
    yield f"    {first.lstrip()}\n{rest}"
    depths = [len(line) - len(line.lstrip()) for line in rest.split("\n") if line[:1] in (" ", "\t") and line.strip()]
    yield textwrap.indent(textwrap.dedent(f"{' ' * min(depths, default=0)}{first.lstrip()}\n{rest}"), "    ")
