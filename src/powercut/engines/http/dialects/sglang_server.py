"""SGLang's server. It refuses requests with sampling parameters that it does not know."""

from __future__ import annotations

from collections.abc import Sequence

from powercut.engines.http.dialects.dialect import (
    Chunk,
    Dialect,
    Json,
    NoLogProbsError,
    chunk_of,
    computed,
    law_asked,
    told_count,
)
from powercut.engines.protocol import Request


def _payload(model: str, request: Request, stop_ids: Sequence[int]) -> Json:
    sampling = {
        **law_asked(request),
        "repetition_penalty": 1.0,
        "max_new_tokens": request.max_new_tokens,
        "sampling_seed": request.seed % 2**31,
        "stop_token_ids": list(stop_ids),
        "skip_special_tokens": False,
        "no_stop_trim": True,
    }
    return {
        "input_ids": request.context.tolist(),
        "sampling_params": sampling,
        "return_logprob": True,
        "top_logprobs_num": request.top_k,
        "stream": True,
    }


def _parse(event: Json, received: int) -> Chunk:
    meta = event["meta_info"]
    total = told_count(meta.get("completion_tokens"))
    if total and "output_token_logprobs" not in meta:
        raise NoLogProbsError
    drawn = meta.get("output_token_logprobs") or []
    tops = meta.get("output_top_logprobs") or []
    repeated = bool(received) and len(drawn) == total  # everything so far, not only what is new
    if repeated:
        drawn, tops = drawn[received:], tops[received:]
    rows = []
    for (logprob, token, *_), top in zip(drawn, tops, strict=False):
        row = [(listed, value) for value, listed, *_ in top or []]
        rows.append(row if any(listed == token for listed, _ in row) else [*row, (token, logprob)])
    finish = meta.get("finish_reason")
    return chunk_of(
        [entry[1] for entry in drawn],
        rows,
        end=finish if finish is None or isinstance(finish, str) else finish["type"],
        total=total,
        prefilled=computed(meta.get("prompt_tokens"), meta.get("cached_tokens")),
        repeated=repeated,
    )


SGLANG = Dialect(
    "SGLang",
    "/generate",
    _payload,
    _parse,
    raw="start it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment",
    more="lower top_k",
    memory="its --max-running-requests or --mem-fraction-static",
    brief="start it with --incremental-streaming-output",
    about="/get_server_info",
    read_about=lambda about: (told_count(about.get("max_running_requests")), None),
)
