"""Many tokens in few bytes: arrays of small numbers, deflated, as text that can stand in a page.

A payload is a 4-byte length, a head in JSON, and arrays; numbers of two or four bytes are written byte by byte, all
lowest bytes first, which deflates better. front/data.js reads it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from powercut.chains import Drawn
from powercut.strict_json import strict
from powercut.trace import IntArray

_MOST = 65535
MILLI = 1000
"""Log-probabilities and entropies are kept to a thousandth of a nat, up to 65.535."""


class Pool:
    """Every token that a chain drew, once: what repeats the text before is not kept again.

    ``vocabulary`` lists the token ids that occur, in the order in which they do.
    """

    def __init__(self) -> None:
        self.vocabulary: list[int] = []
        self.tells_likely = True
        self._index: dict[int, int] = {}
        self._ids: list[int] = []
        self._logp: list[IntArray] = []
        self._entropy: list[IntArray] = []
        self._counts: list[int] = []
        self._likely_ids: list[int] = []
        self._likely_p: list[float] = []

    def index(self, token: int) -> int:
        """The place of a token id in the vocabulary."""
        if token not in self._index:
            self._index[token] = len(self.vocabulary)
            self.vocabulary.append(token)
        return self._index[token]

    def add(self, drawn: Drawn, shared: int = 0) -> tuple[int, int]:
        """Keep the tokens behind the first ``shared``; returns where they begin, and how many they are."""
        trace, start = drawn.trace[shared:], len(self._ids)
        self._ids += map(self.index, trace.tokens.tolist())
        self._logp.append(_milli(-trace.logp))
        self._entropy.append(_milli(trace.entropy))
        if drawn.likely is None:
            self.tells_likely = self.tells_likely and not len(trace)
            self._counts += [0] * len(trace)
        else:
            for ids, logp in drawn.likely[shared:]:
                self._counts.append(len(ids))
                self._likely_ids += map(self.index, ids)
                self._likely_p += np.exp(logp).tolist()
        return start, len(trace)

    def arrays(self) -> dict[str, Any]:
        """What ``pack`` takes of it."""
        wide = np.uint16 if len(self.vocabulary) <= _MOST else np.uint32
        empty = [np.zeros(0, dtype=np.uint16)]
        return {
            "ids": np.array(self._ids, dtype=wide),
            "logp": np.concatenate(self._logp or empty),
            "entropy": np.concatenate(self._entropy or empty),
            "counts": np.array(self._counts, dtype=np.uint8),
            "likelyIds": np.array(self._likely_ids, dtype=wide),
            "likelyP": np.round(np.minimum(self._likely_p, 1.0) * 10000).astype(np.uint16),
        }


def pack(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """The payload, in base 64."""
    data, places = b"", {}
    for name, array in arrays.items():
        planes = np.ascontiguousarray(array).view(np.uint8).reshape(-1, array.itemsize).T.tobytes()
        places[name] = [array.itemsize, len(data), len(array)]
        data += planes
    text = json.dumps(strict({**head, "arrays": places}), ensure_ascii=True, separators=(",", ":")).encode()
    whole = len(text).to_bytes(4, "little") + text + data
    return base64.b64encode(zlib.compress(whole, 9)).decode()


def _milli(values: Any) -> Any:
    return np.clip(np.round(np.nan_to_num(values, posinf=_MOST) * MILLI), 0, _MOST).astype("<u2")
