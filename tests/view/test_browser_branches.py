"""The page in a browser, with a model behind it that draws branches."""

import asyncio
import re
import threading

import pytest
import uvicorn
from selenium.webdriver.common.keys import Keys

from powercut.samplers import EntropyCut
from powercut.server.branching import Door, create_view_app
from powercut.server.serving import listen
from tests.view.chromium import IN_A_BROWSER, PATIENCE
from tests.view.recorded import recorded, words_engine

pytestmark = IN_A_BROWSER


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
