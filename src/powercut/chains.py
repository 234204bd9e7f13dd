"""The chains of a file that ``powercut sample --save-trace`` wrote, read again (step_lines.py has the lines).

A field that is not known here is passed over, and so is a line of another kind; fields that older versions did not
write may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from powercut.errors import SettingError, one_line
from powercut.records import Completed, read_lines
from powercut.step_lines import Likely, Piece
from powercut.strict_json import from_json
from powercut.trace import IntArray, Step, Trace


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Tokens that were drawn, and at each position the ``likely`` ones, where the file has them."""

    trace: Trace
    likely: Likely | None


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a chain proposed from ``cut`` on, and what became of it; ``step`` is None for an extension."""

    stage: int
    cut: int
    drawn: Drawn
    step: Step | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The particles at the end of a block: of each its parent's first tokens, so many as ``kept``, and what is new."""

    stage: int
    parents: IntArray
    log_weights: tuple[float, ...]
    kept: IntArray
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnWith:
    """What a chain was drawn with."""

    sampler: str
    settings: Mapping[str, Any]
    seed: int
    model: str


@dataclass(slots=True, eq=False)
class Chain:
    """All that was written of one completion; what was not is None, or missing."""

    prompt_index: int
    sample_index: int
    prompt: IntArray | None = None
    drawn_with: DrawnWith | None = None
    proposals: list[Proposal] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    completed: Completed | None = None

    @property
    def place(self) -> str:
        """What errors and the page call it."""
        return f"prompt {self.prompt_index}, sample {self.sample_index}"

    def walk(self) -> Iterator[tuple[Trace, Proposal, Trace]]:
        """Each proposal, between the completions before and after it. Not of particles, whose moves are mixed.

        Raises SettingError if the lines do not hang together.
        """
        current = Trace.empty()
        for proposal in self.proposals:
            before, cut = current, proposal.cut
            if not 0 <= cut <= len(before) or (before.finished and cut == len(before)):
                raise SettingError(
                    f"the lines of {self.place} do not hang together: some are missing, or of another run"
                )
            if proposal.step is None or proposal.step.accepted:
                current = before.splice(cut, proposal.drawn.trace)
            yield before, proposal, current


@dataclass(slots=True, eq=False)
class Chains:
    """The chains of a file by their places, and the texts of their tokens; ``special`` ones show as no text."""

    by_place: dict[tuple[int, int], Chain] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    special: set[int] = field(default_factory=set)
    prompts: dict[int, IntArray] = field(default_factory=dict)
    run: DrawnWith | None = None

    def add(self, line: Any) -> None:
        """Take in a line, as JSON has it. Raises ValueError, in plain words, for what is none."""
        if not isinstance(line, dict):
            raise ValueError("it is no JSON object")
        kind = line.get("kind", "completion")
        if kind == "run":
            self.run = from_json(DrawnWith, line)
        elif kind == "prompt":
            prompt = from_json(_PromptLine, line)
            self.prompts[prompt.prompt_index] = prompt.tokens
        elif kind == "pieces":
            self._add_pieces(from_json(_PiecesLine, line))
        elif kind in ("extend", "step"):
            self._at(line).proposals.append(_proposal(kind, line))
        elif kind == "particles":
            self._at(line).blocks.append(_block(from_json(_ParticlesLine, line)))
        elif kind == "completion":
            chain, completed = self._at(line), from_json(Completed, line)
            chain.completed, chain.drawn_with = completed, from_json(DrawnWith, line)

    def _at(self, line: Mapping[str, Any]) -> Chain:
        place = from_json(_Place, line)
        key = place.prompt_index, place.sample_index
        if key not in self.by_place:
            self.by_place[key] = Chain(*key, self.prompts.get(key[0]), self.run)
        return self.by_place[key]

    def _add_pieces(self, line: _PiecesLine) -> None:
        for names, special in ((line.pieces, False), (line.special, True)):
            for name, piece in names.items():
                if not name.isascii() or not name.isdigit():
                    raise ValueError(f"pieces must be named by token ids (one is {one_line(name, 40)})")
                self.pieces[int(name)] = _piece(piece)
                if special:
                    self.special.add(int(name))


def read_chains(file: Path) -> Chains:
    """Every chain that ``--save-trace`` wrote to a file.

    Raises SettingError, with file and line, for what is no line of such a file; the last one may be torn.
    """
    chains = Chains()
    lines = read_lines(file)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            chains.add(json.loads(line))
        except (ValueError, RecursionError, TypeError) as error:
            if number == len(lines):  # without an end: the run goes on, or was killed
                break
            raise SettingError(f"{file}:{number} is no line that --save-trace wrote: {one_line(error)}") from None
    return chains


@dataclass(frozen=True, slots=True)
class _Place:
    prompt_index: int
    sample_index: int


@dataclass(frozen=True, slots=True, eq=False)
class _PromptLine:
    prompt_index: int
    tokens: IntArray


@dataclass(frozen=True, slots=True)
class _PiecesLine:
    pieces: Mapping[str, Any]
    special: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Likely:
    tokens: tuple[tuple[int, ...], ...]
    logp: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _DrawnFields:
    tokens: IntArray
    logp: tuple[float, ...]
    logq: tuple[float, ...]
    entropy: tuple[float, ...]
    likely: _Likely | None = None
    finished: bool = False

    def drawn(self) -> Drawn:
        try:
            trace = Trace(self.tokens, self.logp, self.logq, self.entropy, self.finished)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"its proposal is none: {error}") from None
        if self.likely is None:
            return Drawn(trace, None)
        likely = tuple(zip(self.likely.tokens, self.likely.logp, strict=True))
        if len(likely) != len(trace) or any(len(ids) != len(logp) for ids, logp in likely):
            raise ValueError("likely must have ids and as many log-probabilities for each token")
        return Drawn(trace, likely)


@dataclass(frozen=True, slots=True, eq=False)
class _ProposalLine:
    stage: int
    cut: int
    accepted: bool
    early: bool
    tokens_decoded: int
    proposal: _DrawnFields
    log_accept: float | None = None
    changed_at: int | None = None
    nulls: int = 0
    log_u: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _ParticlesLine:
    stage: int
    parents: IntArray
    log_weights: tuple[float, ...]
    kept: IntArray
    drawn: tuple[_DrawnFields, ...]


def _proposal(kind: str, line: Mapping[str, Any]) -> Proposal:
    found = from_json(_ProposalLine, line)
    step = None
    if kind == "step":
        values = {each.name: getattr(found, each.name) for each in fields(Step)}
        step = Step(**{**values, "log_accept": float("nan") if found.log_accept is None else found.log_accept})
    return Proposal(found.stage, found.cut, found.proposal.drawn(), step)


def _block(line: _ParticlesLine) -> Block:
    drawn = tuple(each.drawn() for each in line.drawn)
    if not len(line.parents) == len(line.log_weights) == len(line.kept) == len(drawn):
        raise ValueError("particles need parents, log_weights, kept and drawn of one length")
    return Block(line.stage, line.parents, line.log_weights, line.kept, drawn)


def _piece(written: Any) -> Piece:
    if isinstance(written, str):
        return written
    if not isinstance(written, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in written):
        raise ValueError("a piece must be a text or bytes")
    return bytes(written)
