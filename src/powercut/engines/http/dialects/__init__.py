"""The kinds of server that powercut speaks with, one file each."""

from powercut.engines.http.dialects import vllm_server
from powercut.engines.http.dialects.dialect import Chunk, Dialect, Json, NoLogProbsError
from powercut.engines.http.dialects.llama_server import LLAMA
from powercut.engines.http.dialects.sglang_server import SGLANG

__all__ = ["BY_OWNER", "Chunk", "Dialect", "Json", "NoLogProbsError", "in_order"]

BY_OWNER: dict[str, tuple[Dialect, ...]] = {
    "vllm": (vllm_server.GENERATE, vllm_server.COMPLETIONS),
    "sglang": (SGLANG,),
    "llamacpp": (LLAMA,),
}
"""Dialects by what ``owned_by`` says in the server's list of models."""


def in_order(owner: str) -> list[Dialect]:
    """All dialects, those of ``owner`` first: a proxy may give another name than the server's behind it."""
    first = BY_OWNER.get(owner, ())
    return [*first, *(dialect for each in BY_OWNER.values() for dialect in each if dialect not in first)]
