"""What libraries that run powercut leave behind in this process."""

import logging

import pytest


@pytest.fixture(autouse=True)
def logging_as_before():
    """Inspect sets the level of the root logger; the next test listens to warnings."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
