"""The licences of what powercut and its extras bring along, as installed here; exit 1 for one that needs a look.

python scripts/licences.py [EXTRA ...]        all that users install (neither dev nor test), unless extras are named

A licence is what a distribution says of itself: its licence expression, its licence field, its classifiers or the first
words of its licence file, in this order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

ROOT = "powercut"
FOR_DEVELOPERS = {"dev", "test"}

FREE = re.compile(
    r"\b(MIT|Apache|BSD|0BSD|BSL-1\.0|ISC|ISCL|PSF|PSFL|Python Software Foundation|Zlib|CC0|CNRI|HPND|Unlicense|OFL)\b",
    re.I,
)
"""Free for any use with a notice."""
BESIDE = re.compile(r"\b(MPL|Mozilla|LGPL|Lesser General Public)\b", re.I)
"""Free to use beside other code; changes to the library itself stay under its licence."""
REFUSED = re.compile(r"(?<!L)(?<!Lesser )\b(A?GPL|General Public License)\b|non-?commercial|proprietary", re.I)


def licence(found: Distribution) -> str:
    """What a distribution says of its licence; empty if it says nothing."""
    said: dict[str, list[str]] = {
        name: found.metadata.get_all(name) or [] for name in ("License-Expression", "License", "Classifier")
    }
    if said["License-Expression"]:
        return said["License-Expression"][0]
    field = next(iter("".join(said["License"]).strip().splitlines()), "")
    classified = [line.split(" :: ")[-1] for line in said["Classifier"] if line.startswith("License ::")]
    if field and field != "UNKNOWN" and (FREE.search(field) or BESIDE.search(field) or not classified):
        return field
    return ", ".join(classified) or _of_file(found)


def _of_file(found: Distribution) -> str:
    for path in found.files or ():
        if re.fullmatch(r"(LICEN[CS]E|COPYING)(\.\w+)?", path.name) and "dist-info" in str(path):
            return " ".join(path.read_text().split())[:60]
    return ""


def verdict(words: str) -> str:
    """``free``, ``beside`` other code, or ``look``: nothing that is known, or what forbids a use."""
    if FREE.search(words):  # of several licences one that is free; parts under others stand beside it
        return "beside" if BESIDE.search(words) else "free"
    return "beside" if BESIDE.search(words) and not REFUSED.search(words.replace("Lesser General", "")) else "look"


def brought(extras: set[str]) -> Iterator[tuple[Distribution, str]]:
    """Every installed distribution that these extras bring, with the one that asks for it."""
    todo: list[tuple[str, frozenset[str], str]] = [(ROOT, frozenset(extras), "")]
    seen: set[tuple[str, frozenset[str]]] = set()
    named = {ROOT}
    while todo:
        name, wanted, by = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform, or an extra that is not installed here
        if name not in named:
            named.add(name)
            yield found, by
        for line in found.requires or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                todo.append((re.sub(r"[-_.]+", "-", need.name).lower(), frozenset(need.extras), name))


def main(arguments: list[str]) -> int:
    """Print the table; 1 if there is a licence that needs a look."""
    extras = set(arguments) or set(distribution(ROOT).metadata.get_all("Provides-Extra") or ()) - FOR_DEVELOPERS
    rows = sorted(
        (verdict(words := licence(found)), found.metadata["Name"], found.version, words, by)
        for found, by in brought(extras)
    )
    for row in rows:
        print("\t".join(row))
    looks = [row[1] for row in rows if row[0] == "look"]
    print(f"{len(rows)} distributions, {len(looks)} to look at: {', '.join(looks) or 'none'}")
    return 1 if looks or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
