"""What is said of a model that cannot be loaded."""

from __future__ import annotations

from typing import Any

import pytest

from powercut.errors import PowercutError
from powercut.models.loading import load_model


def refused(kind: type[PowercutError], *args: Any, **kwargs: Any) -> str:
    """The one line with which ``load_model`` refuses its arguments."""
    with pytest.raises(kind) as caught:
        load_model(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text
