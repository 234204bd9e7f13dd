"""Log-probabilities of a text under the base model, in nats, token by token: OpenAI's two forms of them."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import Any

import numpy as np

from powercut.server.choice import Choice
from powercut.server.refusals import Refusal
from powercut.text import Text, TokenizerText, special_tokens
from powercut.trace import Completion, Rows

Json = dict[str, Any]

_LEAST = -9999.0
"""OpenAI's number for what is impossible; JSON has no infinity."""


async def chat_logprobs(text: Text, completion: Completion, choice: Choice, top: int) -> Json:
    """Of each token: its text, its bytes, its log-probability and the ``top`` most likely tokens in its place."""
    laws = _laws(completion, choice) if top else None
    words = _Words(text)
    content = []
    for t, (token, logp) in enumerate(zip(completion.tokens.tolist(), completion.trace.logp.tolist(), strict=True)):
        entry = await words.entry(token, logp)
        likely = [] if laws is None else [await words.entry(*each) for each in _likeliest(laws, t, top)]
        content.append({**entry, "top_logprobs": likely})
    return {"content": content, "refusal": None}


async def completion_logprobs(text: Text, completion: Completion, choice: Choice, top: int) -> Json:
    """The same in parallel lists; ``text_offset`` is where each token's text begins in the choice's."""
    laws = _laws(completion, choice) if top else None
    words = _Words(text)
    entries = [await words.entry(token, 0.0) for token in completion.tokens.tolist()]
    likely: list[Json] | None = None
    if laws is not None:
        likely = [{} for _ in entries]
        for t, found in enumerate(likely):
            for one in _likeliest(laws, t, top):
                each = await words.entry(*one)
                found.setdefault(_label(each), each["logprob"])
    return {
        "tokens": [_label(each) for each in entries],
        "token_logprobs": completion.trace.logp.tolist(),
        "top_logprobs": likely,
        "text_offset": _offsets(text, completion, entries, choice.text),
    }


def _label(entry: Json) -> str:
    r"""A token's text; of a part of a character its bytes, as OpenAI has them: ``bytes:\xe2\x82``."""
    if "\ufffd" not in entry["token"] or entry["bytes"] is None:
        return str(entry["token"])
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in entry["bytes"])


def _offsets(text: Text, completion: Completion, entries: list[Json], shown: str) -> list[int]:
    """Where each token's text begins in what is shown; for the rest of a character, where that character does."""
    special, reader = {*special_tokens(text).values()}, getincrementaldecoder("utf-8")("replace")
    offsets, at = [], 0
    for token, entry in zip(completion.tokens.tolist(), entries, strict=True):
        offsets.append(at)
        if token not in special:  # which is not shown
            at += len(entry["token"] if entry["bytes"] is None else reader.decode(bytes(entry["bytes"])))
    dropped = bool(entries) and entries[0]["token"].startswith(" ") and not shown.startswith(" ")  # by some tokenizers
    return [max(0, each - dropped) for each in offsets]


class _Words:
    """Texts of single tokens, each asked for once."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._known: dict[int, tuple[str, list[int] | None]] = {}

    async def entry(self, token: int, logp: float) -> Json:
        if token not in self._known:
            self._known[token] = await self._look_up(token)
        word, as_bytes = self._known[token]
        return {"token": word, "logprob": max(logp, _LEAST), "bytes": as_bytes}

    async def _look_up(self, token: int) -> tuple[str, list[int] | None]:
        if isinstance(self._text, TokenizerText):
            word = self._text.name_of(token)
            data = self._text.bytes_of(token)
            return word, None if data is None else list(data)
        word = await self._text.decode([token])
        return word, None if "\ufffd" in word else list(word.encode())


def _likeliest(laws: list[Rows], position: int, top: int) -> list[tuple[int, float]]:
    """The most likely tokens at a position, and their log-probabilities."""
    ids, logp = laws[position].ids[0], laws[position].logp[0]
    order = np.argsort(-logp, kind="stable")[:top]
    return [(int(ids[i]), float(logp[i])) for i in order if ids[i] >= 0 and np.isfinite(logp[i])]


def _laws(completion: Completion, choice: Choice) -> list[Rows]:
    """The base model's law at each position, from what was decoded for the choice: it depends on the prefix alone.

    Raises Refusal where the engine told of no laws.
    """
    tokens = completion.tokens
    found: list[Rows | None] = [None] * len(tokens)
    for request, trace in () if choice.watched is None else choice.watched.drawn:
        start = len(request.context) - len(choice.prompt)
        if trace.rows is None or not np.array_equal(request.generated, tokens[:start]):
            continue
        n = min(len(trace), len(tokens) - start)
        same = np.flatnonzero(trace.tokens[:n] != tokens[start : start + n])
        for i in range(n if not len(same) else int(same[0]) + 1):  # where they part the prefix is the same still
            found[start + i] = trace.rows.between(i, i + 1)
    laws = [rows for rows in found if rows is not None]
    if len(laws) < len(tokens):
        raise Refusal(
            400, "top_logprobs: this engine does not tell of other tokens: leave it out", param="top_logprobs"
        )
    return laws
