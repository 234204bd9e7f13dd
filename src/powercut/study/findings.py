"""What a study found, for any way of showing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from powercut.report.page import Section
from powercut.report.tables import TextTable

Record = Mapping[str, Any]
"""One measured thing, as JSON: a line of the study's records."""


@dataclass(frozen=True)
class Findings:
    """``says`` is a paragraph on what the figures do and do not show; ``table`` is the main one, for a terminal.

    ``rows`` are the figures at full precision, for CSV. ``pages`` are further pages by their files' names, to which
    parts link.
    """

    title: str
    says: str
    table: TextTable
    sections: Sequence[Section]
    rows: Sequence[Record]
    pages: Mapping[str, str] = field(default_factory=dict)
