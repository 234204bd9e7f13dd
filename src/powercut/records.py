"""Strict JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of strict JSON: infinities become strings, NaN null."""
    return json.dumps(strict(fields), ensure_ascii=False, allow_nan=False) + "\n"


def strict(value: Any) -> Any:
    """``value`` in types that JSON has: arrays and tuples as lists, infinities as strings, NaN as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value
