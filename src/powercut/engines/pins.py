"""Which of several places serves a chain of work: the same one always, since its prefixes are cached there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Place = TypeVar("Place")


class Pins(Generic[Place]):
    """The places of the ``REMEMBERED`` chains that asked last, by the sessions of their requests."""

    REMEMBERED = 16384

    def __init__(self) -> None:
        self._of: OrderedDict[Hashable, Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def get(self, session: Hashable | None) -> Place | None:
        """The place of the session's chain, if it has one."""
        return self._of.get(_chain(session))

    def put(self, session: Hashable | None, place: Place) -> None:
        """Remember it; a request without session is no chain's."""
        if session is not None:
            self._of[_chain(session)] = place
            self._of.move_to_end(_chain(session))
            if len(self._of) > self.REMEMBERED:
                self._of.popitem(last=False)


def _chain(session: Hashable | None) -> Hashable:
    # A sampler's sessions are (chain, lane); all lanes of a chain share its prefix.
    return session[0] if isinstance(session, tuple) and session else session
