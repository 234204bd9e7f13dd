"""The page: payloads, styles and scripts in one HTML file, to which nothing is added and which loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from powercut.chains import Chains
from powercut.errors import SettingError
from powercut.view.payload import Find, payload

SCRIPTS = (
    *("data", "tokens", "diff", "axis", "chain", "entropy", "particles", "candidates", "step", "token", "branch"),
    *("views", "app"),
)
"""The front end's parts, in the order in which they run; the last begins."""


def view_page(chains: Chains, title: str, find: Find | None = None, *, branches: bool = False) -> str:
    """The page of all chains; ``find`` as in ``payload``. With ``branches`` it asks where it came from for new ones.

    Raises SettingError where there is no chain, or the lines of one do not hang together.
    """
    if not chains.by_place:
        raise SettingError(f"{title} has no chains: write them with powercut sample --save-trace")
    payloads = [payload(chains, chain, find) for _, chain in sorted(chains.by_place.items())]
    notes = list(dict.fromkeys(note for each in payloads for note in each.notes))
    facts = {
        "title": title,
        "labels": [each.label for each in payloads],
        "notes": notes,
        "branches": branches,
        "version": version("powercut"),
    }
    style, script = part("view.css"), script_text()
    connect = "'self'" if branches else "'none'"
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src {connect}; "
    policy += "base-uri 'none'; form-action 'none'"
    data = "\n".join(
        f'<script type="application/octet-stream" id="chain-{i}">{each.data}</script>'
        for i, each in enumerate(payloads)
    )
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(title),
        "style": style,
        "facts": _in_script(json.dumps(facts)),
        "data": data,
        "script": script,
    }
    page = part("view.html")
    for name, value in parts.items():
        before, found, after = page.partition(f"<!--{name}-->")
        assert found, f"view.html has no place for {name}"
        page = before + value + after
    return page


@cache
def part(name: str) -> str:
    """A file of the front end."""
    return files("powercut.view").joinpath("front", name).read_text(encoding="utf-8")


@cache
def script_text() -> str:
    """All scripts as one, in a scope of their own."""
    whole = "\n".join(part(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{whole}\n}})();'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _in_script(text: str) -> str:
    """JSON that no tag can end: it is parsed as the same."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
