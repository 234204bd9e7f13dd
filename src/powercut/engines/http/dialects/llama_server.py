"""llama.cpp's ``llama-server``.

It shows no token after which its text ends inside a character of several bytes, only what follows. Its rule is that of
``_incomplete``; what it counts tells that a token was hidden. Such a token is drawn anew (``hidden.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from powercut.engines.http.dialects.dialect import Chunk, Dialect, Hiding, Json, chunk_of, law_asked, told_count
from powercut.engines.protocol import Request

_LEADS = ((0xE0, 0xC0, 2), (0xF0, 0xE0, 3), (0xF8, 0xF0, 4))
"""What the first byte of a character of 2, 3 and 4 bytes looks like in UTF-8."""


def _payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    # It knows no stop ids of the request: the engine watches for them itself.
    return {
        "model": model,  # where one server fronts several models
        "prompt": request.context.tolist(),
        "n_predict": request.max_new_tokens,
        **law_asked(request),
        "samplers": ["top_k", "temperature"],
        "repeat_penalty": 1.0,
        "seed": request.seed % (2**32 - 1),  # 32 bits, all of them set meaning a random one
        "n_probs": request.top_k,
        "post_sampling_probs": False,
        "return_tokens": True,
        "cache_prompt": True,
        "timings_per_token": True,
        "stream": True,
    }


def _parse(event: Json, received: int) -> Chunk:
    final = bool(event["stop"])
    end = None if not final else "length" if event.get("stop_type") == "limit" else "stop"
    entries = [] if final else event.get("completion_probabilities") or []  # the last event says again what came before
    tokens = [] if final else event.get("tokens") or [entry["id"] for entry in entries]
    rows = [[(top["id"], top["logprob"]) for top in entry["top_logprobs"]] for entry in entries]
    for token, entry, row in zip(tokens, entries, rows, strict=False):
        if all(token != listed for listed, _ in row):
            row.append((token, entry["logprob"]))
    prefilled = told_count((event.get("timings") or {}).get("prompt_n"))
    return chunk_of(tokens, rows, end=end, total=told_count(event.get("tokens_predicted")), prefilled=prefilled)


def _force(payload: Json, token: int) -> Json:
    return {**payload, "logit_bias": [[token, 1e4]]}


def _hidden(event: Json) -> frozenset[int]:
    tops = event["completion_probabilities"][0]["top_logprobs"]
    return frozenset(top["id"] for top in tops if _incomplete(bytes(top["bytes"])))


def _incomplete(text: bytes) -> bool:
    """Whether UTF-8 text ends inside a character, by its last four bytes, as the server judges.

    Of the text before the last token nothing matters: it was complete, so that its last characters have all their
    bytes, however many follow.
    """
    ends = enumerate(reversed(text[-4:]), 1)
    return any(back < bytes_of for back, byte in ends for mask, lead, bytes_of in _LEADS if byte & mask == lead)


def _read_about(about: Json) -> tuple[int | None, int | None]:
    return told_count(about.get("total_slots")), told_count(
        (about.get("default_generation_settings") or {}).get("n_ctx")
    )


LLAMA = Dialect(
    "llama.cpp",
    "/completion",
    _payload,
    _parse,
    raw="use a newer llama-server",
    more="lower top_k",
    memory="its -c or --parallel",
    end_apart=True,
    hiding=Hiding(_force, _hidden),
    about="/props",
    read_about=_read_about,
    to_tokenize=lambda model, text, special: {
        "model": model,
        "content": text,
        "add_special": special,
        "parse_special": True,
    },
    template="/apply-template",
)
