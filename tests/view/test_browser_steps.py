"""The page in a browser: going through a chain, its picture, its steps."""

import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from powercut.samplers import SMC, Standard
from tests.view.chromium import IN_A_BROWSER
from tests.view.recorded import CHAIN, long_chain, read_lines, recorded, shown_text

pytestmark = IN_A_BROWSER


def test_it_opens_with_the_final_text(page, chain):
    events, url = chain
    page.open(url)
    assert page.shown() == shown_text(events[-1].trace)
    assert page.where == "the final text"
    assert page.hash == ""
    assert page.texts("h1") == ["a chain"]
    spans = page.all("#texts .t")
    assert len(spans) == len(events[-1].trace)
    for span, entropy in zip(spans, events[-1].trace.entropy, strict=True):
        assert f"h{min(8, round(8 * (max(entropy, 0) / 4) ** 0.5))}" in span.get_attribute("class").split()
    entropies = events[-1].trace.entropy.tolist()
    jumps = [entropy - before for entropy, before in zip(entropies, [0, *entropies[:-1]], strict=True)]
    marked = ["jump" in span.get_attribute("class").split() for span in spans]
    assert marked == [round(jump, 3) >= 0.5 for jump in jumps]


def test_a_link_leads_to_a_step_and_keys_go_on_from_there(page, chain):
    events, url = chain
    page.open(f"{url}#step=7")
    assert page.where.startswith("step 7: ")
    step = [i for i, event in enumerate(events) if event.step is not None][6]
    assert page.shown(0) == shown_text(events[step - 1].trace)
    page.press(Keys.ARROW_RIGHT)
    assert page.hash == ("#step=8" if events[step + 1].step else f"#stage={events[step + 1].stage + 1}")
    page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.hash == ("#step=6" if events[step - 1].step else f"#stage={events[step - 1].stage + 1}")
    page.press(Keys.HOME)
    assert page.hash == "#stage=1"
    page.press(Keys.END)
    assert page.hash == ""
    page.run("location.hash = '#step=3'")
    page.until("return document.getElementById('where').textContent.startsWith('step 3: ')")


def test_a_step_is_shown_with_its_proposal(page, chain):
    events, url = chain
    number, seen = 0, set()
    page.open(f"{url}#stage=1")
    for before, event in pairwise(events):
        page.press(Keys.ARROW_RIGHT)
        if event.step is None:
            assert page.shown() == shown_text(event.trace)
            continue
        number += 1
        step = event.step
        assert page.hash == f"#step={number}"
        assert page.shown(0) == shown_text(before.trace)
        assert page.shown(1) == shown_text(before.trace[: step.cut]) + shown_text(event.proposal)
        cut = [
            page.run(f"return document.querySelectorAll('#texts .text')[{i}].querySelectorAll('.cutmark').length")
            for i in (0, 1)
        ]
        assert cut == [1, 1]
        same = before.trace[step.cut :].differs_at(event.proposal)
        shared = len(event.proposal) if same is None else min(same, len(event.proposal))
        assert len(page.all("#texts .t.repeated")) == shared
        panel = page.find("#panel").text
        assert ("accepted" if step.accepted else "rejected") in panel
        total = f"{step.log_accept:+.2f}".replace("-", "−")
        assert re.search(rf"log A(, at most)? {re.escape(total)}", panel)
        assert ("at most" in panel) == step.early
        assert f"needed: log u −{-step.log_u:.2f}" in panel
        assert "cut law" in panel
        if len(event.proposal) > 1:
            assert page.find("#panel svg.bound").get_attribute("aria-label").endswith("was needed.")
        seen.add((step.accepted, step.early, step.changed_at is not None))
    assert len(seen) == 3


def test_a_click_on_the_picture_leads_to_the_step(page, chain):
    events, url = chain
    page.open(url)
    for i in (0, 5, len(events) - 1):
        page.run(
            "const plot = document.querySelector('.plot svg'), box = plot.getBoundingClientRect();"
            "const first = plot.querySelector('.column').getBoundingClientRect().left;"
            "const step = (box.right - 10 - first) / arguments[1];"
            "const at = {clientX: first + step * (arguments[0] + 0.5), clientY: box.top + 50};"
            "plot.dispatchEvent(new MouseEvent('click', {bubbles: true, ...at}))",
            i,
            len(events),
        )
        number = sum(event.step is not None for event in events[: i + 1])
        assert page.hash == (f"#step={number}" if events[i].step else f"#stage={events[i].stage + 1}")


def test_the_picture_has_every_event_as_it_was(page, chain):
    events, url = chain
    page.open(url)
    columns = page.run(
        "const kinds = (c) => [...c.children].map((e) => e.getAttribute('class'));"
        "return [...document.querySelectorAll('.plot .column')].map(kinds)"
    )
    assert len(columns) == len(events)
    for kinds, event in zip(columns, events, strict=True):
        if event.step is None:
            assert kinds == ["standing", "extended"]
            continue
        assert kinds.count("cut") == 1
        assert ("early" in kinds) == event.step.early
        assert ("accepted" in kinds) == event.step.accepted
        assert ("rejected" in kinds) == (not event.step.accepted)
    summary = page.find(".plot svg").get_attribute("aria-label")
    steps = [event.step for event in events if event.step is not None]
    assert summary.startswith(f"{len(steps)} steps: {sum(step.accepted for step in steps)} accepted, ")
    page.run("document.querySelector('details.words').open = true")
    page.until("return document.querySelector('details.words table')")
    assert len(page.all("details.words tbody tr")) == len(events)


@pytest.mark.parametrize(
    "sampler", [CHAIN, SMC(particles=4, block_size=8, max_new_tokens=24), Standard(max_new_tokens=24)]
)
def test_the_picture_is_there_before_the_first_frame(page, sampler, show):
    """Whoever opens a page at a step finds it, however busy the machine: observers report only after a frame."""
    _, _, chains = recorded(sampler, seed=1)
    with page.before_each_page("window.ResizeObserver = class { observe() {} };"):
        show(chains)
        assert page.find(".plot svg").get_attribute("aria-label")


def test_another_completion_can_be_chosen(page, chain):
    _, url = chain
    page.open(f"{url}#chain=2&step=2")
    assert page.where.startswith("step 2: ")
    first = page.run("return document.getElementById('which').value")
    assert first == "1"
    page.run("const w = document.getElementById('which'); w.value = 0; w.dispatchEvent(new Event('change'))")
    page.until("return document.getElementById('where')?.textContent === 'the final text'")
    assert page.hash == ""


def test_a_long_chain_is_built_as_it_is_looked_at(page, show):
    """3,072 tokens and 160 steps: what is not in view is not built, and all of it can be reached."""
    show(read_lines(long_chain()))
    assert len(page.all(".plot .column")) == 168
    built = "return document.querySelectorAll('#texts .t').length"
    assert page.run(built) < 1500
    page.run("const box = document.querySelector('#texts .text'); box.scrollTop = box.scrollHeight")
    page.until("return document.querySelector('#texts [data-t=\"3071\"]') !== null")
    assert page.run(built) < 3072
    page.press(*[Keys.ARROW_LEFT] * 5)
    assert page.hash == "#step=156"


def test_a_completion_without_steps_shows_how_unsure_the_model_was(page, show):
    events, _, chains = recorded(Standard(max_new_tokens=30, min_new_tokens=12), seed=4)
    [trace] = [event.trace for event in events]
    show(chains)
    assert page.shown() == shown_text(trace)
    bars = page.all(".plot svg rect")
    assert len(bars) == len(trace)
    most = float(trace.entropy.max())
    summary = page.find(".plot svg").get_attribute("aria-label")
    assert summary.startswith(f"Entropy before each of {len(trace)} tokens: {most:.2f} nats at most, ")
    assert not page.all(".column")
    assert not page.all("input[type=range]")
    names = page.texts(".bar button")
    assert names == ["uncertain token"]
    page.run(
        "const plot = document.querySelector('.plot svg'), bar = plot.querySelectorAll('rect')[arguments[0]];"
        "const box = bar.getBoundingClientRect(), at = {clientX: box.left + 1, clientY: box.top};"
        "plot.dispatchEvent(new MouseEvent('click', {bubbles: true, ...at}))",
        5,
    )
    assert page.run("return document.querySelector('.t.picked').dataset.t") == "5"
    page.press(Keys.ARROW_LEFT, Keys.ARROW_RIGHT)
    assert page.shown() == shown_text(trace)


def test_its_benchmark_runs(monkeypatch, capsys):
    script = Path(__file__).parents[2] / "benchmarks" / "view.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--tokens", "64", "--steps", "8", "--repeats", "1"])
    runpy.run_path(str(script), run_name="__main__")
    assert "| from navigation to ready | " in capsys.readouterr().out
