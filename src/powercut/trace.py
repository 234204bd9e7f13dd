"""The data that flows: Trace, Step, Stats, Completion. Immutable; no engine, no text handling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_COLUMNS = (("tokens", np.int64), ("logp", np.float64), ("logq", np.float64), ("entropy", np.float64))


def read_only(values: ArrayLike, dtype: DTypeLike) -> NDArray[np.generic]:
    """A read-only array of ``values``; copied unless it is read-only already, so no caller's array is frozen."""
    array = np.asarray(values, dtype=dtype)
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


class Rows(NamedTuple):
    """The base model's law at each of n positions: ``ids`` ``[n, K]`` int32 and their ``logp`` ``[n, K]``, in nats.

    Of the truncated law: each row's probabilities sum to 1; -inf marks what is impossible. In float32 a position takes
    400 bytes at K = 50.
    """

    ids: NDArray[np.int32]
    logp: NDArray[np.floating[Any]]

    def between(self, start: int, stop: int) -> Rows:
        """Those of positions ``start`` to ``stop``, the latter not included."""
        return Rows(self.ids[start:stop], self.logp[start:stop])

    @classmethod
    def join(cls, pieces: Sequence[Rows | None]) -> Rows | None:
        """The rows of one piece after the other, narrow ones filled up with what is impossible; None unless all are."""
        several = [piece for piece in pieces if piece is not None]
        if not several or len(several) < len(pieces):
            return None
        widest = max(piece.ids.shape[1] for piece in several)

        def wide(array: NDArray[Any], filler: float) -> NDArray[Any]:
            missing = widest - array.shape[1]
            return np.pad(array, ((0, 0), (0, missing)), constant_values=filler) if missing else array

        def stacked(arrays: list[NDArray[Any]], filler: float) -> NDArray[Any]:
            joined = np.concatenate([wide(array, filler) for array in arrays])
            joined.flags.writeable = False  # a trace needs no copy then
            return joined

        return cls(stacked([rows.ids for rows in several], -1), stacked([rows.logp for rows in several], -np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The generated part of one completion, or a piece of it: parallel read-only arrays of shape ``[n]``.

    ``tokens`` are token ids; ``logp`` and ``logq`` are the log-probabilities (nats) of each token under the base model
    and under the proposal that drew it; ``entropy`` is the base model's next-token entropy (nats) just before each
    token, so ``entropy[t]`` is a function of the tokens before ``t`` alone. ``finished`` says that the last token
    completed a stop. ``prefilled`` counts the context tokens that an engine had to compute to draw this trace; slices
    and splices, which no engine drew, have 0. ``rows`` are the base model's laws at the positions of all tokens, where
    an engine gave them.

    Raises ValueError when the arrays differ in length, are not one-dimensional, or an empty trace is called finished.
    """

    tokens: IntArray
    logp: FloatArray
    logq: FloatArray
    entropy: FloatArray
    finished: bool = False
    prefilled: int = 0
    rows: Rows | None = None

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS:
            object.__setattr__(self, name, read_only(getattr(self, name), dtype))
        if self.rows is not None:
            ids, logp = read_only(self.rows.ids, np.int32), read_only(self.rows.logp, self.rows.logp.dtype)
            object.__setattr__(self, "rows", Rows(cast(Any, ids), cast(Any, logp)))
            if not ids.shape == logp.shape == (len(self.tokens), ids.shape[-1]):
                raise ValueError("a trace's rows need two arrays of shape [n, K]")
        shapes = {self.tokens.shape, self.logp.shape, self.logq.shape, self.entropy.shape}
        if len(shapes) > 1 or self.tokens.ndim != 1:
            raise ValueError("a trace needs four one-dimensional arrays of the same length")
        if self.finished and not len(self.tokens):
            raise ValueError("an empty trace cannot be finished: the token that completes the stop belongs to it")

    @classmethod
    def empty(cls) -> Trace:
        """The trace of no tokens."""
        none = np.zeros(0)
        return cls(none.astype(np.int64), none, none, none)

    @classmethod
    def join(cls, pieces: Iterable[Trace]) -> Trace:
        """Pieces in the order in which they were drawn, as one trace; their ``prefilled`` add up."""
        pieces = tuple(pieces)
        if not pieces:
            return cls.empty()
        if any(piece.finished for piece in pieces[:-1]):
            raise ValueError("nothing can follow a finished trace")
        return cls(
            np.concatenate([piece.tokens for piece in pieces]),
            np.concatenate([piece.logp for piece in pieces]),
            np.concatenate([piece.logq for piece in pieces]),
            np.concatenate([piece.entropy for piece in pieces]),
            finished=pieces[-1].finished,
            prefilled=sum(piece.prefilled for piece in pieces),
            rows=Rows.join([piece.rows for piece in pieces if len(piece)]),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, part: slice) -> Trace:
        """A contiguous slice; it is finished only if it holds the last token of a finished trace."""
        start, stop, stride = part.indices(len(self))
        if stride != 1:
            raise ValueError("a trace is sliced in steps of 1: its tokens condition on those before them")
        piece = object.__new__(Trace)  # views of checked, read-only arrays need no second check
        for name, _ in _COLUMNS:
            object.__setattr__(piece, name, getattr(self, name)[start:stop])
        object.__setattr__(piece, "finished", self.finished and start < stop == len(self))
        object.__setattr__(piece, "prefilled", 0)
        object.__setattr__(piece, "rows", None if self.rows is None else self.rows.between(start, stop))
        return piece

    def splice(self, cut: int, tail: Trace) -> Trace:
        """This trace up to position ``cut`` (not included), followed by ``tail``.

        Raises ValueError when ``cut`` is outside ``0..len(self)``, or when ``tail`` would follow a finished trace.
        """
        if not 0 <= cut <= len(self):
            raise ValueError(f"cut {cut} is outside 0..{len(self)}")
        head = self[:cut]
        if head.finished and not len(tail):
            return head
        return Trace.join((head, tail[:]))

    def __eq__(self, other: object) -> bool:
        """Equal to the last bit: tokens, log-probabilities, entropies and ``finished`` (``prefilled`` is a cost)."""
        if not isinstance(other, Trace):
            return NotImplemented
        return self.finished == other.finished and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name, _ in _COLUMNS
        )

    def differs_at(self, other: Trace) -> int | None:
        """The first position at which the tokens of two traces differ, or one of them has ended; None if nowhere."""
        n = min(len(self), len(other))
        differ = np.flatnonzero(self.tokens[:n] != other.tokens[:n])
        return int(differ[0]) if len(differ) else None if len(self) == len(other) else n

    __hash__ = None  # type: ignore[assignment]  # arrays have none


@dataclass(frozen=True, slots=True)
class Step:
    """One Metropolis-Hastings step.

    ``stage`` counts from 0; ``cut`` is the position at which the completion was re-opened. ``log_accept`` is the log of
    the acceptance ratio (not capped at 0), or, when ``early`` is true, the upper bound on it at which decoding stopped;
    for alpha = inf it is the gain in log p (nats). ``tokens_decoded`` counts what was decoded for the proposal, kept
    or not: what it repeats of the current text, and the token by which it leaves it, may have been known.
    ``changed_at`` is the first position at which the completion differs after the step; None if it is the same, because
    the proposal was rejected or equal to it. ``nulls`` counts the null steps, whose proposal was the current text, that
    were passed over since the step before, or the extension: they cost nothing, and none was made.
    ``log_u`` is the log of the uniform number that the ratio had to reach (None at alpha = inf: any gain will do).
    """

    stage: int
    cut: int
    log_accept: float
    accepted: bool
    early: bool
    tokens_decoded: int
    changed_at: int | None = None
    nulls: int = 0
    log_u: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All particles at the end of a block, before any resampling; of TMC the candidates of which one is drawn.

    ``log_weights`` ``[n]`` are in nats, up to a common factor; ``parents`` ``[n]`` says which of the particles at the
    end of the block before each goes on from: it was resampled where they are not 0, 1, 2, ...
    """

    traces: tuple[Trace, ...]
    log_weights: FloatArray
    parents: IntArray


@dataclass(frozen=True, slots=True)
class Event:
    """What a sampler shows an observer while it works: a proposal that was drawn, and where the chain stands after it.

    ``step`` is None for the extension that opens a stage. ``proposal`` holds its tokens from the cut on, those
    that were not decoded too; ``trace`` is the whole completion after the event. ``prompt`` are the prompt's token ids
    ``[m]``; ``population`` is there where particles end a block.
    """

    stage: int
    stages: int
    step: Step | None
    proposal: Trace
    trace: Trace
    prompt: IntArray | None = None
    population: Population | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """The cost and the fate of one completion.

    ``steps`` counts Metropolis-Hastings steps; ``acceptance`` is the share of them accepted and ``changed`` the share
    that changed the text, None for a sampler without steps. Only the second tells whether a chain moves: a proposal
    that equals the current text is always accepted. ``null_steps`` counts the steps of that kind, whether they were
    made or passed over: so many of ``steps`` tried no change. ``stages_ended`` counts the stages that ``until`` ended
    before their steps were made (None: it is not set).
    ``tokens_decoded`` counts every token decoded, kept or not; ``tokens_prefilled`` the context tokens computed
    afresh (reused ones cost nothing). ``seconds`` is the wall time from start to end, waiting included.

    Of samplers that weigh particles: ``log_z`` estimates log sum_x p(x)^alpha (nats; its exponential is unbiased), and
    ``ess`` is the effective sample size after each block. ``candidates`` is how many completions best-of-N chose from,
    ``tries`` how many proposals rejection sampling made. ``satisfied`` says whether the completion is finished and has
    what is required of its text; None if nothing is. ``agreement``, where chains of one prompt stop as their answers
    agree: the probability, given this answer and those of the samples before, that the leading one is the likeliest.
    """

    steps: int
    acceptance: float | None
    changed: float | None
    tokens_decoded: int
    tokens_prefilled: int
    seconds: float
    log_z: float | None = None
    ess: tuple[float, ...] = ()
    candidates: int | None = None
    tries: int | None = None
    satisfied: bool | None = None
    null_steps: int | None = None
    stages_ended: int | None = None
    agreement: float | None = None

    @classmethod
    def of(cls, steps: Sequence[Step], nulls: int | None = None, **others: Any) -> Stats:
        """The figures of these steps, and the ``others`` by their names.

        ``nulls`` null steps were passed over beside them (None: those before each of them).
        """
        nulls = sum(step.nulls for step in steps) if nulls is None else nulls
        count = len(steps) + nulls
        accepted = sum(step.accepted for step in steps) + nulls
        changed = sum(step.changed_at is not None for step in steps)
        return cls(
            steps=count,
            acceptance=accepted / count if count else None,
            changed=changed / count if count else None,
            null_steps=accepted - changed if count else None,
            **others,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion: its trace, the steps that led to it, and what it cost.

    ``text`` is None where the engine has no tokenizer. ``prompt_index`` and ``sample_index`` say which of the prompts
    and which of its ``n`` samples it is.
    """

    trace: Trace
    stats: Stats
    steps: tuple[Step, ...] = field(default=(), repr=False)
    text: str | None = None
    prompt_index: int = 0
    sample_index: int = 0

    @property
    def tokens(self) -> IntArray:
        """Token ids, shape ``[n]``, the stop included."""
        return self.trace.tokens

    @property
    def logp(self) -> float:
        """Log-probability of the whole completion under the base model, in nats."""
        return float(self.trace.logp.sum())

    @property
    def finished(self) -> bool:
        """Whether it ended with a stop rather than at ``max_new_tokens``."""
        return self.trace.finished
