"""The page in a browser: what it tells of a token, the search, and what a text must not do or hide."""

import re

import pytest
from selenium.webdriver.common.keys import Keys

from powercut.samplers import SMC, BestOfN, Standard
from tests.view.chromium import IN_A_BROWSER
from tests.view.recorded import CHAIN, HOSTILE, read_lines, recorded, shown_text

pytestmark = IN_A_BROWSER


def test_the_next_change_and_the_next_uncertain_token(page, chain):
    events, url = chain
    changed = [i for i, event in enumerate(events) if event.step is not None and event.step.changed_at is not None]
    numbers = [sum(event.step is not None for event in events[: i + 1]) for i in changed]
    page.open(f"{url}#stage=1")
    for number in numbers[:3]:
        page.press("n")
        assert page.hash == f"#step={number}"
    page.press("N")
    assert page.hash == f"#step={numbers[1]}"
    page.press(Keys.END, "u")
    trace = events[-1].trace
    unsure = [t for t, entropy in enumerate(trace.entropy) if entropy >= min(1, max(trace.entropy) / 2)]
    picked = "return [...document.querySelectorAll('.t.picked')].map((t) => Number(t.dataset.t))"
    assert page.run(picked) == unsure[:1]
    page.press("u")
    assert page.run(picked) == unsure[1:2]
    page.press("U", "]")
    assert page.run(picked) == [unsure[0] + 1]
    page.press("[")
    assert page.run(picked) == unsure[:1]
    assert page.texts("#said")[0].startswith(page.find("#token code").text)


def test_a_token_is_told_of(page, chain):
    events, url = chain
    page.open(url)
    final, steps = events[-1].trace, [event for event in events if event.step is not None]
    for t in (0, 3, len(final) - 1):
        told = page.hover(t)
        assert f"token {t}" in told
        for name, value in (("log p", final.logp[t]), ("entropy before it", final.entropy[t])):
            [number] = re.findall(rf"^{name}\n(−?[\d.]+)", told, re.MULTILINE)
            assert float(number.replace("−", "-")) == pytest.approx(value, abs=0.006)
        cuts = sum(event.step.cut == t for event in steps)
        assert f"cut here\n{cuts} time" in told
        assert "survived\n" in told
        assert "The most likely here" in told
        assert "◂ drawn" in told


def test_how_often_a_token_survived(page, chain):
    """Counted once more, from the events."""
    events, url = chain
    page.open(url)
    alive = []
    for event in events:
        if event.step is None:
            alive += [0] * len(event.proposal)
        else:
            kept = len(alive) if event.step.changed_at is None else event.step.changed_at
            alive = [n + (event.step.cut <= t) for t, n in enumerate(alive[:kept])]
            alive += [0] * (len(event.trace) - kept)
    for t in range(0, len(alive), 5):
        told = page.hover(t)
        assert f"survived\n{alive[t]} re-opening" in told if alive[t] else "survived\nno re-opening yet" in told


def test_search(page, chain):
    events, url = chain
    page.open(url)
    text = shown_text(events[-1].trace)
    page.press("/")
    assert page.run("return document.activeElement.id") == "search"
    page.press("answer")
    count = text.count("answer")
    assert page.find("#found").text == (f"{count} match" if count == 1 else f"{count} matches")
    assert all("answer" in word for word in page.texts(".t.hit"))
    page.press(Keys.ENTER)
    assert "answer" in page.find(".t.picked").text
    page.press(Keys.ESCAPE, "n", Keys.HOME)
    assert page.hash == "#stage=1"


def test_a_model_s_text_is_never_markup(page, show):
    for sampler in (CHAIN, SMC(particles=4, block_size=8, max_new_tokens=24), BestOfN(n=3, max_new_tokens=24)):
        _, _, chains = recorded(sampler, seed=1)
        show(chains, HOSTILE, lambda text: HOSTILE)
        assert page.run("return document.title") == HOSTILE
        assert page.texts("h1") == [HOSTILE]
        assert page.run("return document.querySelectorAll('img, b:not(.cutmark)').length") == 0
        assert page.run("return document.querySelectorAll('script').length") == 3
        page.press(Keys.HOME)
        assert page.run("return document.querySelectorAll('img').length") == 0


def test_what_is_invisible_is_seen(page, show):
    """Ends of lines, tabs, spaces, marks of direction, special tokens, and characters that are several tokens."""
    _, lines, _ = recorded(Standard(max_new_tokens=6), seed=2)
    whole = next(line for line in lines if line["kind"] == "extend")
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    columns = {name: [0.0] * len(tokens) for name in ("logp", "logq", "entropy")}
    whole["proposal"] = {"tokens": tokens, **columns, "text": "", "likely": None}
    pieces = {
        "1": " a",
        "2": "\n",
        "3": "\t",
        "4": "x\u202ey",
        "5": [240, 159],
        "6": [152],
        "7": [128, 255],
        "8": "数",
        "10": "\u200d",
    }
    lines = [{"kind": "pieces", "pieces": pieces, "special": {"9": "<|im_end|>"}}, whole]
    show(read_lines(lines))
    assert page.texts("#texts .t") == [" a", "\n", "\t", "x\\u202ey", "😀", "", "\\xff", "数", "<|im_end|>", "\u200d"]
    content = "return getComputedStyle(document.querySelector(arguments[0]), '::before').content"
    assert page.run(content, "#texts .line") == '"↵"'
    marked = "return [...document.querySelectorAll('#texts .t')].map((t) => getComputedStyle(t, '::before').content)"
    assert [i for i, shown in enumerate(page.run(marked)) if shown == '"⋮"'] == [5]  # not where the character stands
    assert page.run(content, "#texts .tab") == '"⇥"'
    assert "gradient" in page.run("return getComputedStyle(document.querySelector('#texts .space')).backgroundImage")
    assert page.texts("#texts .special") == ["<|im_end|>"]
    assert page.texts("#texts .hidden") == ["\\u202e"]
    told = page.hover(4)
    assert "What else was likely is not in the file." in told
