"""The target p(x)^alpha e^(b n), the acceptance ratio that leaves it invariant, and the arithmetic of weights.

Pure functions of arrays. Weights are given by their logs, up to a common factor unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from powercut.cuts import CutLaw, CutSums, sum_in_order
from powercut.trace import FloatArray, Trace

Rule = Literal["exact", "published"]
"""How a step proposes and compares.

``exact`` leaves the target invariant: proposals run to the horizon, whole suffixes are compared. ``published`` does not
(arXiv 2605.30327's code): a proposal has at most as many tokens as the current suffix, and is compared with as many
tokens of that as it has itself.
"""

SLACK = 1e-9
"""Nats by which the bound on several tries must miss before they stop: far above its rounding. One try needs none."""


@dataclass(frozen=True, slots=True)
class Power:
    """p(x)^alpha e^(b n), n tokens long, proposed from token by token at ``temperature`` tau: q(v) ∝ p(v)^(1/tau).

    b is the ``length_bonus``, in nats a token; it needs a finite alpha.
    """

    alpha: float
    temperature: float
    length_bonus: float = 0.0

    @property
    def monotone(self) -> bool:
        """Whether no gain can be positive, so that a partial sum bounds the whole: 1 <= 1/tau <= alpha.

        At alpha = inf the gains are log-probabilities and never positive.
        """
        # tau = 1/alpha itself must pass whatever 1/(1/alpha) rounds to.
        return math.isinf(self.alpha) or (self.temperature <= 1 and self.alpha * self.temperature >= 1 - 1e-12)

    def log_density(self, trace: Trace) -> float:
        """log p^alpha + b n of tokens, in nats; a target's is up to its normaliser."""
        return self.alpha * float(trace.logp.sum()) + self.length_bonus * len(trace)

    def increments(self, trace: Trace) -> FloatArray:
        """What each token adds to the log weight of target over proposal, in nats, shape ``[n]``: g_t + b."""
        return self.gains(trace) + self.length_bonus

    def gains(self, trace: Trace) -> FloatArray:
        """g_t = alpha log p - log q of each token, in nats, shape ``[n]``; log p itself at alpha = inf."""
        if math.isinf(self.alpha):
            return trace.logp
        g: FloatArray = self.alpha * trace.logp - trace.logq
        # g <= 0 is exact mathematics; rounding must not make the early-rejection bound rise.
        return np.minimum(g, 0.0) if self.monotone else g


class LogWeight:
    """The log weight of target over proposal of tokens that grow to at most ``room`` of them (None: to nobody knows).

    While they grow, ``value`` has the bonus of all that may come in it, if that raises it. For a ``monotone`` target it
    never rises then, to the last bit: sums run in token order however the tokens come in pieces.
    """

    def __init__(self, target: Power, room: int | None = None) -> None:
        self._target, self._room = target, room
        self._gain, self.length = 0.0, 0
        self.whole = False

    def add(self, piece: Trace) -> None:
        """Take in the next tokens."""
        self._gain = sum_in_order(self._gain, self._target.gains(piece))
        self.length += len(piece)
        self.whole = piece.finished or self.length == self._room

    @property
    def value(self) -> float:
        """In nats: sum g_t + b n; of all that can become of it at most so much."""
        bonus, length = self._target.length_bonus, self.length
        if bonus > 0 and not self.whole and self._room is not None:
            length = self._room
        return self._gain + bonus * length


class LogRatio:
    """The log of the Metropolis-Hastings acceptance ratio, for a proposal that may still be growing.

    Proposal x' shares the first ``cut`` tokens with ``current`` x. Over whole suffixes,

        A = sum_{t>=c} g_t(x') - sum_{t>=c} g_t(x) + b (n' - n) + log kappa_x'(c) - log kappa_x(c),

    and at alpha = inf, A = log p(x') - log p(x). While x' grows, to ``room`` tokens at the most (None: nobody knows),
    ``value`` is A with x' taken as it stands, but with the bonus of all that may come. If the target is ``monotone`` it
    never rises, to the last bit: each float operation it is made of is monotone. That makes rejecting on a partial
    value lossless.

    By the ``published`` rule the second sum ends where the proposal does. Such a value is no bound while x' grows.

    ``differing``: of steps whose proposals are drawn given that they differ from x. Then kappa_x(c) / r(x) stands in
    the place of kappa_x(c), r(x) being the chance that a proposal from x differs (``CutSums``), and so for x'.
    """

    def __init__(
        self,
        target: Power,
        law: CutLaw,
        current: Trace,
        cut: int,
        rule: Rule = "exact",
        *,
        room: int | None = None,
        differing: bool = False,
    ) -> None:
        self._target, self._bounded = target, room is not None
        sums = np.add.accumulate(target.increments(current[cut:]))
        self._old = sums if rule == "published" else sums[-1:]  # one for each length of x', or for all
        self._weight = LogWeight(target, room)
        self._cuts = CutSums(law, differing)
        self._cuts.add(current.entropy[:cut], current.logq[:cut])
        old = self._cuts.copy()
        self._cut_weight = float(old.add(current.entropy[cut:], current.logq[cut:])[0])
        self._old_log_kappa = old.log_prob(self._cut_weight)
        self.value = math.inf

    @property
    def length(self) -> int:
        """How many tokens the proposal has."""
        return self._weight.length

    @property
    def whole(self) -> bool:
        """Whether the proposal is finished or fills its room."""
        return self._weight.whole

    def add(self, piece: Trace) -> float:
        """Take in the next tokens of the proposal and return the new ``value``."""
        if not len(piece):
            return self.value
        weights = self._cuts.add(piece.entropy, piece.logq)
        if not self._weight.length:
            self._cut_weight = float(weights[0])
        self._weight.add(piece)
        length = self._weight.length
        self.value = self._weight.value - float(self._old[min(length, len(self._old)) - 1])
        if not math.isinf(self._target.alpha):
            as_it_stands = self.whole or not self._bounded
            self.value += self._cuts.log_prob(self._cut_weight, whole=as_it_stands) - self._old_log_kappa
        return self.value


class Verdict(Enum):
    """What is known of a step while its proposals grow."""

    OPEN = "open"
    REJECTED = "rejected"
    COMPLETE = "complete"


class Judge:
    """Judges the proposals of one Metropolis-Hastings step while they grow: ``tries`` of them, re-opened at ``cut``.

    ``log_u`` is the log of the uniform number that the acceptance ratio must reach, drawn beforehand. ``add`` takes in
    what has been decoded: the step is REJECTED as soon as no try can be accepted any more (where ``early_reject`` is
    set, the target monotone and the rule exact; else once all are whole), COMPLETE when all are whole and one of them
    may be, and OPEN until then. ``log_accept`` is the most that any try, if selected, could be accepted with: a bound
    that decides while a try still grows, exact when all are ``whole``.

    Why it decides: try j is accepted with (R + w_j) / (R + 1), R the other tries' weights, all over the current one's.
    That rises with w_j, and with R where w_j < 1. If every such ratio is below u <= 1, then every w_j is below 1, and
    stays so since weights only fall; so all these ratios can only fall with them, and the step is lost. (A single ratio
    is no bound: where w_j > 1 it falls as R grows. But it is above 1 then, and nothing is decided.)

    A whole try outside the target, whose weight is 0, is said to be so by ``exclude``. Where the current completion is
    not ``inside`` itself, any try that is will do. ``differing`` is as for ``LogRatio``, for a single try.
    """

    def __init__(
        self,
        target: Power,
        law: CutLaw,
        current: Trace,
        cut: int,
        horizon: int,
        log_u: float,
        *,
        tries: int = 1,
        early_reject: bool = True,
        rule: Rule = "exact",
        inside: bool = True,
        differing: bool = False,
    ) -> None:
        room = horizon - cut
        self._ratios = [LogRatio(target, law, current, cut, rule, room=room, differing=differing) for _ in range(tries)]
        self._growing = set(range(tries))
        self._excluded: set[int] = set()
        self._inside = inside
        self._log_u = log_u
        self._early = early_reject and target.monotone and rule == "exact"
        self.verdict = Verdict.OPEN
        self.log_accept = math.inf

    @property
    def whole(self) -> bool:
        """Whether no try grows any more."""
        return not self._growing

    def add(self, piece: Trace, which: int = 0) -> Verdict:
        """Take in the next tokens of a try."""
        ratio = self._ratios[which]
        ratio.add(piece)
        if ratio.whole:
            self._growing.discard(which)
        return self._decide()

    def exclude(self, which: int) -> Verdict:
        """A whole try is outside the target."""
        self._excluded.add(which)
        return self._decide()

    def _decide(self) -> Verdict:
        values = self._values()
        self.log_accept = float(self._log_accepts(values).max()) if values.max() < math.inf else math.inf
        slack = SLACK if len(values) > 1 and self._growing else 0.0
        if (self._early or self.whole) and not self.log_accept + slack >= self._log_u:
            self.verdict = Verdict.REJECTED
        elif self.whole:
            self.verdict = Verdict.COMPLETE
        return self.verdict

    def select(self, rng: np.random.Generator) -> tuple[int, float, bool]:
        """Which of the whole tries, in proportion to weight; its log acceptance ratio; whether it is accepted."""
        if len(self._ratios) == 1:
            return 0, self.log_accept, self.verdict is Verdict.COMPLETE
        values = self._values()
        which = int(rng.choice(len(values), p=normalise(values))) if values.max() > -math.inf else 0
        log_accept = float(self._log_accepts(values)[which])
        return which, log_accept, self.verdict is Verdict.COMPLETE and log_accept >= self._log_u

    def _values(self) -> FloatArray:
        return np.array([-math.inf if i in self._excluded else each.value for i, each in enumerate(self._ratios)])

    def _log_accepts(self, values: FloatArray) -> FloatArray:
        return log_accept_tries(values) if self._inside else np.where(values > -math.inf, math.inf, -math.inf)


def log_ratio(
    target: Power,
    law: CutLaw,
    current: Trace,
    proposal: Trace,
    cut: int,
    rule: Rule = "exact",
    *,
    differing: bool = False,
) -> float:
    """The log acceptance ratio A of moving from ``current`` to ``proposal``, whole completions re-opened at ``cut``."""
    return LogRatio(target, law, current, cut, rule, differing=differing).add(proposal[cut:])


def log_accept_tries(log_ratios: FloatArray) -> FloatArray:
    """Log acceptance ratio of each of ``[k]`` independent tries, were it the one selected; shape ``[k]``.

    ``log_ratios`` are the tries' weights over the current state's, log w_i / w_x. Try j, selected in proportion to its
    weight, replaces x with probability min(1, W / (W - w_j + w_x)), W = sum_i w_i. At k = 1 that is the ratio itself.

    Multiple-try Metropolis (Liu, Liang and Wong 2000) for proposals that do not depend on the current state, whose own
    tries then serve as the reference points too.
    """
    if len(log_ratios) == 1:  # called for every token
        return log_ratios
    without_own = np.where(np.eye(len(log_ratios), dtype=bool), -np.inf, log_ratios)
    others = np.logaddexp.reduce(without_own, axis=1)
    ratios: FloatArray = np.logaddexp.reduce(log_ratios) - np.logaddexp(others, 0.0)
    return ratios


def normalise(log_weights: FloatArray) -> FloatArray:
    """Weights that sum to 1, shape ``[n]``."""
    weights = np.exp(log_weights - log_weights.max())
    normalised: FloatArray = weights / weights.sum()
    return normalised


def log_mean_weight(log_weights: FloatArray) -> float:
    """Log of the mean weight; here the common factor counts."""
    return float(np.logaddexp.reduce(log_weights)) - math.log(len(log_weights))


def effective_sample_size(log_weights: FloatArray) -> float:
    """(sum w)^2 / sum w^2, from 1 to n: so many particles of equal weight would do as well."""
    return 1 / float((normalise(log_weights) ** 2).sum())
