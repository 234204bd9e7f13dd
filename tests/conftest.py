"""Settings of hypothesis for all property tests."""

import logging

import pytest
from hypothesis import settings

# The same examples in every run, and no clock: a busy machine must not fail a test.
settings.register_profile("powercut", deadline=None, derandomize=True)
settings.load_profile("powercut")


@pytest.fixture(autouse=True)
def logging_as_before():
    """Inspect sets the level of the root logger in the process it runs in; the next test listens to warnings."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
