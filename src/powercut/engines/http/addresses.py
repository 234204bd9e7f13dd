"""Where the servers are, and the key for them: what the user gives, checked before anything is sent."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import quote

import httpx

from powercut.errors import SettingError, one_line

KEY = "POWERCUT_API_KEY"
"""The environment variable that holds the key; it counts before OPENAI_KEY."""

OPENAI_KEY = "OPENAI_API_KEY"
"""One that holds a key for servers elsewhere, in all likelihood: never sent in the clear to another machine."""

LONGEST = 2000
"""Characters of an address."""


def server_roots(urls: str | None) -> list[str]:
    """The servers' addresses without path, of base URLs with commas between them.

    Raises SettingError for what is no base URL.
    """
    roots = []
    for url in filter(None, (part.strip() for part in (urls or "").split(","))):
        if len(url) > LONGEST:
            raise SettingError(f"{one_line(url, 60)} is no base URL: it has {len(url)} characters")
        try:
            parsed = httpx.URL(url)
            usable = parsed.scheme in ("http", "https") and bool(parsed.host) and 0 <= (parsed.port or 1) < 2**16
        except (httpx.InvalidURL, ValueError):
            usable = False
        if not usable:
            raise SettingError(f"{url!r} is no base URL: give http://HOST:PORT/v1, or several with commas between them")
        if parsed.userinfo or parsed.query:
            raise SettingError(f"put no key into the URL of {parsed.host}: set {KEY} in the environment")
        if parsed.fragment or "#" in url:
            raise SettingError(f"{url!r} has a fragment, which no server sees: leave out what follows the #")
        roots.append(str(parsed).rstrip("/").removesuffix("/v1").rstrip("/"))
    if not roots:
        raise SettingError("no server is named: give http://HOST:PORT/v1")
    if len(set(roots)) < len(roots):
        raise SettingError("give each server once")
    return roots


def read_key(root: str) -> str | None:
    """The key for the server at ``root``, if the environment has one that may be sent there.

    Raises SettingError for a key that no header can carry.
    """
    names = (KEY, OPENAI_KEY) if sent_unseen(root) else (KEY,)
    for name in names:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise SettingError(
                f"{name} has a character that no key has (a control character or non-ASCII): copy it anew"
            )
        if key:
            return key
    return None


def sent_unseen(root: str) -> bool:
    """Whether nobody on the way to ``root`` can read what is sent: over TLS, or within this machine."""
    url = httpx.URL(root)
    if url.scheme == "https" or url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def without_key(text: str, key: str | None) -> str:
    """``text`` with the key blacked out, however it is spelt there, and with no character that could move a cursor."""
    if key is not None:
        # Quoted once or several times it has more backslashes, and else the same characters.
        for spelt in {form.replace("\\", "") for form in (key, quote(key), quote(key, safe=""))} - {""}:
            text = re.sub(r"\\*".join(map(re.escape, spelt)), "***", text)
    return "".join(c if c.isprintable() else " " for c in text)
