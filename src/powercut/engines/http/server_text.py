"""Text for a model behind a server: by a tokenizer on this machine, else by the server's own."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from powercut.engines.http.api import Api, RefusedError
from powercut.errors import EngineError, PowercutError, SettingError, one_line
from powercut.models.libraries import quiet
from powercut.text import Message, Text, TokenizerText

PROBE = "Twelve: 3 + 4 = 7, naïve {x}\n\tfinal \\boxed{7}."
"""Different tokenizers make different ids of this."""


class ServerText:
    """Text by the server's endpoints (vLLM, SGLang, llama.cpp). ``hidden`` are ids that have no text: stop tokens.

    Raises EngineError where the server does not answer, SettingError where its chat template refuses the messages.
    """

    def __init__(self, api: Api, model: str, *, llama: bool, hidden: Collection[int] = ()) -> None:
        self._api, self._model, self._llama, self._hidden = api, model, llama, hidden
        self.has_chat_template = False
        with contextlib.suppress(RefusedError, KeyError):  # no template, or no such endpoint
            self.has_chat_template = bool(self._chat([{"role": "user", "content": "Hello"}]))

    def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the special tokens that the model's tokenizer adds."""
        body: dict[str, Any] = {"model": self._model, "prompt": text}
        if self._llama:
            body = {"content": text, "add_special": True, "parse_special": True}
        return [int(token) for token in self._api.post("/tokenize", body)["tokens"]]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the chat template, ready for the assistant's turn."""
        try:
            return self._chat(messages)
        except RefusedError as error:
            raise SettingError(f"the model's chat template refuses these messages: {error.reason}") from error

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, stop tokens left out."""
        ids = [int(token) for token in tokens if int(token) not in self._hidden]
        if not ids:
            return ""
        answer = self._api.post("/detokenize", {"model": self._model, "tokens": ids})
        return str(next(answer[key] for key in ("prompt", "content", "text") if key in answer))

    def _chat(self, messages: Sequence[Message]) -> list[int]:
        listed = [dict(message) for message in messages]
        if self._llama:
            return self.encode(self._api.post("/apply-template", {"messages": listed})["prompt"])
        body = {"model": self._model, "messages": listed, "add_generation_prompt": True}
        return [int(token) for token in self._api.post("/tokenize", body)["tokens"]]


def find_text(
    api: Api, model: str, root: str, *, tokenizer: str | None, llama: bool, hidden: Collection[int]
) -> tuple[Text | None, bool]:
    """Text for the server's model, and whether it is made on this machine.

    ``tokenizer`` names a folder or a hub id; None: ``root``, where the server has its model from, if that is on this
    machine too, else the server's own endpoints, else no text.

    Raises SettingError if the tokenizer named is not the server's.
    """
    try:
        own: ServerText | None = ServerText(api, model, llama=llama, hidden=hidden)
        ids = None if own is None else own.encode(PROBE)
    except (RefusedError, KeyError, TypeError):
        own = ids = None
    if tokenizer is not None:
        text = _local(tokenizer)
        if ids is not None and not _agree(text, ids):
            raise SettingError(
                f"tokenizer: {tokenizer} is not that of {model} at {api.root}: the same text has other token ids; "
                "give the tokenizer of the model that is served"
            )
        return text, True
    if _is_here(root):
        try:
            text = _local(root)
        except PowercutError:
            return own, False
        if ids is None or _agree(text, ids):
            return text, True
    return own, False


def _local(name: str) -> Text:
    from powercut.models.loading import bundled_folder, find_model  # transformers is heavy, and an extra

    _, source, local = find_model(name)
    try:
        with quiet():
            load = importlib.import_module("transformers").AutoTokenizer.from_pretrained
            return TokenizerText(load(source or str(bundled_folder()), local_files_only=local, trust_remote_code=False))
    except Exception as error:
        raise EngineError(f"tokenizer: {name}: it cannot be loaded ({one_line(error)})") from error


def _agree(text: Text, ids: list[int]) -> bool:
    return text.encode(PROBE) == ids


def _is_here(root: str) -> bool:
    """Whether the model is a folder of this machine, or in the local cache of the hub."""
    if importlib.util.find_spec("transformers") is None:
        return False
    if Path(root).is_dir():
        return True
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(root, "tokenizer_config.json"), str)
    except Exception:  # not a name that the hub could have
        return False
