"""Tests on llama.cpp itself, as a server and in this process: ``make test-llama``.

``make test`` collects them and leaves them out.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.llama)
