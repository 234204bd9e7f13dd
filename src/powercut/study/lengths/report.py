"""The report of ``study lengths``: what shaping the target does to length and answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.stats import Interval, sign_test
from powercut.report.tables import NOTHING, TextRow, TextTable, fixed, number, p_value, percent
from powercut.report.whiskers import Whisker, whiskers
from powercut.study.bootstrap import clustered_interval
from powercut.study.findings import Findings, Record
from powercut.study.lengths.tree import GOES_ON, SHAPED
from powercut.trace import FloatArray

SAYS = (
    "p^α favours short texts, since each token costs some of p. Three settings change that, and not in the same way. A "
    "least length (min_new_tokens) makes short texts longer and leaves what they answer as it was: a text that has "
    "answered goes on until it may stop. A bonus for each token (length_bonus) moves mass from short texts to long "
    "ones, and with it from their answers to those of long ones. What is required of a text (require) asks for the "
    "thing itself and lets length follow. On the tree every figure is exact, and it shows what each setting means, not "
    "how much of it a model needs. On a model chains of finitely many steps are drawn, which may move less than their "
    "target does."
)

PLAIN = "p^α"
"""The target that nothing shapes: others are compared with it."""

_TREE, _MODEL = "tree", "model"


def findings(records: Sequence[Record], what: str | None, *, graded: bool, seed: int) -> Findings:
    """All of it from the records; ``what`` names model and prompts, None where only the tree was asked for.

    ``graded``: it is known which answers are right.
    """
    exact = [record for record in records if record["of"] == _TREE]
    drawn: dict[str, list[Record]] = {}
    for record in records:
        if record["of"] == _MODEL:
            drawn.setdefault(record["shape"], []).append(record)
    tree = _tree_table(exact)
    sections, main = [], tree
    if what is not None:
        main = _model_table(drawn, graded)
        rng = np.random.default_rng(seed)
        tokens = {name: _interval(_means(own, "tokens"), rng) for name, own in drawn.items()}
        sections.append(_model_section(drawn, main, tokens, what, rng))
    sections.append(
        Section(
            "On a tree with an early answer, exactly",
            [
                Part(
                    "The first token answers at once, in three tokens, or works the answer out in nine; after an "
                    f"answer at once the text goes on where it should stop with probability {GOES_ON:g}. Of each "
                    "target: mean tokens and the mass of answers at once; and of what a staged schedule of entropy "
                    "cuts returns (β 1, 5 × 8 steps, goes on when finished), with its distance to that target in total "
                    "variation.",
                    tree,
                    lambda: _tree_plot(exact),
                )
            ],
        )
    )
    return Findings("Length and answer", SAYS, main, sections, list(_rows(exact, drawn)))


def _model_section(
    drawn: dict[str, list[Record]],
    main: TextTable,
    tokens: dict[str, Interval],
    what: str,
    rng: np.random.Generator,
) -> Section:
    count = len(next(iter(drawn.values()))[0]["tokens"])
    return Section(
        "On a model",
        [
            Part(
                f"{what}; {count:,} completions of each. Means over prompts: tokens, texts that end by themselves, "
                "that have an answer, that are right, and prompts whose most frequent answer is another than without "
                "the setting.",
                main,
                lambda: Plots([whiskers([Whisker(*each) for each in tokens.items()], "Tokens", "tokens")]),
            ),
            Part(
                f"Less {PLAIN} on the same prompts, with the same random numbers: difference in tokens with a 95% "
                "bootstrap interval over prompts, prompts with longer and with shorter texts, p of the sign test.",
                _differences(drawn, rng),
            ),
        ],
    )


def _tree_table(records: Sequence[Record]) -> TextTable:
    head = ["target", "tokens", "answers at once, %", "sampled: tokens", "answers at once, %", "distance"]
    rows = []
    for r in records:
        fields = [r["shape"], f"{r['tokens']:.2f}", percent(r["at_once"]), f"{r['sampled_tokens']:.2f}"]
        rows.append(TextRow([*fields, percent(r["sampled_at_once"]), f"{r['distance']:.3f}"]))
    return TextTable(head, rows)


def _tree_plot(records: Sequence[Record]) -> Plots:
    by_name = {record["shape"]: record for record in records}
    drawn = []
    for setting in ("min_new_tokens", "length_bonus"):
        own = [shaped for shaped in SHAPED.values() if getattr(shaped, setting) or shaped.name == PLAIN]
        own.sort(key=lambda shaped: float(getattr(shaped, setting)))
        x = [float(getattr(shaped, setting)) for shaped in own]
        tokens = Curve(x, [by_name[shaped.name]["tokens"] for shaped in own], colour=2)
        at_once = Curve(x, [10 * by_name[shaped.name]["at_once"] for shaped in own], colour=5, line=1)
        drawn.append(curves([tokens, at_once], f"Over {setting}", setting, "tokens; tenths at once", y_from=0))
    return Plots(drawn, {"mean tokens": 2, "tenths of the mass that answer at once": 5})


def _means(records: Sequence[Record], name: str) -> FloatArray:
    """``[prompts]``, over the completions of each."""
    return np.array([np.mean(record[name]) for record in sorted(records, key=lambda r: int(r["prompt"]))])


def _interval(values: FloatArray, rng: np.random.Generator) -> Interval:
    value, low, high = clustered_interval([np.array([[each]]) for each in values], lambda x: float(x.mean()), rng)
    return Interval(value, low, high) if not np.isnan(low) else Interval(value, value, value)


def _most_frequent(record: Record) -> Any:
    return Counter(record["answers"]).most_common(1)[0][0]


def _model_table(drawn: dict[str, list[Record]], graded: bool) -> TextTable:
    plain = {record["prompt"]: _most_frequent(record) for record in drawn[PLAIN]}
    head = ["target", "tokens", "finished, %", "with an answer, %", "right, %", "other answer, %", "log p"]
    rows = []
    for name, own in drawn.items():
        answered = [np.mean([answer is not None for answer in record["answers"]]) for record in own]
        other = float(np.mean([_most_frequent(record) != plain[record["prompt"]] for record in own]))
        fields = [name, number(float(_means(own, "tokens").mean())), percent(float(_means(own, "finished").mean()))]
        fields += [percent(float(np.mean(answered)))]
        fields += [percent(float(_means(own, "right").mean())) if graded else NOTHING]
        fields += [NOTHING if name == PLAIN else percent(other), number(float(_means(own, "logp").mean()))]
        rows.append(
            TextRow(
                [*fields, percent(float(_means(own, "changed").mean())), number(_means(own, "tokens_decoded").mean())]
            )
        )
    return TextTable([*head, "steps that changed the text, %", "decoded tokens"], rows)


def _differences(drawn: dict[str, list[Record]], rng: np.random.Generator) -> TextTable:
    plain = _means(drawn[PLAIN], "tokens")
    rows = []
    for name, own in drawn.items():
        if name == PLAIN:
            continue
        d = _means(own, "tokens") - plain
        value, low, high = (fixed(end, 1, "+") for end in _interval(d, rng))
        longer, shorter = int((d > 0).sum()), int((d < 0).sum())
        rows.append(
            TextRow([name, f"{value} [{low}, {high}]", f"{longer}", f"{shorter}", p_value(sign_test(longer, shorter))])
        )
    return TextTable(["target", "difference, tokens", "longer", "shorter", "p"], rows)


def _rows(exact: Sequence[Record], drawn: dict[str, list[Record]]) -> Iterator[dict[str, Any]]:
    for record in exact:
        yield {name: value for name, value in record.items() if name != "key"}
    for name, own in drawn.items():
        for record in own:
            columns = ("tokens", "finished", "logp", "answers", "right", "changed", "tokens_decoded")
            for sample, values in enumerate(zip(*(record[column] for column in columns), strict=True)):
                row = {"of": _MODEL, "shape": name, "prompt": record["prompt"], "sample": sample}
                yield row | dict(zip(columns, values, strict=True))
