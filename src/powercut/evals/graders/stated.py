r"""Where a completion states its answer: the one reader of all graders of answers, and its order of precedence.

What is read is the text behind the last ``</think>``, if anything stands there, up to the line that opens another
problem ("Question: ..."), if an answer is stated before it. There, the strongest first:

1. the last box, ``\boxed{...}``, with something in it; boxes joined by nothing but a comma, "and" or "or" are one;
2. the last ``<answer>...</answer>``;
3. what stands alone behind ``####``, the first in the text: it ends a solution;
4. what follows "final answer is", "Final answer:" or the heading "Final answer", the last first;
5. what follows "answer is", "Answer:", "option is", "choice is" or the heading "Answer", the last first;
6. what "is the answer" or "is correct" follows, the last first.

Each grader takes the first of these in which it finds an answer of its kind, and says itself what it takes where there
is none. What is empty, or says "your answer here" or "not ...", states nothing. Behind a plain "Answer:" a whole
solution may begin: graders take only what is short there, or a formula. One pass each, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 2000
"""Characters of a statement that are looked at."""

MOST = 100
"""Statements of one kind that are looked at."""

_THOUGHT = re.compile(r"</(?:think(?:ing)?|thought|reasoning)>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷", re.IGNORECASE)
_ANOTHER = re.compile(
    r"^[\s#*_>-]{0,9}(?:next\s)?(?:question|problem|exercise|q|human|user|instruction)\s?\d*[*_]{0,2}[ ]?[:.]"
    r"|^[\s#*_>]{0,9}(?:question|problem|exercise) \d+\b|^<\|(?:im_start|user|start_header_id)\|>",
    re.IGNORECASE | re.MULTILINE,
)
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_JOINED = re.compile(
    r"(?:[\s$,;.]|\\[()\[\],;! ]|\\q?quad|\b(?:and|or)\b|\\(?:text|mbox)\s*\{\s*,?\s*(?:and|or)?\s*\}|\b\w{1,2}\s*=)*"
)
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]*####[ \t]*([^#\s]+|\$[^$\n]+\$)[ \t]*$", re.MULTILINE)
_VERB = (
    r"(?:is|are|was|(?:would|should|must|will|can only|has to|have to|turns out to) be|becomes|equals"
    r"|comes (?:out )?to(?: be)?|remains)\b"
)
_ADVERB = (
    r"(?:\s+(?:given by|equal to|that|therefore|thus|then|simply|just|hence|indeed|clearly|actually|now|still|also"
    r"|most likely|likely|probably|definitely|of course)\b,?)"
)
_MARK = re.compile(
    r"(?P<final>\bfinal\s+)?(?:\b(?:answers?|option|choice)\b|答案)[*_\"'`)\]]{0,4}"
    r"(?:\s(?:to|for|of|in|here|then|now|therefore|thus|hence|among|from|we)\b[^.\n:=?!]{0,80}?|\s?\([^()\n]{0,60}\))?"
    rf"(?:[*_]{{0,2}}\s{{0,2}}(?P<verb>{_VERB})[*_]{{0,2}}{_ADVERB}{{0,3}}(?:[*_\s]{{0,3}}[:=])?"
    r"|[*_\s]{0,3}[:=]|\s(?:[-–—]|->|→|⇒|\\(?:Rightarrow|implies|to))\s|(?<=答案)[是为])",
    re.IGNORECASE,
)
_SOUGHT = re.compile(
    r"\b(?:find|get|obtain|reach|calculate|compute|determine|give|check|verify|simplify|express)\s(?:(?:the|our|an|your)\s)?$",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^[ \t#*_>]*(?:\\(?:textbf|section\*?|subsection\*?)\{)?(?:\d+[.)][ \t]*)?(?:(?:the|my)[ ])?(?P<final>final[ ])?"
    r"answer[ \t}*_#.:]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BEHIND = re.compile(
    r"\s(?:is|are)\s(?:(?:therefore|thus|indeed|hence)\s)?(?:(?:the|our|my)\s(?:(?:final|correct|right|best|only)\s){0,2}"
    r"(?:answer|option|choice)s?\b|(?:the\s)?(?:correct|right)\b(?=[*_]{0,2}(?:[.,;!\n]|\s(?:because|since|as)\b|$)))",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:if|suppose|assum\w+|whether|when|unless|not|neither|none|nor|never|cannot|which|what|why|is)\b|n['’]t\b",
    re.I,
)
_NOTHING = re.compile(
    r"(?:(?:the|your|my|final|numerical|correct|answer|letter|here|result|choice|option|expression|number|solution)"
    r"\b\s*)+|\.*|…+|_+|\?+|-+|[\[<(].{0,40}(?:answer|letter).{0,20}[\])>]|(?:\\[cl]?dots|\\cdot|\\ldots|\\square)\s*",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"(?:(?:definitely |clearly |obviously )?(?:not|never|neither|no longer)|wrong|incorrect|correct|right|in|on|at"
    r"|given|shown|found|obtained|above|below|within|inside|as|what|clear|it)\b"
)
"""How what says something about the answer begins, and does not say it; a sentence of its own has a capital."""

_FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$((?:[^$\\]|\\.)+?)\$|\\\((.+?)\\\)", re.DOTALL)
_COLOR = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}")
_WIDE = str.maketrans("（）：，。＝", "():,.=")
_STYLED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathsf|mathit|mbox|bf|rm)\s*\{([^{}]*)\}"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a sentence states: its answer begins ``text``, or ends it where ``ends``.

    Where it is not ``firm`` ("Answer: ..."), a whole solution may begin there.
    """

    text: str
    ends: bool = False
    firm: bool = True


@dataclass(frozen=True, slots=True)
class Stated:
    """What a text states.

    ``box`` is what is in its box (None: it has none), ``sentences`` the other statements, the strongest first, and
    ``text`` the part that was read.
    """

    text: str
    box: str | None
    sentences: tuple[Sentence, ...]


def read(text: str) -> Stated:
    """What ``text`` states, by the order of precedence above."""
    text = _answering(text.translate(_WIDE))
    return Stated(text, boxed(text), tuple(_sentences(text)))


def boxed(text: str) -> str | None:
    r"""What is in the last \boxed{} that is closed and not empty, or in the last several that are one answer."""
    found = [(start, end) for start, end in _boxes(text) if not _empty(text[start:end])]
    if not found:
        return None
    parts = [found[-1]]
    for start, end in reversed(found[:-1]):
        next_start = parts[-1][0]
        between = text[end + 1 : text.rfind("\\", 0, next_start)]
        if end >= next_start or len(between) > 100 or not _JOINED.fullmatch(between):
            break
        parts.append((start, end))
    return ", ".join(dict.fromkeys(text[start:end].strip() for start, end in reversed(parts)))


def plain(latex: str) -> str:
    r"""LaTeX with the contents of \text{} and its like in their place."""
    return _STYLED.sub(r" \1 ", _COLOR.sub("", latex))


def first_sentence(said: str) -> str:
    """Its beginning, up to the end of a sentence or line; a dot inside a number or behind one letter ends none."""
    line = said.strip().partition("\n")[0]
    return re.split(r"(?<!\b[a-z])[.!?](?=\s|$)|;\s", line, maxsplit=1)[0].strip()


def formula_at_start(said: str) -> str | None:
    """The formulas between math delimiters that ``said`` begins with, joined by commas; None where it does not."""
    found, at = [], 0
    while match := _FORMULA.match(said, at):
        found.append(next(part for part in match.groups() if part is not None).strip())
        joint = re.compile(r"\s*(?:,?\s*(?:and|or)\b|[,;])\s*").match(said, match.end())
        if joint is None:
            break
        at = joint.end()
    return ", ".join(found) or None


def _answering(text: str) -> str:
    """The part of a text in which it answers: behind the thinking, in front of another problem."""
    behind = [match.end() for match in _THOUGHT.finditer(text)]
    if behind and text[behind[-1] :].strip():
        text = text[behind[-1] :]
    others = [match.start() for match in _ANOTHER.finditer(text)]
    if others and (stated := _first_statement(text)) is not None:
        return text[: next((other for other in others if other > stated), len(text))]
    return text


def _first_statement(text: str) -> int | None:
    """Where the first answer is stated that has a number, a formula or a letter in it."""
    ends = [end for start, end in _boxes(text) if not _empty(text[start:end])][:1]
    ends += [match.start() for match in [_HASHES.search(text)] if match]
    for match in _MARK.finditer(text):
        said = _following(text, match.end())
        if re.match(r"[^\n]{0,60}?(?:\d|[$\\]|\b[A-J]\b)", said):
            ends.append(match.end())
            break
    return min(ends, default=None)


def _sentences(text: str) -> Iterator[Sentence]:
    for tag in [said for said in _TAG.findall(text) if not _empty(said)][-1:]:
        yield Sentence(_spaced(tag[:LONGEST]))
    for marked in _HASHES.findall(text)[:MOST]:
        yield Sentence(marked)
    marks = [mark for mark in _MARK.finditer(text) if _states(text, mark)]
    marks = sorted([*marks, *_HEADING.finditer(text)], key=re.Match.start, reverse=True)[:MOST]
    for final in (True, False):
        for mark in marks:
            said = _following(text, mark.end()) if bool(mark["final"]) is final else ""
            if said and not _empty(said) and not _ABOUT.match(said):
                yield Sentence(said, firm=final or _tells(mark))
    for mark in list(_BEHIND.finditer(text))[: -MOST - 1 : -1]:
        before = text[max(0, mark.start() - 200) : mark.start()]
        before = re.split(r"\n|[.!?;](?=\s)", before)[-1].strip()
        if before and not _DOUBTED.search(before):
            yield Sentence(_spaced(before), ends=True)


def _states(text: str, mark: re.Match[str]) -> bool:
    """Whether the answer is told and not looked for: "find the answer:", "convert the answer to weeks: ..."."""
    before = text[max(0, mark.start() - 30) : mark.start()]
    if _SOUGHT.search(before):
        return False
    line_begins = not before.rpartition("\n")[2].strip(" *_#>")
    return _tells(mark) or line_begins or " " not in mark[0].strip(" :=*_").removeprefix(mark["final"] or "")


def _tells(mark: re.Match[str]) -> bool:
    """Whether it is "answer is", not "Answer:"."""
    return bool(mark.groupdict().get("verb")) or mark[0][-1] in "是为"


def _following(text: str, at: int) -> str:
    """What stands behind a mark: the rest of its line, or the next line with something on it."""
    said = re.sub(r"^[\s*_:}\"`>]+", "", text[at : at + LONGEST])
    formula = _FORMULA.match(said)
    end = said.find("\n", formula.end() if formula else 0)
    return _spaced((said[:end] if end >= 0 else said).replace("\n", " "))


def _spaced(said: str) -> str:
    """With one space where there are many: what graders look for in it they look for at every space."""
    return re.sub(r"\n+", "\n", re.sub(r"[^\S\n]+", " ", said)).strip()


def _boxes(text: str) -> list[tuple[int, int]]:
    """Where the inside of each closed box begins and ends, in the order of their beginnings."""
    open_braces: list[int | None] = []  # where the inside of a box begins; None for any other brace
    found = []
    for match in _BRACES.finditer(text):
        mark = match.group()
        if mark == "{":
            open_braces.append(None)
        elif mark == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                found.append((start, match.start()))
        elif mark.endswith("{") and len(mark) > 2:
            open_braces.append(match.end())
    return sorted(found)


def _empty(said: str) -> bool:
    if len(said) > LONGEST:
        return False
    return _NOTHING.fullmatch(plain(said).strip("{}$*_ \n")) is not None
