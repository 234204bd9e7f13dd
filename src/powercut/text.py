"""The edge between strings and token ids: prompts in, completions out. Nothing below it sees text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Message = Mapping[str, str]
Prompt = str | Sequence[Message] | Sequence[int]
"""A string, chat messages (``{"role": ..., "content": ...}``), or token ids."""


class Text(Protocol):
    """How an engine reads prompts and shows completions."""

    has_chat_template: bool

    def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the model's own start token if it uses one."""

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the model's chat template, ready for the assistant's turn."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""
