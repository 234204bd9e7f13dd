"""The page in a browser: every interaction, by mouse and by keyboard (make test-browser)."""

import asyncio
import re
import threading
from itertools import pairwise

import pytest
import uvicorn
from selenium.webdriver.common.keys import Keys

from powercut.samplers import SMC, BestOfN, EntropyCut, Standard
from powercut.server.branching import Door, create_view_app
from powercut.server.serving import listen
from powercut.view.page import view_page
from tests.view.chromium import PATIENCE, chromium
from tests.view.recorded import HOSTILE, WORDS, long_chain, read_lines, recorded, words_engine

pytestmark = [
    pytest.mark.browser,
    # of selenium's and the servers' own, whenever they are collected
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CHAIN = EntropyCut(max_new_tokens=40, blocks=4, steps=8, alpha=2, refine_finished=True)


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser):
    browser.size(1280)
    browser.scheme("light")
    browser.complaints()
    yield browser
    assert browser.complaints() == []


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The events of a chain, and its page's address."""
    events, _, chains = recorded(CHAIN, seed=5, n=2)
    file = tmp_path_factory.mktemp("view") / "chain.html"
    file.write_text(view_page(chains, "a chain"), encoding="utf-8")
    own = len(chains.by_place[0, 0].proposals)
    return events[:own], f"file://{file}"


def text_of(trace, start=0):
    """What the page shows of tokens: marks of the direction of writing are spelt out."""
    spelt = [WORDS[token] if token else "" for token in trace.tokens[start:].tolist()]
    return "".join(spelt).replace("\u202e", "\\u202e")


def test_it_opens_with_the_final_text(page, chain):
    events, url = chain
    page.open(url)
    assert page.shown() == text_of(events[-1].trace)
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
    assert page.shown(0) == text_of(events[step - 1].trace)
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
            assert page.shown() == text_of(event.trace)
            continue
        number += 1
        step = event.step
        assert page.hash == f"#step={number}"
        assert page.shown(0) == text_of(before.trace)
        assert page.shown(1) == text_of(before.trace[: step.cut]) + text_of(event.proposal)
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


@pytest.mark.parametrize("sampler", [CHAIN, SMC(particles=4, block_size=8, max_new_tokens=24)])
def test_the_picture_is_there_before_the_first_frame(page, sampler, tmp_path):
    """Whoever opens a page at a step finds it, however busy the machine: observers report only after a frame."""
    _, _, chains = recorded(sampler, seed=1)
    file = tmp_path / "at-once.html"
    file.write_text(view_page(chains, "at once"), encoding="utf-8")
    with page.before_each_page("window.ResizeObserver = class { observe() {} };"):
        page.open(f"file://{file}")
        assert page.find(".plot svg").get_attribute("aria-label")


def test_search(page, chain):
    events, url = chain
    page.open(url)
    text = text_of(events[-1].trace)
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


def test_the_keyboard_is_enough(page, chain):
    """Everything that can be done has its place in the order of the Tab key, and can be seen there."""
    _, url = chain
    page.open(url)
    reached = []
    for _ in range(40):
        page.press(Keys.TAB)
        reached.append(
            page.run(
                "const e = document.activeElement; return e === document.body ? null : "
                "[e.tagName, e.getAttribute('aria-label') ?? e.textContent, getComputedStyle(e).outlineStyle]"
            )
        )
        if reached[-1] is None:
            break
    names = [each[1] for each in reached if each]
    for name in (
        "Keys",
        "Where in the chain",
        "next change",
        "uncertain token",
        "final text",
        "Search the text",
        "Final text",
    ):
        assert name in names, name
    assert all(each[2] != "none" for each in reached if each)
    page.press("?")
    assert page.find("#keys").get_attribute("open")
    assert "next, previous change" in page.find("#keys").text


def test_pictures_and_texts_have_names(page, chain):
    _, url = chain
    tree = page.open(f"{url}#step=5").tree()
    images = [name for role, name in tree if role in ("image", "img")]
    assert any(" steps: " in name for name in images)
    assert all(images)
    assert ("slider", "Where in the chain") in tree
    assert any(role == "group" and name.startswith("Proposal, ") for role, name in tree)


def test_a_model_s_text_is_never_markup(page, tmp_path):
    for sampler in (CHAIN, SMC(particles=4, block_size=8, max_new_tokens=24), BestOfN(n=3, max_new_tokens=24)):
        _, _, chains = recorded(sampler, seed=1)
        file = tmp_path / "hostile.html"
        file.write_text(view_page(chains, f"{HOSTILE}", lambda text: HOSTILE), encoding="utf-8")
        page.open(f"file://{file}")
        assert page.run("return document.title") == HOSTILE
        assert page.texts("h1") == [HOSTILE]
        assert page.run("return document.querySelectorAll('img, b:not(.cutmark)').length") == 0
        assert page.run("return document.querySelectorAll('script').length") == 3
        page.press(Keys.HOME)
        assert page.run("return document.querySelectorAll('img').length") == 0


def test_what_is_invisible_is_seen(page, tmp_path):
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
    file = tmp_path / "invisible.html"
    file.write_text(view_page(read_lines(lines), "invisible"), encoding="utf-8")
    page.open(f"file://{file}")
    assert page.texts("#texts .t") == [" a", "\n", "\t", "x\\u202ey", "😀", "", "\\xff", "数", "<|im_end|>", "\u200d"]
    content = "return getComputedStyle(document.querySelector(arguments[0]), '::before').content"
    assert page.run(content, "#texts .line") == '"↵"'
    assert page.run(content, "#texts .tab") == '"⇥"'
    assert "gradient" in page.run("return getComputedStyle(document.querySelector('#texts .space')).backgroundImage")
    assert page.texts("#texts .special") == ["<|im_end|>"]
    assert page.texts("#texts .hidden") == ["\\u202e"]
    told = page.hover(4)
    assert "What else was likely is not in the file." in told


LUMINANCE = """
const parts = (c) => c.match(/[\\d.]+/g).map(Number);
const over = (top, under) => {
  const [r, g, b, a = 1] = parts(top), u = parts(under);
  return [r, g, b].map((x, i) => a * x + (1 - a) * u[i]);
};
const linear = (x) => (x / 255 <= 0.03928 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const contrast = (a, b) => {
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
const paper = getComputedStyle(document.body).backgroundColor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_tint(page, chain, scheme):
    _, url = chain
    page.scheme(scheme)
    page.open(url)
    contrasts = page.run(
        LUMINANCE
        + "return [0,1,2,3,4,5,6,7,8].map((i) => { const t = document.createElement('span'); t.className = `t h${i}`;"
        "document.querySelector('#texts .text').append(t); const s = getComputedStyle(t);"
        "return contrast(over(s.color, paper), over(s.backgroundColor, paper)); })"
    )
    assert min(contrasts) >= 4.5
    soft = page.run(
        LUMINANCE
        + "return contrast(over(getComputedStyle(document.querySelector('footer')).color, paper), parts(paper))"
    )
    assert soft >= 4.5
    assert (page.run(LUMINANCE + "return light(parts(paper))") < 0.2) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["deuteranopia", "protanopia", "tritanopia", "achromatopsia"])
def test_verdicts_differ_for_those_who_see_fewer_colours(page, chain, scheme, kind):
    """As Chromium shows the page to them: accepted, rejected and an extension are told apart, by shape too."""
    _, url = chain
    page.scheme(scheme)
    page.open(url)
    colours = page.run(
        LUMINANCE + "const key = (k) => getComputedStyle(document.querySelector(`.legend .${k}`)).backgroundColor;"
        "return ['accepted', 'rejected'].map((k) => parts(key(k)).slice(0, 3))"
    )
    seen = [as_seen(colour, kind) for colour in colours]
    assert sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5 > (20 if kind == "achromatopsia" else 60)
    widths = page.run(
        "const w = (k) => Number(document.querySelector(`.plot rect.${k}:not(.repeated)`).getAttribute('width'));"
        "return w('rejected') / w('accepted')"
    )
    assert widths < 0.7


SEEN = {  # Machado, Oliveira and Fernandes 2009, at full severity, of linear light
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "achromatopsia": ((0.2126, 0.7152, 0.0722),) * 3,
}


def as_seen(colour, kind):
    linear = [((x / 255 + 0.055) / 1.055) ** 2.4 if x > 10 else x / 255 / 12.92 for x in colour]
    mixed = [min(1.0, max(0.0, sum(m * x for m, x in zip(row, linear, strict=True)))) for row in SEEN[kind]]
    return [255 * (1.055 * x ** (1 / 2.4) - 0.055) if x > 0.0031308 else 255 * 12.92 * x for x in mixed]


@pytest.mark.parametrize("where", ["", "#step=5"])
def test_it_fits_a_narrow_screen(page, chain, where):
    _, url = chain
    page.size(400)
    page.open(url + where)
    assert page.run("return document.documentElement.scrollWidth") <= 400
    assert (
        page.run("return Math.min(...[...document.querySelectorAll('#texts .text')].map((e) => e.clientWidth))") > 320
    )


def test_another_completion_can_be_chosen(page, chain):
    _, url = chain
    page.open(f"{url}#chain=2&step=2")
    assert page.where.startswith("step 2: ")
    first = page.run("return document.getElementById('which').value")
    assert first == "1"
    page.run("const w = document.getElementById('which'); w.value = 0; w.dispatchEvent(new Event('change'))")
    page.until("return document.getElementById('where')?.textContent === 'the final text'")
    assert page.hash == ""


def test_particles(page, tmp_path):
    events, _, chains = recorded(SMC(particles=6, block_size=5, max_new_tokens=25, alpha=3, ess_threshold=0.9), seed=6)
    populations = [event.population for event in events]
    file = tmp_path / "smc.html"
    file.write_text(view_page(chains, "smc"), encoding="utf-8")
    page.open(f"file://{file}")
    final = chains.by_place[0, 0].completed.tokens.tolist()
    assert page.shown() == "".join(WORDS[token] if token else "" for token in final).replace("\u202e", "\\u202e")
    assert len(page.all(".plot circle.particle")) == 6 * len(populations)
    assert len(page.all(".plot line.lineage.ancestor")) == len(populations) - 1
    page.open(f"file://{file}#block=2&particle=3")
    assert page.shown() == text_of(populations[1].traces[3])
    page.press(Keys.ARROW_LEFT)
    assert page.hash == "#block=1&particle=3"
    page.find(".plot").send_keys(Keys.ARROW_DOWN)
    assert page.hash == "#block=1&particle=4"
    assert page.shown() == text_of(populations[0].traces[4])
    page.run(
        "document.querySelectorAll('.plot circle.particle')[7].dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert page.hash == "#block=2&particle=1"
    assert page.find(".plot svg").get_attribute("aria-label").startswith(f"6 particles over {len(populations)} blocks")


def test_candidates(page, tmp_path):
    events, _, chains = recorded(BestOfN(n=5, max_new_tokens=12), seed=2)
    file = tmp_path / "best.html"
    file.write_text(view_page(chains, "best"), encoding="utf-8")
    page.open(f"file://{file}")
    ordered = sorted((event.trace for event in events), key=lambda trace: -trace.logp.mean())
    assert page.shown() == text_of(ordered[0])
    assert page.find(".pick").text == "1 ★ returned"
    page.press(Keys.ARROW_RIGHT)
    assert (page.hash, page.shown()) == ("#candidate=2", text_of(ordered[1]))
    page.all(".pick")[4].click()
    assert (page.hash, page.shown()) == ("#candidate=5", text_of(ordered[4]))


def test_a_long_chain_is_built_as_it_is_looked_at(page, tmp_path):
    """3,072 tokens and 160 steps: what is not in view is not built, and all of it can be reached."""
    chains = read_lines(long_chain())
    file = tmp_path / "long.html"
    file.write_text(view_page(chains, "long"), encoding="utf-8")
    page.open(f"file://{file}")
    assert len(page.all(".plot .column")) == 168
    built = "return document.querySelectorAll('#texts .t').length"
    assert page.run(built) < 1500
    page.run("const box = document.querySelector('#texts .text'); box.scrollTop = box.scrollHeight")
    page.until("return document.querySelector('#texts [data-t=\"3071\"]') !== null")
    assert page.run(built) < 3072
    page.press(*[Keys.ARROW_LEFT] * 5)
    assert page.hash == "#step=156"


@pytest.fixture
def served():
    """A page with a model behind it: its chains, its address, and its port."""
    engine = words_engine()
    _, _, chains = recorded(EntropyCut(max_new_tokens=30, blocks=2, steps=4, alpha=2), engine)
    with listen("127.0.0.1", 0) as listener:
        door = Door.at(port := listener.getsockname()[1])
        app = create_view_app(chains, engine, "served", None, door)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield chains, f"http://127.0.0.1:{port}/{door.token}/"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def test_a_branch_is_drawn_from_a_token(page, served):
    _, url = served
    page.open(url)
    page.complaints()  # that there is no icon
    page.hover(4)
    page.run("document.querySelector('.offer input').value = 3")
    page.find("button.branch").click()
    page.until("return document.querySelectorAll('.branch-card .text').length === 3")
    for card in page.all(".branch-card"):
        assert re.match(r"log p (−|0)[\d.]* · \d+ tokens? · (finished|cut off) · (no answer|answer )", card.text)
    page.press("]", Keys.ENTER)
    page.until("return document.querySelectorAll('.branch-card .text').length === 4")
    assert "From token 5 on" in page.find(".branches").text
