import pytest

import powercut
from tests.cli import fake


@pytest.fixture
def engine(monkeypatch):
    """The fake model, in place of a loaded one."""
    monkeypatch.setattr(powercut, "load", fake.load)


@pytest.fixture
def no_engine(monkeypatch):
    """Loading a model fails the test: the command should have stopped before."""

    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(powercut, "load", load)
