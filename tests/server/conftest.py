import pytest

from tests.server.serving import serving, web


@pytest.fixture(scope="session")
def served():
    """One server for tests that leave it as it was."""
    with serving() as found:
        yield found


@pytest.fixture
def ask(served):
    """POST to a path; the body has a conversation unless it says otherwise."""

    def post(path="/v1/chat/completions", headers=None, **fields):
        if path == "/v1/chat/completions":
            fields = {"messages": [{"role": "user", "content": "abc"}], **fields}
        return web.post(served.root + path, json=fields, headers=headers)

    return post
