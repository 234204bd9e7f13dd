"""Where the data sets that are not part of the project may be found."""

import os
from pathlib import Path

import pytest

FOLDERS = (os.environ.get("POWERCUT_DATA"), Path(__file__).parents[3] / "shared" / "data")


def shared(name: str) -> Path:
    """A data set's file in $POWERCUT_DATA or in ../shared/data beside the checkout.

    Without it the test that asks is skipped, and says what is missing: it checks on the whole set what others check on
    rows that are part of the project.
    """
    for folder in filter(None, FOLDERS):
        if (file := Path(folder, name)).is_file():
            return file
    pytest.skip(f"needs {name} in ../shared/data, or in the folder that POWERCUT_DATA names")
