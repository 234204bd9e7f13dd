"""Entropy-Cut and Uniform-Cut Metropolis-Hastings: one sampler with two cut laws.

Entropy-Cut is due to arXiv 2605.30327, uniform cuts to arXiv 2510.14901. Ours differs where theirs is not exact:
proposals run to the horizon, whole suffixes are compared, the cut law's normaliser is in the ratio, and a proposal that
is already certain to be rejected is not decoded further, which changes no chain. ``rule`` "published" is theirs.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from powercut.cuts import CutLaw, EntropyJump, Uniform, Weights
from powercut.errors import SettingError
from powercut.samplers.decoding import Decoding
from powercut.samplers.draw import Draw
from powercut.samplers.kernel import Count, Kernel
from powercut.samplers.look_ahead import LookAhead
from powercut.samplers.moves import Moves
from powercut.samplers.sampler import Restricted, Sharpened, Targeted
from powercut.samplers.settings import check_number, check_word, setting
from powercut.samplers.until import Until
from powercut.target import Rule
from powercut.trace import Completion, Trace

AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class _Cut(Restricted, Targeted, Sharpened):
    """Staged Metropolis-Hastings over completions: at each of ``blocks`` horizons, extend, then ``steps`` re-openings.

    Exact for p^alpha as ``steps`` grows if ``refine_finished`` is set; without it a chain that is finished at the end
    of a stage stops there, as published. At alpha = inf only gains in log p are accepted: a search for the mode.

    With ``require`` the chain is restricted to completions that are unfinished, before the last stage, or have what is
    required. An extension that ends otherwise is drawn again, up to REDRAWS times in all; if none has it, the chain
    does not leave before a step has found one that does.

    ``rule`` "published" takes the steps of the published code, for comparison with it, and is biased: a proposal has at
    most as many tokens as the suffix it replaces and is compared with as many tokens of that as it has itself, so a
    chain that got shorter stays short, and may end unfinished before max_new_tokens. Nothing is rejected early then:
    what is not decoded yet could raise the ratio.

    A null step proposes the current text itself. With ``skip_repeats`` null steps are passed over, however many there
    are, and counted. ``count`` "differing" leaves them out: ``steps`` are steps whose proposal differs from the current
    text, and the acceptance ratio makes up for what is left out, so that the target is the same. Another chain, which
    never rests: where two texts share all the mass it goes from one to the other and back.

    ``until`` r ends a stage, before its steps are made, once the last r steps that tried a change (null steps tried
    none) brought none: of the text, or where ``answer`` is given, of the answer found in it. That favours what is hard
    to leave: the limit of many steps is not the power distribution, whatever r. ``stats.stages_ended`` says how often
    it happened.
    """

    alpha: float = setting(4.0, "Power of the target p^alpha. inf: accept only gains in log p.", at_least=1)
    steps: int = setting(10, "Metropolis-Hastings steps per stage (N).", at_least=0, whole=True)
    count: Count = setting(
        "steps",
        "What steps counts: all, or only those that propose a change (differing): as many are tried whatever the text.",
    )
    blocks: int = setting(
        16, "Stages; the horizon grows by max_new_tokens / blocks at each (K).", at_least=1, whole=True
    )
    uniform_mix: float = setting(
        0.0, "Share of uniform cuts mixed into the cut law, from 0 to 1.", at_least=0, at_most=1
    )
    refine_finished: bool = setting(False, "Go on refining a completion that is finished.")
    early_reject: bool = setting(True, "Stop decoding a proposal that is certain to be rejected; changes no result.")
    look_ahead: int | Literal["auto"] = setting(
        1,
        "Proposals decoded at once where the engine has room, for latency; changes no result. "
        "auto: as many as are likely to count.",
    )
    skip_repeats: bool = setting(
        True, "Do not decode what a proposal repeats of the current text: the same law for fewer tokens."
    )
    tries: int = setting(
        1, "Proposals from each cut, of which one is selected (multiple-try Metropolis).", at_least=1, whole=True
    )
    until: int | None = setting(
        None,
        "End a stage once so many changes in a row were tried in vain, or with answer did not change it: biased.",
        at_least=1,
        whole=True,
        optional=True,
    )
    rule: Rule = setting(
        "exact",
        "How steps propose and compare. published: as in the paper's code, for comparison; biased, no early rejection.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("rule", self.rule, Rule)
        check_word("count", self.count, Count)
        if self.count == "differing" and (self.rule == "published" or self.tries > 1 or not self.skip_repeats):
            raise SettingError(
                "count differing goes with one try, rule exact and skip_repeats, which pass over what does not differ: "
                "leave these as they are"
            )
        if self.rule == "published" and (self.tries > 1 or math.isinf(self.alpha) or self.require is not None):
            raise SettingError("rule published goes with one try, a finite alpha and no require: leave these out")
        if self.length_bonus and (self.rule == "published" or math.isinf(self.alpha)):
            raise SettingError("length_bonus needs rule exact and a finite alpha: leave it out, or lower alpha")
        if self.tries > 1 and math.isinf(self.alpha):
            raise SettingError("tries > 1 selects in proportion to p^alpha and needs a finite alpha")
        if not isinstance(self.look_ahead, str) or self.look_ahead != AUTO:
            check_number("look_ahead", self.look_ahead, 1, whole=True, otherwise=", or 'auto'")
        if self.max_new_tokens % self.blocks:
            warnings.warn(
                f"blocks={self.blocks} does not divide max_new_tokens={self.max_new_tokens}: "
                f"horizons are rounded to {_listed(self.horizons)}",
                stacklevel=3,
            )

    @property
    @abstractmethod
    def cut_weights(self) -> Weights:
        """The weights of the cut law."""

    @property
    def cut_law(self) -> CutLaw:
        """Where the chain cuts."""
        return CutLaw(self.cut_weights, self.uniform_mix)

    @property
    def kernel(self) -> Kernel:
        """One step of the chain."""
        return Kernel(
            *(self.target, self.cut_law, self.early_reject, self.tries, self.rule, self.skip_repeats, self.count)
        )

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn, as the engine is asked for them, with the laws that skipping repeats needs."""
        return replace(super().decoding, rows=self.skip_repeats and self.rule == "exact")

    @property
    def width(self) -> int:
        """The tries of a step decode at once."""
        return self.tries

    @property
    def horizons(self) -> tuple[int, ...]:
        """L_1 < ... < L_K = max_new_tokens, equal blocks up to rounding (fewer than ``blocks`` if tokens are fewer)."""
        blocks = min(self.blocks, self.max_new_tokens)  # more give no others
        ends = {round(k * self.max_new_tokens / blocks) for k in range(1, blocks + 1)}
        return tuple(sorted(ends - {0}))

    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``): in each stage an extension, then the steps."""
        moves = Moves(self.horizons, self.steps, rng)
        if self.until is not None and self.answer is not None and draw.engine.text is None:
            raise SettingError("answer looks into texts, and this model has no tokenizer: leave it out")

        async def answer_of(trace: Trace) -> Hashable | None:
            return self.find_answer(await draw.text_of(trace))

        until = None if self.until is None else Until(self.until, None if self.answer is None else answer_of)
        chain = LookAhead(
            *(draw, self.kernel, moves),
            at_once=self.look_ahead,
            refine_finished=self.refine_finished,
            until=until,
        )
        last = await chain.walk()
        return await draw.complete(last, stages_ended=None if until is None else until.ended)


@dataclass(frozen=True, kw_only=True)
class EntropyCut(_Cut):
    """Entropy-Cut Metropolis-Hastings (arXiv 2605.30327): re-open where the next-token entropy jumps."""

    # No entropy is so large that its power overflows then.
    beta: float = setting(4.0, "Exponent of the entropy jump in the cut law.", at_least=0, at_most=100)

    @property
    def cut_weights(self) -> Weights:
        """w_c = max(0, H_c - H_{c-1})^beta."""
        return EntropyJump(self.beta)


@dataclass(frozen=True, kw_only=True)
class UniformCut(_Cut):
    """Metropolis-Hastings with cuts at uniform positions (the moves of arXiv 2510.14901, with an exact ratio)."""

    @property
    def cut_weights(self) -> Weights:
        """w_c = 1."""
        return Uniform()


def _listed(horizons: tuple[int, ...]) -> str:
    shown = [str(h) for h in horizons]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", shown[-1]])
