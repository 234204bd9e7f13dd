"""Text for a model behind servers: by a tokenizer on this machine, else by the servers' own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from powercut.engines.http.api import RefusedError, UnavailableError
from powercut.engines.http.handshake import token_ids
from powercut.engines.http.pool import Patience, Server
from powercut.errors import EngineError, PowercutError, SettingError, one_line
from powercut.models.libraries import quiet
from powercut.text import Message, TokenizerText, begun_turn

PROBE = "Twelve: 3 + 4 = 7, naïve {x}\n\tfinal \\boxed{7}."
"""Different tokenizers make different ids of this."""

WORDS_AT_ONCE = 1000

_WORD = re.compile("[Ġ▁]([A-Za-z]+)")  # byte-level and sentencepiece vocabularies' marks of a space

T = TypeVar("T")


class ServerText:
    """Text by the servers' endpoints (vLLM, SGLang, llama.cpp). ``ends`` are ids without text.

    A server that fails is asked again, and the next one too, as long as ``patience`` (made anew for each call) lasts.

    Raises EngineError where no server answers, SettingError where the chat template refuses the messages.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        has_chat_template: bool,
        ends: Collection[int],
        patience: Callable[[], Patience],
    ) -> None:
        self._servers, self._ends, self._patience = servers, ends, patience
        self.has_chat_template = has_chat_template

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the special tokens that the model's tokenizer adds."""
        return await self._asked(lambda server: tokenize(server, text))

    async def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the chat template, ready for the assistant's turn."""
        try:
            return await self._asked(lambda server: tokenize_chat(server, messages))
        except RefusedError as error:
            raise SettingError(f"the model's chat template refuses these messages: {error.reason}") from error

    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, stop tokens left out."""
        ids = [int(token) for token in tokens if int(token) not in self._ends]
        return await self._asked(lambda server: _detokenize(server, ids)) if ids else ""

    async def _asked(self, ask: Callable[[Server], Awaitable[T]]) -> T:
        patience, attempt = self._patience(), 0
        while True:
            server = self._servers[attempt % len(self._servers)]
            attempt += 1
            try:
                return await ask(server)
            except UnavailableError as error:
                if not patience.left:
                    raise EngineError(f"{error}; given up after {patience.waited:.0f} s (retry_for)") from error
                if attempt % len(self._servers) == 0:
                    await asyncio.sleep(patience.pause(error.retry_after))


async def tokenize(server: Server, text: str) -> list[int]:
    """The server's ids of raw text."""
    return token_ids(await server.api.post("/tokenize", server.dialect.to_tokenize(server.model, text)))


async def tokenize_chat(server: Server, messages: Sequence[Message]) -> list[int]:
    """The server's ids of a conversation. Raises RefusedError where it has no chat template."""
    body = {"model": server.model, "messages": [dict(message) for message in messages]}
    begun = begun_turn(messages)
    if server.dialect.template is None:
        turn = {"add_generation_prompt": not begun} | ({"continue_final_message": True} if begun else {})
        return token_ids(await server.api.post("/tokenize", {**body, **turn}))
    prompt = await _text(server, server.dialect.template, body, "prompt")
    if begun and begun in prompt:  # some servers close the turn
        prompt = prompt[: prompt.rindex(begun) + len(begun)]
    return await tokenize(server, prompt)


async def _detokenize(server: Server, ids: list[int]) -> str:
    body = {"model": server.model, "tokens": ids}
    return await _text(server, "/detokenize", body, "prompt", "content", "text")


async def _text(server: Server, path: str, body: Any, *keys: str) -> str:
    answer = await server.api.post(path, body)
    found = [answer[key] for key in keys if isinstance(answer.get(key), str)] if isinstance(answer, dict) else []
    if not found:
        raise EngineError(f"{server.api.root}{path} gives no text")
    return str(found[0])


async def find_text(
    servers: Sequence[Server], tokenizer: str | None, ends: Collection[int], patience: Callable[[], Patience]
) -> TokenizerText | ServerText | None:
    """Text for the servers' model.

    ``tokenizer`` names a folder or a hub id; None: where the first server has its model from, if that is on this
    machine too, else the servers' own endpoints, else no text.

    Raises SettingError if the tokenizer named is not that of every server.
    """
    own = [server for server in servers if await _can_tokenize(server)]
    if tokenizer is not None:
        text, words = _local(tokenizer)
        for server in own:
            if (how := await _difference(text, words, server)) is not None:
                raise SettingError(
                    f"tokenizer: {tokenizer} is not that of {server.model} at {server.api.root}: {how}; "
                    "give the tokenizer of the model that is served"
                )
        return text
    if _is_here(servers[0].root):
        with contextlib.suppress(PowercutError):
            text, words = _local(servers[0].root)
            if all([await _difference(text, words, server) is None for server in own]):
                return text
    if not own:
        return None
    templates = [await _has_chat_template(server) for server in own]
    return ServerText(own, all(templates), ends, patience)


async def _can_tokenize(server: Server) -> bool:
    try:
        return bool(await tokenize(server, PROBE))
    except UnavailableError:
        raise
    except EngineError:
        return False


async def _has_chat_template(server: Server) -> bool:
    try:
        return bool(await tokenize_chat(server, [{"role": "user", "content": "Hello"}]))
    except UnavailableError:
        raise
    except EngineError:
        return False


async def _difference(text: TokenizerText, words: list[str], server: Server) -> str | None:
    """How a tokenizer here differs from the server's; None if it does not.

    Compared are a sentence, a conversation, and the vocabulary's plain ``words``, of which two may be exchanged.
    """

    def same(ours: list[int], theirs: list[int]) -> bool:
        ends = theirs[len(ours) :]  # which a prompt is given without
        return theirs[: len(ours)] == ours and set(ends) <= set(text.special_tokens.values())

    if not same(await text.encode(PROBE), await tokenize(server, PROBE)):
        return "the same text has other token ids"
    parts = [" ".join(words[i : i + WORDS_AT_ONCE]) for i in range(0, len(words), WORDS_AT_ONCE)]
    for part, ids in zip(parts, await asyncio.gather(*(tokenize(server, part) for part in parts)), strict=True):
        if not same(await text.encode(part), ids):
            return "some words have other token ids"
    if text.has_chat_template and await _has_chat_template(server):
        messages = [{"role": "user", "content": PROBE}]
        if await text.encode_chat(messages) != await tokenize_chat(server, messages):
            return "its chat template renders a conversation otherwise"
    return None


def _local(name: str) -> tuple[TokenizerText, list[str]]:
    """The tokenizer, and the words of ASCII letters in its vocabulary that begin with a space."""
    from powercut.models.converting import bundled_folder  # transformers is heavy, and an extra
    from powercut.models.finding import find_model

    folder = Path(name).expanduser()
    source, local = (str(folder), True) if folder.is_dir() else find_model(name)[1:]
    try:
        with quiet():
            load = importlib.import_module("transformers").AutoTokenizer.from_pretrained
            tokenizer = load(source or str(bundled_folder()), local_files_only=local, trust_remote_code=False)
        words = sorted(match[1] for token in tokenizer.get_vocab() if (match := _WORD.fullmatch(token)))
        return TokenizerText(tokenizer), words
    except Exception as error:
        raise EngineError(f"tokenizer: {name}: it cannot be loaded ({one_line(error)})") from error


def _is_here(root: str) -> bool:
    """Whether the model is a folder of this machine, or in the local cache of the hub."""
    if importlib.util.find_spec("transformers") is None:
        return False
    try:
        if Path(root).is_dir():
            return True
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(root, "tokenizer_config.json"), str)
    except Exception:  # not a name that the hub could have
        return False
