"""The text of a completion while it is drawn, as far as no token to come can change it."""

from __future__ import annotations

from collections.abc import Sequence

from powercut.engines.sequence import DecodeNow
from powercut.text import trim_stop


class SafeText:
    """Takes in tokens; ``text`` leaves out the beginnings of characters, and of the ``stops``, which are not shown."""

    def __init__(self, decode_now: DecodeNow, stops: Sequence[str]) -> None:
        self.text = ""
        self._decode_now, self._stops = decode_now, stops
        self._ids: list[int] = []
        self._context = self._read = 0  # tokenizers drop a space before the first token: a few before it are read again
        self._whole = ""

    def add(self, tokens: Sequence[int]) -> None:
        """Take in the next tokens."""
        self._ids += tokens
        before = self._decode_now(self._ids[self._context : self._read])
        now = self._decode_now(self._ids[self._context :])
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return
        self._whole += now[len(before) :]
        self._context, self._read = self._read, len(self._ids)
        trimmed = trim_stop(self._whole, self._stops)
        self.text = trimmed[: len(trimmed) - (self._begun_stop() if trimmed == self._whole else 0)]

    def _begun_stop(self) -> int:
        """How many characters at the end may become a stop."""
        longest = max(map(len, self._stops), default=1) - 1
        ends = (self._whole[-count:] for count in range(min(longest, len(self._whole)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stops)), 0)
