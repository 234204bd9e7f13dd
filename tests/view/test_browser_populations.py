"""The page in a browser: particles, and candidates."""

import re

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from powercut.samplers import SMC, TMC, BestOfN
from tests.view.chromium import IN_A_BROWSER
from tests.view.recorded import WORDS, recorded, shown_text

pytestmark = IN_A_BROWSER


def test_particles(page, show):
    events, _, chains = recorded(SMC(particles=6, block_size=5, max_new_tokens=25, alpha=3, ess_threshold=0.9), seed=6)
    populations = [event.population for event in events]
    show(chains)
    final = chains.by_place[0, 0].completed.tokens.tolist()
    assert page.shown() == "".join(WORDS[token] if token else "" for token in final).replace("\u202e", "\\u202e")
    assert len(page.all(".plot circle.particle")) == 6 * len(populations)
    assert len(page.all(".plot line.lineage.ancestor")) == len(populations) - 1
    show(chains, at="#block=2&particle=3")
    assert page.shown() == shown_text(populations[1].traces[3])
    page.press(Keys.ARROW_LEFT)
    assert page.hash == "#block=1&particle=3"
    page.find(".plot").send_keys(Keys.ARROW_DOWN)
    assert page.hash == "#block=1&particle=4"
    assert page.shown() == shown_text(populations[0].traces[4])
    page.run(
        "document.querySelectorAll('.plot circle.particle')[7].dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert page.hash == "#block=2&particle=1"
    assert page.find(".plot svg").get_attribute("aria-label").startswith(f"6 particles over {len(populations)} blocks")


def test_candidates(page, show):
    events, _, chains = recorded(BestOfN(n=5, max_new_tokens=12), seed=2)
    show(chains)
    ordered = sorted((event.trace for event in events), key=lambda trace: -trace.logp.mean())
    assert page.shown() == shown_text(ordered[0])
    assert page.find(".pick").text == "1 ★ returned"
    page.press(Keys.ARROW_RIGHT)
    assert (page.hash, page.shown()) == ("#candidate=2", shown_text(ordered[1]))
    page.all(".pick")[4].click()
    assert (page.hash, page.shown()) == ("#candidate=5", shown_text(ordered[4]))


def test_blocks_of_tmc_and_their_candidates(page, show):
    sampler = TMC(alpha=2, block_size=4, candidates=5, keep=3, rollouts=2, horizon=6, max_new_tokens=16)
    events, _, chains = recorded(sampler, seed=3)
    populations = [event.population for event in events]
    show(chains)
    assert page.shown() == shown_text(events[-1].trace)
    assert len(page.all(".plot circle.particle")) == sum(len(each.traces) for each in populations)
    assert len(page.all(".plot circle.particle.ancestor")) == len(events)
    summary = page.find(".plot svg").get_attribute("aria-label")
    assert summary == f"{len(events)} blocks, each drawn from 3 candidates at most."
    assert "a candidate; its size is its chance" in page.texts(".legend li")
    show(chains, at="#block=2&particle=1")
    assert page.shown() == shown_text(populations[1].traces[1])
    chance = float(np.exp(populations[1].log_weights)[1])
    [told] = re.findall(r"^block 2, candidate 1: chance ([\d.]+)%$", page.where)
    assert float(told) == pytest.approx(100 * chance, abs=0.5)
