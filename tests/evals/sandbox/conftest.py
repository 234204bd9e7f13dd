"""Every kind of isolation that this machine has, and none."""

import pytest

from powercut.evals.sandbox.isolation import Isolation, isolation

KINDS = {kind: kind.command[0] if kind.command else "none" for kind in (isolation(), Isolation())}


@pytest.fixture(params=KINDS, ids=KINDS.values())
def shut_in(request, monkeypatch):
    """The isolation that programs run in."""
    monkeypatch.setattr("powercut.evals.sandbox.local_sandbox.isolation", lambda: request.param)
    return request.param
