"""What a page shows of one completion: its chain, its particles or its candidates, as a head and a pool of tokens."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from powercut.chains import Chain, Chains
from powercut.errors import SettingError
from powercut.samplers import BestOfN, EntropyCut, LowTemperature, Rejection, Sampler, Standard, UniformCut
from powercut.samplers.named import build_sampler
from powercut.step_lines import Piece
from powercut.trace import Trace
from powercut.view.answers import last_answer
from powercut.view.pack import Pool, pack
from powercut.view.terms import terms_of

Find = Callable[[str], Hashable | None]
"""The answer in a text."""


@dataclass(frozen=True)
class Payload:
    """One completion for the page: a line that names it, its data as text, and notes on what is not known of it."""

    label: str
    data: str
    notes: tuple[str, ...]


def payload(chains: Chains, chain: Chain, find: Find | None = None) -> Payload:
    """The payload of one completion; ``find`` finds answers (None: as the sampler does, else ``last_answer``).

    Raises SettingError if its lines do not hang together.
    """
    return _Maker(chains, chain, find).make()


def sampler_of(chain: Chain) -> Sampler:
    """The sampler that drew a completion. Raises SettingError where its settings are not known here, or not there."""
    if (drawn_with := chain.drawn_with) is None:
        raise SettingError("the file does not say what the chain was drawn with")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it was drawn
        return build_sampler(drawn_with.sampler, drawn_with.settings)


def find_for(sampler: Sampler | None, find: Find | None) -> Find:
    """What finds answers: ``find`` if given, else what the sampler was told, else ``last_answer``."""
    own = last_answer if sampler is None or sampler.answer is None else sampler.find_answer
    return own if find is None else find


def text_of(tokens: Iterable[int], pieces: dict[int, Piece], special: set[int]) -> str:
    """The text of tokens, special ones left out."""
    parts = (pieces.get(token, "") for token in tokens if token not in special)
    return b"".join(part if isinstance(part, bytes) else part.encode("utf-8", "replace") for part in parts).decode(
        "utf-8", "replace"
    )


class _Answers:
    """Finds answers, and gives each kind a number; -1 is none."""

    def __init__(self, chains: Chains, find: Find) -> None:
        self.known: list[str] = []
        self._chains, self._find = chains, find

    def of(self, trace: Trace) -> int:
        if not self._chains.pieces:
            return -1
        found = self._find(text_of(trace.tokens.tolist(), self._chains.pieces, self._chains.special))
        if found is None:
            return -1
        shown = str(found).strip()
        if shown not in self.known:
            self.known.append(shown)
        return self.known.index(shown)


class _Maker:
    def __init__(self, chains: Chains, chain: Chain, find: Find | None) -> None:
        self._chains, self._chain = chains, chain
        self._pool, self._notes = Pool(), []  # type: tuple[Pool, list[str]]
        self._sampler: Sampler | None = None
        try:
            self._sampler = sampler_of(chain)
        except SettingError as error:
            self._notes.append(f"the ratio's terms are not shown: {error}")
        self._answers = _Answers(chains, find_for(self._sampler, find))

    def make(self) -> Payload:
        chain, completed = self._chain, self._chain.completed
        place = chain.place
        if not chain.proposals and not chain.blocks:
            raise SettingError(f"{place} has no steps: write them with powercut sample --save-trace")
        prompt = [] if chain.prompt is None else [self._pool.index(token) for token in chain.prompt.tolist()]
        if chain.blocks:
            shown = {"kind": "particles", "blocks": list(self._blocks())}
        elif isinstance(self._sampler, BestOfN | Rejection):
            shown = {"kind": "candidates", "candidates": list(self._candidates()), **self._choice()}
        else:
            shown = {"kind": "chain", "events": list(self._events())}
        if not self._chains.pieces:
            self._notes.append("the texts of tokens are not in the file: token ids are shown")
        elif not self._pool.tells_likely:
            self._notes.append("the most likely tokens at each position are not in the file")
        head = {
            **shown,
            "place": [chain.prompt_index, chain.sample_index],
            "prompt": prompt,
            "answers": self._answers.known,
            "vocabulary": [self._piece(token) for token in self._pool.vocabulary],
            "tokenIds": self._pool.vocabulary,
            "special": [i for i, token in enumerate(self._pool.vocabulary) if token in self._chains.special],
            "tellsLikely": self._pool.tells_likely,
        }
        label = place
        if (drawn_with := chain.drawn_with) is not None:
            shown_settings = {k: v for k, v in drawn_with.settings.items() if v not in (None, [], ())}
            head |= {"sampler": drawn_with.sampler, "model": drawn_with.model, "seed": drawn_with.seed}
            head |= {"settings": shown_settings}
        if completed is None and not isinstance(self._sampler, Standard | LowTemperature):  # of whom that is all
            self._notes.append(f"{place} has no end: its run goes on, or was interrupted")
        if completed is not None:
            head |= {"logp": completed.logp, "finished": completed.finished}
            head |= {"stats": asdict(completed.stats), "tokens": len(completed.tokens)}
            label = f"{place} · log p {completed.logp:.2f}"
        return Payload(label, pack(head, self._pool.arrays()), tuple(self._notes))

    def _piece(self, token: int) -> Any:
        piece = self._chains.pieces.get(token)
        return list(piece) if isinstance(piece, bytes) else piece

    def _events(self) -> Iterable[dict[str, Any]]:
        number = 0
        cutting = self._sampler if isinstance(self._sampler, EntropyCut | UniformCut) else None
        for before, proposal, after in self._chain.walk():
            drawn, cut, step = proposal.drawn, proposal.cut, proposal.step
            at = drawn.trace.differs_at(before[cut:])
            shared = len(drawn.trace) if at is None else min(at, len(drawn.trace))
            start, count = self._pool.add(drawn, shared)
            event: dict[str, Any] = {"stage": proposal.stage, "cut": cut, "shared": shared, "start": start, "n": count}
            accepted, early = step is None or step.accepted, step is not None and step.early
            whole = after if accepted else None if early else before.splice(cut, drawn.trace)
            event["proposedAnswer"] = -1 if whole is None else self._answers.of(whole)
            if step is not None:
                number += 1
                event |= {"step": number, "accepted": step.accepted, "early": step.early, "nulls": step.nulls}
                event |= {"logAccept": step.log_accept, "logU": step.log_u, "decoded": step.tokens_decoded}
                if cutting is not None and proposal.stage < len(cutting.horizons):
                    terms = terms_of(cutting, before, drawn.trace, cut, cutting.horizons[proposal.stage])
                    event["terms"] = None if terms is None else {**asdict(terms), "curve": _rounded(terms.curve)}
            event["changed"] = step is not None and before.differs_at(after) is not None
            event["logp"] = float(after.logp.sum())
            event["answer"] = event["proposedAnswer"] if accepted else self._answers.of(after)
            yield event

    def _blocks(self) -> Iterable[dict[str, Any]]:
        traces: list[Trace] = []
        last = self._chain.blocks[-1]
        end = None if self._chain.completed is None else self._chain.completed.tokens.tolist()
        for block in self._chain.blocks:
            grown, places, texts = [], [], []
            for i, drawn in enumerate(block.drawn):
                kept, parent = int(block.kept[i]), int(block.parents[i])
                if (traces and not 0 <= parent < len(traces)) or kept > (len(traces[parent]) if traces else 0):
                    raise SettingError("the particles' lines do not hang together: some are missing")
                old = traces[parent] if traces else Trace.empty()
                grown.append(old.splice(kept, drawn.trace) if len(drawn.trace) else old[:kept])
                places.append(self._pool.add(drawn))
                texts.append(self._answers.of(grown[-1]) if block is last else -1)
            traces = grown
            yield {
                "stage": block.stage,
                "parents": block.parents,
                "logWeights": block.log_weights,
                "kept": block.kept,
                "start": [start for start, _ in places],
                "n": [count for _, count in places],
                "answers": texts,
                "logp": [float(trace.logp.sum()) for trace in traces],
                "finished": [trace.finished for trace in traces],
                "chosen": -1 if block is not last or end is None else _nearest(end, traces),
            }

    def _candidates(self) -> Iterable[dict[str, Any]]:
        end = None if self._chain.completed is None else self._chain.completed.tokens.tolist()
        chosen = False
        for proposal in self._chain.proposals:
            trace = proposal.drawn.trace
            start, count = self._pool.add(proposal.drawn)
            logp = float(trace.logp.sum())
            score = self._sampler.score(trace) if isinstance(self._sampler, BestOfN) else logp
            is_end = not chosen and trace.tokens.tolist() == end
            chosen = chosen or is_end
            yield {
                "start": start,
                "n": count,
                "logp": logp,
                "score": score,
                "chosen": is_end,
                "answer": self._answers.of(trace),
            }

    def _choice(self) -> dict[str, Any]:
        if isinstance(self._sampler, BestOfN):
            return {"by": {"logp": "log p", "mean-logp": "log p per token"}.get(self._sampler.select, "votes")}
        return {"by": "log p"}


def _rounded(curve: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(at, round(value, 4) if math.isfinite(value) else value) for at, value in curve]


def _nearest(tokens: list[int], traces: Iterable[Trace]) -> int:
    """Which of the traces was returned: the one with these tokens, or the one that moves made them from."""

    def common(trace: Trace) -> int:
        own = trace.tokens.tolist()
        return next(
            (i for i, (a, b) in enumerate(zip(own, tokens, strict=False)) if a != b), min(len(own), len(tokens))
        )

    likeness = [(trace.tokens.tolist() == tokens, common(trace)) for trace in traces]
    return likeness.index(max(likeness))
