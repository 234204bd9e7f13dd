"""Markdown, CSV and HTML: what they hold, and that nothing in a name can break them."""

import csv
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from powercut.report import csv as csv_report
from powercut.report.build import build
from powercut.report.read import read_runs
from powercut.report.stats import Interval
from powercut.report.summary import summarise
from powercut.report.tables import difference, fixed, number, overview, p_value, percent, task_table
from tests.report.example import ablation, about_cell, comparison, write_run

RL = "rl/Qwen-7B-GRPO"
NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), comparison(20, 4) + ablation(20, 2), skills={RL: 0.8})


@pytest.fixture(scope="module")
def summary(folder):
    return summarise(read_runs([folder])[0])


@pytest.fixture(scope="module")
def made(folder):
    return build([folder])


class Page(HTMLParser):
    """What a page refers to, its ids, its text, and whether its tags are closed in order."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("src", "href", "xlink:href") if name in found]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def tables(text):
    """The tables of a Markdown text, as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in line[1:-1].split(" | ")] for line in block.splitlines()] for block in blocks]


def test_numbers_have_three_digits():
    shown = [number(x) for x in (0.123, -3.456, 12.34, 456.7, 1234.5, -1e6, NAN, float("-inf"), -0.001)]
    assert shown == ["0.12", "−3.46", "12.3", "457", "1,234", "−1,000,000", "–", "−inf", "0.00"]
    assert [percent(0.1234), percent(NAN), p_value(0.0004), p_value(0.0449)] == ["12.3", "–", "<0.001", "0.045"]


def test_differences_have_signs_and_zero_has_none():
    assert [fixed(x, 3, "+") for x in (0.0004, -0.0004, 0.0006, -1.5)] == ["0.000", "0.000", "+0.001", "−1.500"]
    assert difference(Interval(-0.0001, -0.123, 0.0)) == "0.0 [−12.3, 0.0]"
    assert difference(Interval(0.2, 0.0512, 1.0)) == "+20.0 [+5.1, +100.0]"


def test_every_markdown_table_is_a_table(made):
    found = tables(made.texts["md"])
    assert len(found) >= 12
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert all(set(cell) <= set("-:") for cell in table[1])


def test_the_best_of_each_model_is_bold(summary):
    entries = summary.tasks["math500"]
    table = task_table(entries)
    at = table.head.index("accuracy, %")
    bold = [entry for entry, row in zip(entries, table.rows, strict=True) if at in row.bold]
    assert [entry.model for entry in bold] == ["Qwen-7B", "Qwen-7B-GRPO"]
    for best in bold:
        rivals = [entry.accuracy.value for entry in entries if entry.model == best.model]
        assert best.accuracy.value == max(rivals)
    for head in ("entropy", "acceptance, %", "changed, %", "errors", "n"):
        assert not any(table.head.index(head) in row.bold for row in table.rows)


def test_acceptance_and_what_changed_are_shown_of_samplers_with_steps(summary):
    entries = summary.tasks["math500"]
    table = task_table(entries)
    for head, measure in (("acceptance, %", "acceptance"), ("changed, %", "changed")):
        texts = [row.fields[table.head.index(head)] for row in table.rows]
        cuts = [entry.facts.sampler.endswith("-cut") for entry in entries]
        assert texts == [
            percent(entry.means[measure]) if cut else "–" for entry, cut in zip(entries, cuts, strict=True)
        ]
        assert any(cuts)


def test_the_overview_has_every_task_and_a_dash_for_what_was_not_run(summary):
    table = overview(summary)
    assert table.head == ["model", "sampler", "gsm8k", "humaneval", "math500"]
    row = next(row for row in table.rows if row.fields[1] == "entropy-cut (α=8, steps=10)")
    assert row.fields[3:] == ["–", "–"]
    second = next(at for at, row in enumerate(table.rows) if at and row.group)
    samplers = [row.fields[1].split(" ")[0] for row in table.rows[:second]]
    assert samplers == sorted(samplers, key=samplers.index)  # variants of a sampler stand together


def test_csv_has_every_figure_at_full_precision(summary):
    rows = list(csv.DictReader(io.StringIO(csv_report.results(summary))))
    entries = [entry for group in summary.tasks.values() for entry in group]
    assert [row["cell"] for row in rows] == [entry.cell.name for entry in entries]
    tests = {(test.entry.cell.name, test.baseline.cell.name): test for test in summary.tests}
    for row, entry in zip(rows, entries, strict=True):
        assert float(row["accuracy"]) == entry.accuracy.value
        assert float(row["accuracy_low"]) == entry.accuracy.low
        assert float(row["tokens_decoded"]) == entry.means["tokens_decoded"]
        assert [float(row[f"pass@{k + 1}"]) for k in range(len(entry.pass_at))] == [x.value for x in entry.pass_at]
        assert row["setting:top_k"] == "50"
        own = [t for (name, _), t in tests.items() if name == entry.cell.name and t.baseline.model == entry.model]
        for test in own:
            assert float(row[f"{test.baseline.facts.sampler}:p"]) == test.result.p
    assert any(row["standard:p_holm"] for row in rows)
    assert rows[0]["acceptance"] == ""


def test_the_page_needs_nothing_else_and_its_ids_are_its_own(made):
    text = made.texts["html"]
    page = Page(text)
    assert not page.open
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not [name for name, count in Counter(page.ids).items() if count > 1]
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert "@import" not in text


def test_the_page_has_plots_in_its_own_colours(made, summary):
    text = made.texts["html"]
    # accuracy, pass@k and cost of three tasks, and two ablations
    assert text.count("<svg") == 3 * 3 + 2
    assert "#fe00" not in text
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--\w+):", text))
    words = Page(text).words
    for entry in summary.tasks["gsm8k"]:
        assert entry.label in words
        assert percent(entry.accuracy.value) in words
    assert words.count("entropy-cut (α=2, steps=10)") >= 4  # in tables, and beside its bar


def test_names_cannot_break_the_page_or_the_tables(tmp_path):
    evil = "a|b <script>alert(1)</script> *x* & $y_2$\n# z"
    cells = [about_cell(evil, "o" + evil, sampler, {"k": evil}, 3, 2) for sampler in ("standard", evil)]
    for at, cell in enumerate(cells):
        cell["cell"] = f"cell{at}"
    made = build([write_run(tmp_path / "run", cells)])
    assert "<script" not in made.texts["html"]
    assert not Page(made.texts["html"]).open
    assert "<script" not in made.texts["md"].replace("\\<", "")
    heads = [line for line in made.texts["md"].splitlines() if line.startswith("#")]
    assert len(heads) == 3


class Attributes(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in attrs] or [(tag, None, None)]


def test_no_text_of_a_run_folder_becomes_part_of_the_page(tmp_path):
    evil = 'x" onload="alert(1)" y=\'z\' <script>alert(2)</script> </svg> id="a #fe0001 url(#p) \'>'
    cells = [
        about_cell(
            evil, f"m/{model}{evil}", sampler + evil, {"alpha": 4.0, evil: v, "s": evil}, 3, 2, matched=f"m{evil}"
        )
        for model in "ab"
        for sampler in ("entropy-cut", "best-of-n", evil)
        for v in (1, 2, 3)
    ]
    for at, cell in enumerate(cells):
        cell |= {"cell": f'cell{at}" onload="', "data": {"sha256": evil, "file": evil}, "dtype": evil}
        cell["prompt_style"] = evil
    folder = write_run(tmp_path / "run", cells)
    facts = {"format": 1, "created": evil, "powercut": evil, "argv": [evil, evil], "git": {"commit": evil}}
    (folder / "run.json").write_text(json.dumps(facts))
    text = build([folder]).texts["html"]
    assert not Page(text).open
    found = Attributes(text).found
    assert not [tag for tag, _, _ in found if tag in ("script", "iframe", "object", "embed", "link")]
    assert not [name for _, name, _ in found if name and name.startswith("on")]
    titles = {value for tag, name, value in found if name == "aria-label"}
    assert f"Accuracy and decoded tokens over {evil}" in titles
    words = " ".join(Page(text).words)
    assert words.count(f"entropy-cut{evil}") > 10
    assert "plot1-" not in words
    assert words.count("#fe0001") == words.count("alert(2)")


def test_labels_are_not_taken_for_mathematics_and_long_ones_leave_room(tmp_path):
    long = {f"setting_number_{i}": i for i in range(4)}
    settings = [{"stop": r"$\frac$", **long}, {"stop": "x", **dict.fromkeys(long, 9)}, {"stop": r"$\oops{$"}]
    models = ["漢字/" + "m" * 200] * 2 + ["漢字"]
    cells = [about_cell("t", model, "entropy-cut", s, 3, 2) for model, s in zip(models, settings, strict=True)]
    made = build([write_run(tmp_path / "run", cells)])  # a warning, of a collapsed plot or a missing glyph, would fail
    assert made.texts["html"].count("<svg") == 3


def test_one_completion_a_problem_and_one_sampler_are_enough(tmp_path):
    made = build([write_run(tmp_path / "run", [about_cell("t", "m", "standard", {}, 1, 1)])])
    assert made.texts["html"].count("<svg") == 2  # no pass@k
    assert len(tables(made.texts["md"])) == 3
    assert made.table.head[:2] == ["task", "sampler"]


def test_all_wrong_and_nothing_else_known(tmp_path):
    folder = write_run(tmp_path / "run", [about_cell("t", "m", "standard", {}, 2, 2)])
    file = next(folder.glob("cells/*/results.jsonl"))
    file.write_text("".join(f'{{"id": "{i}", "seed": {s}, "correct": false}}\n' for i in "ab" for s in (0, 1)))
    made = build([folder])
    [head, _, row] = tables(made.texts["md"])[0]
    assert head == ["sampler", "accuracy, %", "s.d. over seeds", "errors", "n"]
    assert row[1:] == ["0.0 [0.0, 65.8]", "0.0", "0", "2×2"]


def test_settings_and_runs_are_told(tmp_path):
    about = about_cell("t", "m", "standard", {"top_k": None}, 2, 1, data={"file": "/d.json", "sha256": "0123456789"})
    folder = write_run(tmp_path / "run", [about])
    git = {"commit": "89abcdef" * 5, "dirty": True}
    facts = {
        "format": 1,
        "created": "2026-01-02",
        "argv": ["/bin/powercut", "eval", "a b"],
        "git": git,
        "resumed": [{}, {}],
    }
    (folder / "run.json").write_text(json.dumps(facts))
    *_, settings, runs = tables(build([folder]).texts["md"])
    assert settings[2] == ["t", "standard", r"top\_k none, prompt\_style chat, data 01234567"]
    created, _, commit, command = runs[2][1:]
    assert created == "2026-01-02, resumed 2×"
    assert (commit, command) == ("89abcdef89 and changes", "powercut eval 'a b'")


def test_the_same_run_gives_the_same_files(folder, made):
    assert build([folder]).texts == made.texts
