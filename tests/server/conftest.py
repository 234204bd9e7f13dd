import pytest

import powercut as pc
from tests.server.serving import ASKED, SETTINGS, LettersEngine, serving, web


@pytest.fixture(scope="session")
def served():
    """One server for tests that leave it as it was."""
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def text():
    """What a client should be told that asks ASKED with seed 5."""
    [completion] = pc.sample(LettersEngine(), pc.EntropyCut(**SETTINGS), [ASKED], seed=5)
    return completion.text


@pytest.fixture
def ask(served):
    """POST to a path; the body has a conversation unless it says otherwise."""

    def post(path="/v1/chat/completions", headers=None, **fields):
        if path == "/v1/chat/completions":
            fields = {"messages": ASKED, **fields}
        return web.post(served.root + path, json=fields, headers=headers)

    return post
