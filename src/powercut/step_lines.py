"""The lines of ``powercut sample --save-trace``: every step of every chain, as it is made. ``chains`` reads them.

"kind": run           sampler, settings, seed and model of all chains to come
    "kind": prompt        the token ids of a prompt, before its first chain begins
"kind": pieces        the texts of token ids, before the first line that has them
"kind": extend, step  a proposal of a chain: of the extension that opens a stage, or of a step
"kind": particles     all particles at the end of a block: what is new in each
"kind": completion    how a chain ended, as ``sample --json`` has it

Arrays have one item a token; log-probabilities and entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from powercut.records import Completed
from powercut.strict_json import strict
from powercut.text import LocalText, Text, TokenizerText
from powercut.trace import Event, Population, Rows, Trace

LIKELY = 5
"""The most likely tokens that are told of a position, at most so many."""

LEAST_LIKELY = 1e-3
"""The least probability of one that is told."""

Piece = str | bytes
"""The text of a token, or its bytes where they are part of a character."""

Likely = tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
"""Of each position, the ids of likely tokens and their log p, the most likely first."""


class StepLines:
    """Turns what samplers show into lines: dictionaries that ``json_line`` writes and ``Chains.add`` reads.

    The first of them says what all chains are drawn with: a ``sampler`` by its name, its ``settings``, seed, model.
    """

    def __init__(self, text: Text | None, *, sampler: str, settings: Mapping[str, Any], seed: int, model: str) -> None:
        facts = {"sampler": sampler, "settings": strict(settings), "seed": seed, "model": model}
        self._first: list[dict[str, Any]] = [{"kind": "run", **facts}]
        self._text = text if isinstance(text, LocalText) else None
        self._prompts: set[int] = set()
        self._pieces: set[int] = set()
        self._populations: dict[tuple[int, int], Population] = {}

    def event(self, prompt_index: int, sample_index: int, event: Event) -> list[dict[str, Any]]:
        """The lines of one event."""
        place = {"prompt_index": prompt_index, "sample_index": sample_index}
        lines, self._first = self._first, []
        if event.prompt is not None and prompt_index not in self._prompts:
            self._prompts.add(prompt_index)
            lines.append({"kind": "prompt", "prompt_index": prompt_index, "tokens": event.prompt.tolist()})
        text = None if self._text is None else self._text.decode_now(event.proposal.tokens.tolist())
        lines.append(proposed(prompt_index, sample_index, event, text))
        if event.population is not None:
            before = self._populations.get((prompt_index, sample_index))
            self._populations[prompt_index, sample_index] = event.population
            lines.append({"kind": "particles", **place, "stage": event.stage, **_particles(event.population, before)})
        pieces = self._new_pieces(lines)
        return [*([pieces] if pieces else []), *map(strict, lines)]

    def completion(self, completed: Completed) -> dict[str, Any]:
        """The line of a completion."""
        self._populations.pop((completed.prompt_index, completed.sample_index), None)
        return {"kind": "completion", **strict(completed)}

    def _new_pieces(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
        """The line with the texts of those tokens that no line had before; None if there are none, or no texts."""
        if self._text is None:
            return None
        found: set[int] = set()
        for line in lines:
            found.update(line.get("tokens", ()))
            for drawn in (line["proposal"],) if "proposal" in line else line.get("drawn", ()):
                found.update(map(int, drawn["tokens"]))
                for ids in drawn["likely"]["tokens"] if drawn["likely"] else ():
                    found.update(ids)
        new = sorted(found - self._pieces)
        self._pieces.update(new)
        special = special_names(self._text)
        pieces = {str(token): _written(piece_of(self._text, token)) for token in new if token not in special}
        named = {str(token): special[token] for token in new if token in special}
        return {"kind": "pieces", "pieces": pieces, "special": named} if new else None


def proposed(prompt_index: int, sample_index: int, event: Event, text: str | None) -> dict[str, Any]:
    """The line of a proposal: of the extension that opens a stage, or of a step; ``text`` is the proposal's."""
    if event.step is None:
        start = len(event.trace) - len(event.proposal)
        what: dict[str, Any] = {"kind": "extend", "stage": event.stage, "cut": start, "log_accept": None}
        what |= {"accepted": True, "early": False, "tokens_decoded": len(event.proposal)}
    else:
        what = {"kind": "step", **asdict(event.step)}
    place = {"prompt_index": prompt_index, "sample_index": sample_index}
    return {**what, **place, "proposal": {**_drawn(event.proposal), "text": text}}


def special_names(text: Text | None) -> dict[int, str]:
    """What the tokens without text are called, by their ids."""
    return {token: name for name, token in text.special_tokens.items()} if isinstance(text, TokenizerText) else {}


def piece_of(text: LocalText, token: int) -> Piece:
    """The text of one token, or its bytes where they are part of a character."""
    if not isinstance(text, TokenizerText):
        return text.decode_now([token])
    data = text.bytes_of(token)
    if data is None:
        return text.name_of(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _particles(population: Population, before: Population | None) -> dict[str, Any]:
    """What is new in each particle, as it goes on from its parent."""
    kept, drawn = [], []
    for trace, parent in zip(population.traces, population.parents.tolist(), strict=True):
        old = Trace.empty() if before is None else before.traces[parent]
        at = old.differs_at(trace)
        kept.append(len(trace) if at is None else at)
        drawn.append(_drawn(trace[kept[-1] :]))
    weights = {"parents": population.parents.tolist(), "log_weights": population.log_weights.tolist()}
    return {**weights, "kept": kept, "drawn": drawn}


def _drawn(trace: Trace) -> dict[str, Any]:
    columns = {name: getattr(trace, name) for name in ("tokens", "logp", "logq", "entropy", "finished")}
    if trace.rows is None:
        return {**columns, "likely": None}
    likely = likely_tokens(trace.rows)
    return {**columns, "likely": {"tokens": [ids for ids, _ in likely], "logp": [logp for _, logp in likely]}}


def likely_tokens(rows: Rows) -> Likely:
    """What is likely at each position, from the laws there."""
    order = np.argsort(-rows.logp, axis=1, kind="stable")[:, :LIKELY]
    ids, logp = np.take_along_axis(rows.ids, order, 1), np.take_along_axis(rows.logp, order, 1).astype(np.float64)
    counts = (logp >= np.log(LEAST_LIKELY)).sum(axis=1).tolist()
    columns = zip(ids.tolist(), np.round(logp, 4).tolist(), counts, strict=True)
    return tuple((tuple(these[:count]), tuple(those[:count])) for these, those, count in columns)


def _written(piece: Piece) -> Any:
    return list(piece) if isinstance(piece, bytes) else piece
