"""Where the servers are, and the key for them: what the user gives, checked before anything is sent."""

from __future__ import annotations

import html
import ipaddress
import os
import re

import httpx

from powercut.errors import SettingError, one_line

KEY = "POWERCUT_API_KEY"
"""The environment variable that holds the key; it counts before OPENAI_KEY."""

OPENAI_KEY = "OPENAI_API_KEY"
"""One that holds a key for servers elsewhere, in all likelihood: never sent in the clear to another machine."""

LONGEST = 2000
"""Characters of an address, or of a key."""


def server_roots(urls: str | None) -> list[str]:
    """The servers' addresses without path, of base URLs with commas between them.

    Raises SettingError for what is no base URL.
    """
    roots = []
    for url in filter(None, (part.strip() for part in (urls or "").split(","))):
        shown = _without_secrets(url)
        if len(url) > LONGEST:
            raise SettingError(f"{one_line(shown, 60)} is no base URL: it has {len(url)} characters")
        try:
            parsed = httpx.URL(url)
            usable = parsed.scheme in ("http", "https") and bool(parsed.host) and 0 <= (parsed.port or 1) < 2**16
        except (httpx.InvalidURL, ValueError):
            usable = False
        if not usable or len(url.split()) > 1 or url.count("://") > 1:
            raise SettingError(f"{shown} is no base URL: give http://HOST:PORT/v1, or several with commas between them")
        if parsed.userinfo or "?" in url:
            raise SettingError(f"put no key into the URL of {parsed.host}: set {KEY} in the environment")
        if "#" in url:
            raise SettingError(f"{shown} has a fragment, which no server sees: leave out the # and what follows")
        roots.append(str(parsed).rstrip("/").removesuffix("/v1").rstrip("/"))
    if not roots:
        raise SettingError("no server is named: give http://HOST:PORT/v1")
    if len(set(roots)) < len(roots):
        raise SettingError("give each server once")
    return roots


def _without_secrets(url: str) -> str:
    """``url``, quoted, without the parts where people put keys."""
    return repr(re.sub("//.*@", "//***@", re.split("[?#]", url)[0], flags=re.DOTALL))


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
            if len(key) > LONGEST:
                raise SettingError(f"{name} has {len(key)} characters, more than any key: give the key alone")
            return key
    return None


def sent_unseen(root: str) -> bool:
    """Whether nobody on the way to ``root`` can read what is sent: over TLS, or within this machine."""
    return httpx.URL(root).scheme == "https" or on_this_machine(root)


def on_this_machine(root: str) -> bool:
    """Whether ``root`` can be no other machine."""
    host = httpx.URL(root).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_key(text: str, key: str | None) -> str:
    """``text`` with the key blacked out, however it is spelt there, and with no character that could move a cursor."""
    if key is not None:
        text = re.sub("".join(map(_spellings, key)), "***", text)
    return "".join(c if c.isprintable() else " " for c in text)


def _spellings(char: str) -> str:
    """A pattern for one character of a key as it may come back: itself, or quoted for JSON, a URL or HTML.

    Quoted several times it has several backslashes before it.
    """
    if char.isalnum():
        return char
    code = ord(char)
    ways = [r"\s+|\+" if char == " " else re.escape(char), re.escape(html.escape(char))]
    ways += [f"%{code:02x}", f"u{code:04x}", f"x{code:02x}", f"&#0*{code};", f"&#x0*{code:x};"]
    return rf"\\*(?i:{'|'.join(ways)})"
