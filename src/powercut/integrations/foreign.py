"""A request in another framework's words, as a sampler with its settings, messages and a seed.

Inspect, lm-evaluation-harness and OpenAI's clients have names of their own for what they ask. Each is used, or noted
once as not used, or refused. Fields that are not named here do not concern sampling, and are ignored.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from powercut.errors import EngineError, SettingError
from powercut.prompt import Message, TemplateArgs, check_prompt, check_template_args
from powercut.samplers import Sampler
from powercut.samplers.named import build_sampler
from powercut.samplers.settings import StopText
from powercut.trace import Completion

logger = logging.getLogger(__name__)

LENGTHS = ("max_tokens", "max_completion_tokens", "max_gen_toks")
_STOP = ("stop", "stop_seqs", "until")
DECIDED = ("temperature", "top_p", "top_k", "min_p", "do_sample")
"""What many tasks and clients ask for, and what a sampler decides by itself."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), (0,)),
    **dict.fromkeys(("repetition_penalty", "num_choices", "best_of"), (1,)),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "top_logprobs": (0,),
    **dict.fromkeys(("logprobs", "prompt_logprobs", "response_schema"), ()),
}
"""What no sampler of powercut can do, with the values besides None and False that ask for nothing."""


def refuse(asked: Mapping[str, Any], unsupported: Mapping[str, tuple[Any, ...]] = REFUSED) -> None:
    """Raise SettingError for the first of the ``unsupported`` fields that asks for something.

    None asks for nothing, and so does False, but for a field that is True where nothing is asked for.
    """
    for name, nothing in unsupported.items():
        value = asked.get(name)
        off = value is False and not any(each is True for each in nothing)
        if value is not None and not off and value not in nothing:
            raise SettingError(f"{name} is not supported by powercut: leave it out")


class SamplerFor:
    """The sampler called ``name`` with ``settings``, and with what each request asks for besides.

    ``remedy`` says where its settings are given, for a note. Raises SettingError for settings that cannot be used.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], remedy: str) -> None:
        self.name = name
        self.plain = build_sampler(name, settings)
        self._settings, self._remedy = dict(settings), remedy
        self._told: set[str] = set()

    def request(self, asked: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Sampler:
        """The sampler for one request; ``settings`` are sampler settings that it carries in powercut's own words.

        A length replaces ``max_new_tokens``, stops are added to the sampler's own. What the sampler decides by itself,
        such as a temperature, is not used, which is logged once. Raises SettingError for what no sampler can do.
        """
        refuse(asked)
        for name in DECIDED:
            if asked.get(name) is not None and name not in self._told:
                self._told.add(name)
                what = f"{name}={asked[name]} is not used"
                logger.warning("%s: the sampler %s decides it, by settings given %s", what, self.name, self._remedy)
        own: dict[str, Any] = {}
        if lengths := [asked[name] for name in LENGTHS if asked.get(name) is not None]:
            own["max_new_tokens"] = lengths[0]
        if stops := [stop for name in _STOP for stop in _listed(asked.get(name)) if stop]:
            own["stop"] = [*self.plain.stop, *(StopText(each) if isinstance(each, str) else each for each in stops)]
        own |= settings or {}
        return build_sampler(self.name, {**self._settings, **own}) if own else self.plain


class Seeds:
    """Seeds for requests: equal ones get other seeds each time, and the same ones in every run."""

    def __init__(self) -> None:
        self._asked: Counter[bytes] = Counter()

    def next(self, prompt: Sequence[int], seed: int) -> int:
        """A hash of ``seed``, of the prompt's tokens and of how many requests with both there have been."""
        key = hashlib.sha256(f"{seed} {list(prompt)}".encode()).digest()
        again = self._asked[key]
        self._asked[key] += 1
        return int.from_bytes(hashlib.sha256(key + again.to_bytes(8)).digest()[:8]) >> 11  # 53 bits: exact as JSON


def answer(completion: Completion) -> str:
    """The completion's text; EngineError where it could not be had: an empty answer would be graded as wrong."""
    if completion.text is None:
        raise EngineError("the text of a completion could not be had: see the note before this, and ask again")
    return completion.text


def read_messages(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Chat messages with one text each, from ones whose content may be a list of parts, as ``check_prompt`` reads them.

    What a model thought to itself is left out. Raises SettingError for tool results, images, audio and files.
    """
    plain = []
    for message in messages:
        if message["role"] == "tool":
            raise SettingError("powercut reads no results of tools: choose a task or a solver without tools")
        content = message["content"]
        if not isinstance(content, str):
            content = [part for part in content if part.get("type") != "reasoning"]
        plain.append({"role": message["role"], "content": content})
    return cast(list[Message], check_prompt(plain))


def read_template_args(given: Any, chat: bool | None = None) -> TemplateArgs | None:
    """``template_args`` as a dictionary, from one or from its JSON; SettingError as ``check_template_args``."""
    if isinstance(given, str):
        with suppress(ValueError, RecursionError):
            given = json.loads(given)
    return check_template_args(given, chat)


def _listed(stop: Any) -> Sequence[Any]:
    return [stop] if isinstance(stop, str | int) else stop or ()
