"""Tests on a real llama.cpp server: ``make test-llama``. ``make test`` collects them and leaves them out."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.llama)
