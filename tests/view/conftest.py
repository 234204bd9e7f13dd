"""What the tests in a browser share (make test-browser)."""

import pytest

from powercut.view.page import view_page
from tests.view.recorded import CHAIN, recorded


@pytest.fixture(scope="session")
def browser():
    from tests.view.chromium import chromium

    with chromium() as page:
        yield page


@pytest.fixture
def page(browser):
    """The browser as it was at first; it has nothing to complain of at the end."""
    browser.size(1280)
    browser.scheme("light")
    browser.complaints()
    yield browser
    assert browser.complaints() == []


@pytest.fixture
def show(page, tmp_path):
    """Opens the page of chains."""

    def show(chains, title="shown", find=None, at=""):
        file = tmp_path / "shown.html"
        file.write_text(view_page(chains, title, find), encoding="utf-8")
        return page.open(f"file://{file}{at}")

    return show


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """The events of a chain, and its page's address."""
    events, _, chains = recorded(CHAIN, seed=5, n=2)
    file = tmp_path_factory.mktemp("view") / "chain.html"
    file.write_text(view_page(chains, "a chain"), encoding="utf-8")
    own = len(chains.by_place[0, 0].proposals)
    return events[:own], f"file://{file}"
