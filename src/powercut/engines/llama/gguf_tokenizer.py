"""llama.cpp's tokenizer, with the calls of a Hugging Face tokenizer that ``TokenizerText`` makes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from powercut.engines.llama.chat_template import render
from powercut.engines.llama.gguf_model import GgufModel
from powercut.engines.llama.library import llama
from powercut.prompt import Message

_ROOM = 256
"""Bytes for the text of a token; there are longer ones, for which it is asked again."""


class _Special(str):
    """What a special token is called."""

    special = True


class GgufTokenizer:
    """The vocabulary of ``model``, which is read only and can be asked from any thread."""

    def __init__(self, model: GgufModel) -> None:
        functions = self._functions = llama()
        self._model, self._size = model, model.vocab_size
        self._pieces: dict[int, bytes] = {}
        kind = functions.llama_vocab_type(model.vocabulary)
        self._strips = (
            kind == functions.LLAMA_VOCAB_TYPE_SPM and model.said("tokenizer.ggml.add_space_prefix") != "false"
        )
        self._specials = model.specials()
        self.chat_template = model.chat_template
        ids = [model.token_id(use) for use in ("bos", "eos", "padding", "unknown")]
        self.bos_token, self.eos_token, self.pad_token, self.unk_token = [
            None if token is None else self.convert_ids_to_tokens(token) for token in ids
        ]
        self.eos_token_id = ids[1]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text in which special tokens are what they are called; with those the model puts around it."""
        if not any(word in text for word in self._model.words):
            return self._ids(text, add_special_tokens, True)
        # llama.cpp would take the word for a special token: the special ones are found here instead.
        named = {str(name): token for token, name in self.added_tokens_decoder.items()}
        parts = re.split(f"({'|'.join(map(re.escape, sorted(named, key=len, reverse=True)))})", text)
        ids = [i for at, part in enumerate(parts) for i in ([named[part]] if at % 2 else self._ids(part, False, False))]
        start = self._ids("", add_special_tokens, False)[:1]
        return start + ids if start and start[0] == self._model.token_id("bos") else ids

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of tokens; bytes that are no characters come out as U+FFFD."""
        data = b"".join(
            (b"" if skip_special_tokens else self.convert_ids_to_tokens(token).encode())
            if token in self.added_tokens_decoder
            else self._piece(token)
            for token in ids
        )
        text = data.decode(errors="replace")
        return text[1:] if self._strips and text.startswith(" ") else text

    def convert_ids_to_tokens(self, token: int) -> str:
        """How the vocabulary writes a token."""
        return str(self._functions.llama_vocab_get_text(self._model.vocabulary, token).decode(errors="replace"))

    @cached_property
    def added_tokens_decoder(self) -> dict[int, _Special]:
        """The special tokens by their ids."""
        return {token: _Special(self.convert_ids_to_tokens(token)) for token in self._specials}

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens."""
        return list(self.added_tokens_decoder)

    @property
    def all_special_tokens(self) -> list[str]:
        """What the special tokens are called, in the order of their ids."""
        return list(self.added_tokens_decoder.values())

    def get_chat_template(self) -> str:
        """The chat template; empty where there is none."""
        return self.chat_template or ""

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = False,
        **variables: Any,
    ) -> str | list[int]:
        """A conversation in the chat template, as token ids or as text; its last message is to be gone on with, or not.

        Raises whatever the template raises.
        """
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        special = {name: token for name in names if (token := getattr(self, name)) is not None}
        text = render(
            self.get_chat_template(),
            messages,
            go_on=continue_final_message,
            **{"add_generation_prompt": add_generation_prompt} | special | variables,
        )
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def _ids(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        """llama.cpp's own tokens of a text."""
        data = text.encode(errors="replace")
        room = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._functions.llama_tokenize(
                self._model.vocabulary, data, len(data), ids, room, add_special_tokens, parse_special
            )
            if count >= 0:
                return list(ids[:count])
            room = -count

    def _piece(self, token: int) -> bytes:
        """The bytes of a token of text."""
        if token not in self._pieces:
            whole, room = token in self._model.words.values(), _ROOM
            while True:
                data = ctypes.create_string_buffer(room)
                count = self._functions.llama_token_to_piece(self._model.vocabulary, token, data, room, 0, whole)
                if count >= 0:
                    break
                room = -count
            self._pieces[token] = data.raw[:count]
        return self._pieces[token]
