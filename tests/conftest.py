"""Settings of hypothesis for all property tests."""

from hypothesis import settings

# The same examples in every run, and no clock: a busy machine must not fail a test.
settings.register_profile("powercut", deadline=None, derandomize=True)
settings.load_profile("powercut")
