"""Text for a model behind servers: by a tokenizer on this machine, else by the servers' own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from powercut.engines.http.api import RefusedError, UnavailableError
from powercut.engines.http.dialects import Json
from powercut.engines.http.handshake import token_ids
from powercut.engines.http.pool import Patience, Server, log
from powercut.errors import EngineError, PowercutError, SettingError, one_line
from powercut.models.libraries import quiet
from powercut.prompt import Message, TemplateArgs, begun_turn
from powercut.text import TURNS, TokenizerText, around_turns, begun_once

PROBE = "Twelve: 3 + 4 = 7, naïve {x}\n\tfinal \\boxed{7}."
"""Different tokenizers make different ids of this."""

WORDS_AT_ONCE = 1000

_MARKER = re.compile(r"[^\w\s](.*\w.*)[^\w\s]")  # <s>, [INST], <|im_end|>

_CUT = "cut here 0451"
"""Marks where a rendered conversation is to end."""

_WORD = re.compile("[Ġ▁]([A-Za-z]+)")  # byte-level and sentencepiece vocabularies' marks of a space

T = TypeVar("T")


class ServerText:
    """Text by the servers' endpoints (vLLM, SGLang, llama.cpp). ``ends`` are ids without text.

    A server that fails is asked again, and the next one too, as long as ``patience`` (made anew for each call) lasts.
    ``turn_end`` is the token that ends the assistant's turn in the chat template, where the first server tells.

    Raises EngineError where no server answers, SettingError where the chat template refuses the messages.
    """

    def __init__(self, servers: Sequence[Server], ends: Collection[int], patience: Callable[[], Patience]) -> None:
        self._servers, self._ends, self._patience = servers, ends, patience
        self.has_chat_template = False
        self.turn_end = frozenset[int]()
        self._opening = ""
        self._noted: set[str] = set()

    async def look_at_template(self) -> None:
        """Find out what the chat template does, if every server has one; else a note says what that means."""
        for server in self._servers:
            if (why := await _lacks_template(server)) is not None:
                log.warning(
                    "%s puts no prompt into a chat template (%s): they are taken raw; for chats name the model's "
                    "tokenizer (--tokenizer)",
                    server.api.root,
                    one_line(why, 100),
                )
                return
        self.has_chat_template = True
        with contextlib.suppress(RefusedError):  # it may know no assistant
            server = self._servers[0]
            opening, after = around_turns(await _detokenize(server, await tokenize_chat(server, TURNS, closed=True)))
            first = await _marker_at(server, opening)
            self._opening = first[0] if first else opening
            if end := await _marker_at(server, after):
                self.turn_end = frozenset({end[1]})

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text as ``begun_once`` has them."""
        return await self._asked(lambda server: tokenize(server, text))

    async def encode_chat(self, messages: Sequence[Message], template_args: TemplateArgs | None = None) -> list[int]:
        """Token ids of a conversation in the chat template, ready for the assistant's turn.

        One of ``template_args`` that changes nothing is noted once: servers pass over what no template of theirs knows.
        """
        try:
            ids = await self._asked(lambda server: tokenize_chat(server, messages, template_args))
            for name in sorted((template_args or {}).keys() - self._noted):
                self._noted.add(name)
                others = {key: value for key, value in (template_args or {}).items() if key != name}
                if ids == await self._asked(partial(tokenize_chat, messages=messages, template_args=others)):
                    log.warning("template_args: %s changes nothing in the first prompt: check its name", name)
        except RefusedError as error:
            raise SettingError(f"the model's chat template refuses these messages: {error.reason}") from error
        return ids

    async def is_rendered(self, text: str) -> bool:
        """Whether ``text`` begins as a conversation in the chat template does."""
        return bool(self._opening) and text.lstrip().startswith(self._opening)

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
    """The server's ids of raw text, as ``begun_once`` has them."""
    return begun_once(*await _all(_ids(server, text, special=False), _ids(server, text, special=True)))


async def tokenize_chat(
    server: Server, messages: Sequence[Message], template_args: TemplateArgs | None = None, *, closed: bool = False
) -> list[int]:
    """The server's ids of a conversation, ready for the assistant's turn unless it is ``closed``.

    Raises RefusedError where it has no chat template.
    """
    begun = not closed and bool(begun_turn(messages))
    body: Json = {"model": server.model, "messages": [dict(message) for message in messages]}
    if template_args:
        body["chat_template_kwargs"] = dict(template_args)
    if server.dialect.template is None:
        body["add_generation_prompt"] = not begun and not closed
        if begun:
            body["continue_final_message"] = True
        return token_ids(await server.api.post("/tokenize", body))
    if begun:  # some servers close the turn
        body["messages"][-1]["content"] += _CUT
    prompt = await _text(server, server.dialect.template, body, "prompt")
    if begun and _CUT not in prompt:
        raise SettingError("the model's chat template drops the last message, of the assistant: leave it out")
    return await tokenize(server, prompt.rpartition(_CUT)[0] if begun else prompt)


async def _ids(server: Server, text: str, *, special: bool) -> list[int]:
    """The server's ids of a text, with or without the special tokens that its tokenizer adds."""
    return token_ids(await server.api.post("/tokenize", server.dialect.to_tokenize(server.model, text, special)))


async def _marker_at(server: Server, text: str) -> tuple[str, int] | None:
    """The token with which ``text`` begins, if it looks like a special one: of a server's no more is known."""
    ids = await _ids(server, text, special=False) if text else []
    name = await _detokenize(server, ids[:1]) if ids else ""
    return (name, ids[0]) if text.startswith(name) and _MARKER.fullmatch(name) else None


async def _detokenize(server: Server, ids: list[int]) -> str:
    body = {"model": server.model, "tokens": ids}
    return await _text(server, "/detokenize", body, "prompt", "content", "text")


async def _all(*questions: Awaitable[T]) -> list[T]:
    """The answers, asked for at once. Raises the first question's error when all are over: none is left behind."""
    asked = [asyncio.ensure_future(question) for question in questions]
    await asyncio.gather(*asked, return_exceptions=True)
    return [question.result() for question in asked]


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
    served = ServerText(own, ends, patience)
    await served.look_at_template()
    return served


async def _can_tokenize(server: Server) -> bool:
    try:
        return bool(await tokenize(server, PROBE))
    except UnavailableError:
        raise
    except EngineError:
        return False


async def _lacks_template(server: Server) -> str | None:
    """Why a server puts no conversation into a chat template; None if it does."""
    try:
        return None if await tokenize_chat(server, TURNS[:1]) else "it gives no token"
    except UnavailableError:
        raise
    except EngineError as error:
        return error.reason if isinstance(error, RefusedError) else str(error)


async def _difference(text: TokenizerText, words: list[str], server: Server) -> str | None:
    """How a tokenizer here differs from the server's; None if it does not.

    Compared are a sentence, a conversation, and the vocabulary's plain ``words``, of which two may be exchanged.
    """
    if await text.encode(PROBE) != await tokenize(server, PROBE):
        return "the same text has other token ids"
    parts = [" ".join(words[i : i + WORDS_AT_ONCE]) for i in range(0, len(words), WORDS_AT_ONCE)]
    for part, ids in zip(parts, await _all(*(tokenize(server, part) for part in parts)), strict=True):
        if await text.encode(part) != ids:
            return "some words have other token ids"
    if text.has_chat_template and await _lacks_template(server) is None:
        messages = [{"role": "user", "content": PROBE}]
        if await text.encode_chat(messages) != await tokenize_chat(server, messages):
            return "its chat template renders a conversation otherwise"
    return None


def _local(name: str) -> tuple[TokenizerText, list[str]]:
    """The tokenizer, and the words of ASCII letters in its vocabulary that begin with a space."""
    from powercut.models.converting import bundled_folder  # transformers is heavy, and an extra
    from powercut.models.finding import find_model
    from powercut.models.gguf_files import local_path

    folder = local_path(name)
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
