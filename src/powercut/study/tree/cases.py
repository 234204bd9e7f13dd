"""What ``study tree`` measures: the default report's cases, or a grid of one's own, and the figures of each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powercut.cuts import CutLaw, EntropyJump, Uniform
from powercut.errors import SettingError, quoted
from powercut.strict_json import json_line
from powercut.study.findings import Record
from powercut.study.tree import early_answer
from powercut.study.tree.chain import (
    lower_bound,
    make_chain,
    mixing_time,
    relaxation_time,
    staged_law,
    upper_bound,
)
from powercut.study.tree.leaves import Leaves
from powercut.study.tree.trees import make_tree
from powercut.study.tree.whole_text import whole_text_mixing_time

LAWS = ("4", "1", "uniform")
"""Cut laws of the default report, as ``--law`` takes them."""

_MOST_LEAVES, _MOST_CELLS = 1024, 4_000_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tree with a cut law. ``blocks`` above 0: also what so many stages of ``steps`` steps return.

    ``whole_text``: also the mixing time of texts with their details. ``section`` is the part of the report.
    """

    section: str
    target: str
    layout: str = "opening"
    k: int = 4
    tokens: int = 256
    details: float = 0.0
    law: str = "4"
    alpha: float = 4.0
    blocks: int = 0
    steps: int = 0
    whole_text: bool = False

    @property
    def key(self) -> str:
        """Which record is this case's."""
        return json_line(asdict(self)).strip()

    def measure(self) -> Record:
        """The figures of the chain at equilibrium and from its worst start; times in steps, and in tokens decoded."""
        tree = make_tree(self.target, self.k, self.tokens, self.layout, self.details)
        law = parse_law(self.law)
        leaves = Leaves(tree, self.alpha)
        chain = make_chain(leaves, law)
        tokens, relaxation = chain.mean(chain.tokens), relaxation_time(chain)
        figures: dict[str, Any] = {
            "mixing_time": mixing_time(chain),
            "lower_bound": lower_bound(chain),
            "upper_bound": upper_bound(chain),
            "relaxation_time": relaxation,
            "worst_weight": leaves.worst_weight,
            "acceptance": chain.mean(chain.accepted),
            "changed": chain.mean(chain.changed),
            "changed_first": chain.moves_first,
            "tokens_per_step": tokens,
            "tokens_per_relaxation": relaxation * tokens,
        }
        if self.blocks:
            staged = staged_law(tree, law, self.alpha, self.blocks, self.steps)
            figures |= {"staged_distance": staged.distance, "staged_tokens": staged.tokens}
        if self.whole_text:
            figures["whole_text_mixing_time"] = whole_text_mixing_time(leaves, law)
        return asdict(self) | figures


@dataclass(frozen=True, kw_only=True)
class EarlyAnswer:
    """The tree with an early answer."""

    alpha: float
    section: str = "early-answer"

    @property
    def key(self) -> str:
        """Which record is this one's."""
        return json_line(asdict(self)).strip()

    def measure(self) -> Record:
        """Distance to the target and mass on short texts of each way of sampling."""
        return asdict(self) | {"ways": list(early_answer.measure(self.alpha))}


def parse_law(text: str) -> CutLaw:
    """A cut law: ``uniform``, or beta, or beta and a uniform mixture, ``4+0.1``. Raises SettingError for another."""
    if text == "uniform":
        return CutLaw(Uniform())
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\+(0?\.\d+|0|1))?", text)
    if found is None:
        ways = "uniform, a beta such as 4, or 4+0.1 with uniform cuts mixed in"
        raise SettingError(f"--law must be {ways} (got {quoted(text)})")
    return CutLaw(EntropyJump(float(found[1])), float(found[2] or 0))


def default_cases(laws: Sequence[str], alpha: float) -> Iterator[Case | EarlyAnswer]:
    """The report: the claim, what it needs, and what it looks like where one of these is missing."""
    for law in laws:
        common: dict[str, Any] = {"law": law, "alpha": alpha}
        for k, run in itertools.product((1, 2, 4, 8), (64, 256)):
            yield Case(section="claim", target="independent", k=k, tokens=run * k, **common)
        for tokens in (64, 256, 1024):
            yield Case(section="root-pivot", target="root-pivot", tokens=tokens, **common)
        for first in (0, 1, 3, 7, 15, 31, 63, 127, 191):
            yield Case(section="placement", target="root-pivot", layout=str(first), **common)
        yield Case(section="placement", target="root-pivot", layout="closing", **common)
        yield Case(section="jumps", target="independent", **common)
        yield Case(section="jumps", target="timid-root", **common)
        for target in ("all-pivot", "two-modes"):
            for k in (2, 4, 6, 8):
                yield Case(section="weights", target=target, k=k, tokens=64 * k, **common)
        for tokens in (64, 256, 1024, 4096):
            yield Case(section="details", target="root-pivot", tokens=tokens, details=0.5, **common)
    for law in dict.fromkeys((*laws, "4+0.1")):
        text: dict[str, Any] = {"law": law, "alpha": alpha, "tokens": 64, "details": 0.1, "whole_text": True}
        yield Case(section="whole-text", target="independent", layout="closing", **text)
        yield Case(section="whole-text", target="independent", **text)
    for law in dict.fromkeys((laws[0], laws[-1])):
        for target, blocks in itertools.product(("root-pivot", "late-evidence"), (1, 4, 16)):
            stages: dict[str, Any] = {"k": 8, "tokens": 2048, "blocks": blocks, "steps": 160 // blocks}
            yield Case(section="stages", target=target, law=law, alpha=alpha, **stages)
    yield EarlyAnswer(alpha=alpha)


def grid_cases(
    targets: Sequence[str],
    layouts: Sequence[str],
    decisions: Sequence[int],
    tokens: Sequence[int],
    details: Sequence[float],
    laws: Sequence[str],
    alpha: float,
    blocks: Sequence[int],
    steps: int,
) -> list[Case]:
    """Every combination. Raises SettingError, before anything is measured, for one that cannot be."""
    cases = []
    for target, layout, k, length, nats, law, stages in itertools.product(
        targets, layouts, decisions, tokens, details, laws, blocks
    ):
        if not 1 <= k <= 10 or 2**k * length > _MOST_CELLS:
            most = f"{_MOST_LEAVES:,} leaves and {_MOST_CELLS:,} tokens of all leaves together"
            raise SettingError(f"--decisions {k} with --tokens {length} is too large: at most {most}")
        if not 0 <= nats < 0.69:
            raise SettingError(f"--details must be nats from 0 to 0.69, a detail having two values (got {nats:g})")
        parse_law(law)
        make_tree(target, k, length, layout, nats)
        named: dict[str, Any] = {"target": target, "layout": layout, "k": k, "tokens": length, "details": nats}
        staged: dict[str, Any] = {"blocks": stages, "steps": steps} if stages else {}
        cases.append(Case(section="grid", law=law, alpha=alpha, **named, **staged))
    return cases
