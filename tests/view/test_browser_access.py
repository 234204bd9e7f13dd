"""The page in a browser: by keyboard alone, in words, in few colours, on a narrow screen."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.view.chromium import IN_A_BROWSER

pytestmark = IN_A_BROWSER


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
