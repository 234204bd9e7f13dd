"""A request's fields as what is to be drawn: a sampler with its settings, prompts, a seed, bounds."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from powercut.errors import SettingError, did_you_mean
from powercut.integrations.foreign import DECIDED, REFUSED, SamplerFor, refuse
from powercut.prompt import Prompt
from powercut.run import encode_checked
from powercut.samplers import SAMPLERS, Sampler
from powercut.samplers.named import split_options
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.server.bodies import Body, SamplingBody
from powercut.server.offer import Offer
from powercut.server.refusals import Refusal, unusable
from powercut.trace import IntArray

MOST_CHOICES = 128
"""Of one request, all its prompts together."""

MOST_AT_ONCE = 1024
"""Engine requests of one choice, such as particles."""

_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("tools", "functions"), ([],)),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "suffix": ("",),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens", "add_generation_prompt"), (True,)),
    "text": ({"format": {"type": "text"}}, {}),
    "reasoning": ({},),
    "include": ([],),
    "truncation": ("disabled",),
    **dict.fromkeys(("audio", "background", "continue_final_message", "conversation", "echo", "ignore_eos"), ()),
    **dict.fromkeys(("max_tool_calls", "moderation", "prediction", "previous_response_id"), ()),
    **dict.fromkeys(("reasoning_effort", "store", "use_beam_search", "verbosity", "web_search_options"), ()),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "structured_outputs", "input_type"), ()),
}
"""Fields of OpenAI's and others' requests of which nothing is here, with the values that ask for nothing."""

_NEUTRAL = (
    *("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("parallel_tool_calls", "prompt_cache_options"),
)
"""Fields that ask nothing of an answer, whatever they are."""

_PATTERNS = {"require", "answer"}
"""Settings that are regular expressions, of which some take for ever."""

_SETTINGS = {name for kind in SAMPLERS.values() for name in kind.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a client asks for, checked.

    ``model`` is as the client called it. ``n`` choices of each prompt (token ids) by ``sampler``, from ``seed``, until
    ``deadline`` (a time of the running event loop) or until ``budget`` tokens are decoded for one. ``unused`` are
    the fields that change nothing, ``notes`` what else there is to say.
    """

    model: str
    sampler_name: str
    sampler: Sampler
    prompts: Sequence[IntArray]
    n: int
    seed: int
    deadline: float | None
    budget: int | None
    stream: bool
    progress: bool
    include_usage: bool
    logprobs: bool
    top_logprobs: int
    unused: Mapping[str, Any]
    notes: Sequence[str]


async def build_order(
    offer: Offer,
    body: SamplingBody,
    prompts: Sequence[Prompt],
    arrival: float,
    *,
    prompt_field: str,
    chat: bool | None = None,
    template_args: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    logprobs: bool = False,
    top_logprobs: int = 0,
) -> Order:
    """The order of a request that came at ``arrival`` (the event loop's seconds). Raises Refusal.

    ``max_tokens`` is for the one field of that meaning that not all requests have.
    """
    sampler_for = offer.choose(body.model, body.sampler)
    fields = {name for name in body.model_fields_set if getattr(body, name) is not None} | body.more.keys()
    n = 1 if body.n is None else body.n
    if not 1 <= n * len(prompts) <= MOST_CHOICES or n < 1:
        what = f"n must be from 1 to {MOST_CHOICES}, all prompts together (got {n} of {len(prompts)} prompts)"
        raise Refusal(400, what, param="n" if prompts else prompt_field)
    try:
        if body.seed is not None:
            check_number("seed", body.seed, 0, LARGEST_SEED, whole=True)
        asked, settings, budget = _read(offer, sampler_for, body, max_tokens)
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            sampler = sampler_for.request(asked, settings)
        _check_size(sampler, fields)
        if top_logprobs and sampler.top_k is None:
            raise SettingError("top_logprobs are told of a model with a top_k: give one")
        encoded = [
            await encode_checked(offer.engine, sampler, prompt, chat=chat, template_args=template_args)
            for prompt in prompts
        ]
    except SettingError as error:
        raise unusable(error, fields, prompt_field) from None
    options = body.stream_options
    return Order(
        model=body.model or offer.name,
        sampler_name=sampler_for.name,
        sampler=sampler,
        prompts=encoded,
        n=n,
        seed=secrets.randbits(53) if body.seed is None else body.seed,
        deadline=None if body.deadline_s is None else arrival + body.deadline_s,
        budget=budget,
        stream=bool(body.stream),
        progress=bool(body.stream_progress),
        include_usage=options is not None and bool(options.include_usage),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        unused={name: asked[name] for name in DECIDED if name in asked},
        notes=[str(warning.message) for warning in noted],
    )


def check_fields(
    body: Body, others: Mapping[str, Any], known: Collection[str] = (), settings: Collection[str] = ()
) -> None:
    """Raise Refusal or SettingError for those of the fields that ``body`` does not declare which ask for something.

    ``known`` are further ones that may be there; ``settings`` is what else may have been meant.
    """
    refuse(others, _UNSUPPORTED)
    known = {*_UNSUPPORTED, *_NEUTRAL, *known}
    for name in others:
        if name not in known:
            hint = did_you_mean(name, [*known, *type(body).model_fields, *settings])
            raise Refusal(400, f"{name} is no field of this request{hint}: leave it out", param=name)


def _read(
    offer: Offer, sampler_for: SamplerFor, body: SamplingBody, max_tokens: int | None
) -> tuple[dict[str, Any], dict[str, Any], int | None]:
    """What a request asks in OpenAI's words, settings in powercut's, and the budget that ends a chain."""
    settings, others = split_options(body.more)
    if not offer.patterns and (named := sorted(settings.keys() & _PATTERNS)):
        what = f"{named[0]}: this server takes no regular expressions from requests (powercut serve --patterns does)"
        raise Refusal(400, what, param=named[0])
    check_fields(body, others, {*REFUSED, *DECIDED}, _SETTINGS)
    for name, value in (body.stream_options.more if body.stream_options else {}).items():
        if value is not False and name != "include_obfuscation":  # which pads a stream, and asks nothing of its text
            what = f"stream_options: {name} is not supported by powercut: leave it out"
            raise Refusal(400, what, param="stream_options")
    asked = {name: value for name, value in others.items() if name in (*REFUSED, *DECIDED)}
    declared = (*DECIDED, "stop")
    asked |= {name: value for name in declared if (value := getattr(body, name, None)) is not None}
    lengths = {name: getattr(body, name) for name in ("max_tokens", "max_completion_tokens")}
    lengths |= {"max_output_tokens": max_tokens, "max_new_tokens": settings.get("max_new_tokens")}
    lengths = {name: value for name, value in lengths.items() if value is not None}
    if len({str(value) for value in lengths.values()}) > 1:
        raise Refusal(400, f"{' and '.join(lengths)} differ: give one of them", param=next(iter(lengths)))
    if lengths:
        asked["max_tokens"] = next(iter(lengths.values()))
    if body.proposal_temperature is not None:
        settings["temperature"] = body.proposal_temperature
    of_best_of_n = sampler_for.name == "best-of-n"  # whose own settings these two are
    if body.best_of is not None:
        (settings if of_best_of_n else asked)["n" if of_best_of_n else "best_of"] = body.best_of
    budget = body.budget
    if of_best_of_n and budget is not None:
        settings["budget"], budget = budget, None
    return asked, settings, budget


def _check_size(sampler: Sampler, fields: Collection[str]) -> None:
    """Raise Refusal for a completion that would take more at once than a server can give."""
    if sampler.width > MOST_AT_ONCE:
        of = {"particles", "tries", "best_of", "candidates", "budget"} & {*fields}
        what = f"{min(of, default='the sampler')}: a choice may make {MOST_AT_ONCE} engine requests at once"
        raise Refusal(400, f"{what}, not {sampler.width}: lower it", param=min(of, default=None))
