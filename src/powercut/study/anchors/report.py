"""The report of ``study anchors``: which sampler is right how often, after how many steps and tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.stats import Interval, compare, holm, proportion
from powercut.report.tables import NOTHING, TextRow, TextTable, difference, number, p_value, percent, with_interval
from powercut.study.anchors.measure import CURVES, FIRST, FORCED
from powercut.study.findings import Findings, Record
from powercut.trace import FloatArray

SAYS = (
    "The task is made so that the mechanism of the paper can be seen whole: the decision is the first token, what "
    "follows is quieter than it, and a sound way of working is more likely as a whole than any single other one, "
    "though habit starts elsewhere. There the power distribution is right where tokens sharpened one by one are not, "
    "entropy cuts get there in a few steps, and uniform cuts seldom re-open the one token that matters. "
)
_CONTROL = (
    "The control puts forced tokens before the decision: uniform cuts that fall on them re-open the decision as well, "
    "which takes much of their handicap away. "
)
_NO_CONTROL = (
    "The control, with forced tokens before the decision, needs the law itself, and is there without --model. The "
    "accuracies that are computed are those of the law that the model was taught. "
)
_SCOPE = (
    "Problems are independent draws, and intervals and tests are over problems. It is no evidence about large models: "
    "whether their texts have such decisions is what study decisions measures."
)

_SHOWN = (0, 1, 2, 5, 10, 20, 40, 80, 160, 320)
_HUES = {FIRST: 2, "entropy cuts, β 1": 3, "entropy cuts, β 4 + 0.1 uniform": 4, "uniform cuts": 5}


@dataclass(frozen=True)
class OnAllProblems:
    """One sampler on all problems: arrays by problem; those of its curve, if it has one, ``[problems, steps + 1]``."""

    name: str
    forced: int
    right: FloatArray
    anchor: FloatArray
    tokens: FloatArray
    acceptance: float
    changed: float
    right_after: FloatArray | None
    decoded_after: FloatArray | None

    @property
    def accuracy(self) -> Interval:
        """The share that is right, with a 95% interval."""
        return proportion(self.right, len(self.right))


def findings(records: Sequence[Record], exact: Mapping[str, float], model: str) -> Findings:
    """All of it from the records; ``exact`` has the accuracies that are computed, ``model`` says what was sampled."""
    measured = list(_join(records))
    plain, control = ([m for m in measured if bool(m.forced) is forced] for forced in (False, True))
    main = _main_table(plain, exact)
    curved = [m for m in plain if m.right_after is not None]
    sections = [
        Section(
            "Accuracy and cost",
            [
                Part(
                    f"{len(plain[0].right):,} problems, one completion of each; {model}. Accuracy with 95% intervals; "
                    "starts at the anchor; means of decoded tokens, of steps that were accepted and of steps that "
                    "changed the text. Computed: the accuracy on these problems under each law itself, by dynamic "
                    "programming.",
                    main,
                ),
                Part(
                    f"Against {FIRST}, on the same problems: differences in accuracy with 95% intervals, p of "
                    "McNemar's test, and after Holm's correction for this table.",
                    _tests(plain),
                ),
            ],
        ),
        Section(
            "Against steps and against tokens",
            [
                Part(
                    "Accuracy in percent after so many Metropolis-Hastings steps, from a low-temperature completion. "
                    "The plots' bands are 95% intervals; in the second one the samplers without steps are points.",
                    _after_table(curved),
                    lambda: _plots(plain),
                )
            ],
        ),
    ]
    if control:
        caption = (
            f"The control: {FORCED} forced tokens before the decision. A uniform cut on any of them re-opens the "
            "decision too, so that uniform cuts lag less than without them."
        )
        curved_control = [m for m in control if m.right_after is not None]
        parts = [Part(caption, _main_table(control, {})), Part("After so many steps.", _after_table(curved_control))]
        sections.append(Section("Control: the decision comes late", parts))
    says = SAYS + (_CONTROL if control else _NO_CONTROL) + _SCOPE
    return Findings("Anchors: a model known exactly", says, main, sections, list(_rows(measured)))


def _join(records: Sequence[Record]) -> Iterator[OnAllProblems]:
    """The portions of each sampler, one after the other."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record["sampler"], record["forced"]), []).append(record)
    for (name, forced), portions in found.items():
        portions.sort(key=lambda record: int(record["start"]))

        def column(field: str, portions: Sequence[Record] = portions) -> FloatArray:
            several = [value for record in portions for value in record[field]]
            return np.array([math.nan if value is None else value for value in several], dtype=np.float64)

        after: list[FloatArray | None] = [None, None]
        if "right_after" in portions[0]:
            after = [
                np.array([row for record in portions for row in record[field]], dtype=np.float64)
                for field in ("right_after", "decoded_after")
            ]
        means = [float(column(field).mean()) for field in ("acceptance", "changed")]
        yield OnAllProblems(
            name, forced, column("right"), column("anchor"), column("tokens_decoded"), means[0], means[1], *after
        )


def _main_table(measured: Sequence[OnAllProblems], exact: Mapping[str, float]) -> TextTable:
    head = ["sampler", "accuracy, %", "decoded tokens", "computed, %", "at the anchor, %", "accepted, %", "changed, %"]
    best = max(m.accuracy.value for m in measured)
    rows = []
    for m in measured:
        known = percent(exact[m.name]) if m.name in exact else NOTHING
        shares = [percent(float(m.anchor.mean())), percent(m.acceptance), percent(m.changed)]
        fields = [m.name, with_interval(m.accuracy), number(float(m.tokens.mean())), known, *shares]
        rows.append(TextRow(fields, {1} if m.accuracy.value == best else set()))
    if (power := exact.get("the power distribution")) is not None:
        rows.append(TextRow(["the power distribution", NOTHING, NOTHING, percent(power), *[NOTHING] * 3]))
    return TextTable(head, rows)


def _tests(measured: Sequence[OnAllProblems]) -> TextTable:
    first = next(m for m in measured if m.name == FIRST)
    others = [m for m in measured if m is not first]
    results = [compare(m.right, first.right) for m in others]
    adjusted = holm([result.p for result in results])
    head = ["sampler", "difference, points", "problems that differ", "p", "p, Holm", "decoded tokens, ratio"]
    rows = []
    for m, result, p in zip(others, results, adjusted.tolist(), strict=True):
        fields = [m.name, difference(result.difference), f"{result.discordant:,}", p_value(result.p), p_value(p)]
        ratio = float(m.tokens.mean() / first.tokens.mean())
        rows.append(TextRow([*fields, f"{ratio:.2f}"], {4} if p < 0.05 else set()))
    return TextTable(head, rows)


def _after_table(measured: Sequence[OnAllProblems]) -> TextTable:
    steps = [step for step in _SHOWN if step < _curve(measured[0]).shape[1]]
    rows = [TextRow([m.name, *(percent(float(_curve(m)[:, step].mean())) for step in steps)]) for m in measured]
    heads = ["at the start" if not step else "1 step" if step == 1 else f"{step} steps" for step in steps]
    return TextTable(["sampler", *heads], rows)


def _curve(measured: OnAllProblems) -> FloatArray:
    assert measured.right_after is not None
    return measured.right_after


def _plots(measured: Sequence[OnAllProblems]) -> Plots:
    by_steps, by_tokens = [], []
    for m in measured:
        if m.right_after is not None and m.decoded_after is not None:
            shares = [proportion(column, len(column)) for column in m.right_after.T]
            y, low, high = (np.array([100 * share[at] for share in shares]) for at in range(3))
            hue = _HUES[m.name]
            by_steps.append(Curve(list(range(len(y))), y.tolist(), low.tolist(), high.tolist(), colour=hue))
            by_tokens.append(Curve(m.decoded_after.mean(0).tolist(), y.tolist(), colour=hue))
        else:
            by_tokens.append(Curve([float(m.tokens.mean())], [100 * m.accuracy.value], colour=0))
    drawn = [
        curves(by_steps, "Accuracy over steps", "steps", "accuracy, %", y_from=0),
        curves(by_tokens, "Accuracy over decoded tokens", "decoded tokens", "accuracy, %", log="x", y_from=0),
    ]
    return Plots(drawn, {name: _HUES[name] for name in CURVES} | {"all others": 0})


def _rows(measured: Sequence[OnAllProblems]) -> Iterator[dict[str, Any]]:
    for m in measured:
        row: dict[str, Any] = {"sampler": m.name, "forced": m.forced, "problems": len(m.right)}
        row |= {"accuracy": m.accuracy.value, "accuracy_low": m.accuracy.low, "accuracy_high": m.accuracy.high}
        row |= {"tokens_decoded": m.tokens.mean(), "anchor": m.anchor.mean()}
        row |= {"acceptance": m.acceptance, "changed": m.changed}
        if m.right_after is not None and m.decoded_after is not None:
            for step, (right, decoded) in enumerate(zip(m.right_after.T, m.decoded_after.T, strict=True)):
                yield row | {"step": step, "accuracy_after": right.mean(), "decoded_after": decoded.mean()}
        else:
            yield row
