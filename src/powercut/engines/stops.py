"""Knowing when a completion is finished: stop tokens by id, stop strings by text."""

from __future__ import annotations

from collections.abc import Collection

from powercut.engines.protocol import Request
from powercut.text import Text


class StopWatch:
    """Says of each new token of a request whether it completes a stop.

    A stop string may begin in the part of the completion that the request keeps, never in the prompt. Only the last few
    tokens are decoded each time: a token is at least one byte, so a stop of B bytes lies within the last B tokens; a
    few more cover characters cut in the middle and special tokens, which have no text.
    """

    def __init__(self, request: Request, stop_tokens: Collection[int], text: Text | None) -> None:
        self._ids = frozenset(stop_tokens) | request.stop_ids
        self._strings = request.stop_strings
        self._text = text
        self._window = max((len(stop.encode()) for stop in self._strings), default=0) + 8
        self._recent: list[int] = request.generated[-self._window :].tolist() if self._strings else []

    def completes(self, token: int) -> bool:
        """Take in the next token; True if a stop ends with it."""
        if not self._strings:
            return token in self._ids
        self._recent = [*self._recent[-self._window :], token]
        if token in self._ids:
            return True
        assert self._text is not None, "engines refuse stop strings where there is no text"
        recent = self._text.decode(self._recent)
        return any(stop in recent for stop in self._strings)
