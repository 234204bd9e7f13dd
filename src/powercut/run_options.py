"""What a run takes besides engine, sampler and prompts: its options, and what they say of each completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from powercut.engines.protocol import Engine
from powercut.errors import SettingError, quoted
from powercut.prompt import TemplateArgs, check_system, check_template_args
from powercut.records import Completed
from powercut.samplers import BestOfN
from powercut.samplers.sampler import Sampler
from powercut.samplers.settings import check_number
from powercut.trace import Completion, Event

RunObserver = Callable[[int, int, Event], None]
"""Called with the prompt index, the sample index and the event."""

Spent = Mapping[tuple[int, int], int]
"""Tokens decoded for each completion, by prompt index and sample index."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What ``astream`` takes besides engine, sampler and prompts; it says what each means.

    Raises SettingError, naming the option, for a value that makes no sense.
    """

    n: int = 1
    seed: int = 0
    chat: bool | None = None
    system: str | None = None
    template_args: TemplateArgs | None = None
    observe: RunObserver | None = None
    concurrency: int | None = None
    max_total_tokens: int | None = None
    match: Spent | None = None
    skip_bad: bool = False
    agree: float | None = None

    def __post_init__(self) -> None:
        check_number("n", self.n, 1, whole=True)
        check_number("seed", self.seed, 0, whole=True, counts=False)
        if self.observe is not None and not callable(self.observe):
            raise SettingError(f"observe must be a function (got {quoted(self.observe)})")
        for name, value, *allowed in (("chat", self.chat, True, False, None), ("skip_bad", self.skip_bad, True, False)):
            if not any(value is each for each in allowed):
                raise SettingError(f"{name} must be {' or '.join(map(str, allowed))} (got {quoted(value)})")
        if self.system is not None:
            check_system(self.system)
        object.__setattr__(self, "template_args", check_template_args(self.template_args, self.chat))
        if self.concurrency is not None:
            check_number("concurrency", self.concurrency, 1, whole=True)
        if self.max_total_tokens is not None:
            check_number("max_total_tokens", self.max_total_tokens, 1, 10**15, whole=True)
        if self.agree is not None:
            check_number("agree", self.agree, 0.5, 1)


def sampler_at(sampler: Sampler, options: RunOptions, prompt_index: int, sample_index: int) -> Sampler:
    """The sampler of one completion of a run: with ``match``, best-of-n with that completion's budget."""
    if options.match is None:
        return sampler
    assert isinstance(sampler, BestOfN), "checked before anything is sampled"
    return replace(sampler, budget=options.match[prompt_index, sample_index])


def spent_on(match: Spent | Iterable[Completion | Completed]) -> Spent:
    """The tokens decoded for each completion, from these, from their records, or from the numbers themselves.

    Raises SettingError for anything else, and for two completions of one place.
    """
    if isinstance(match, Mapping):
        return match
    kept: dict[tuple[int, int], int] = {}
    for completion in match if isinstance(match, Iterable) else (match,):
        if not isinstance(completion, Completion | Completed):
            raise SettingError(f"match must be completions of another sampler (got {quoted(completion)})")
        place = completion.prompt_index, completion.sample_index
        if place in kept:
            raise SettingError(f"match has two completions for prompt {place[0]}, sample {place[1]}: give one run's")
        kept[place] = completion.stats.tokens_decoded
    return kept


def check_match(sampler: Sampler, options: RunOptions, prompts: int) -> None:
    """Raise SettingError unless ``match`` has a budget for each completion of a best-of-n that has none of its own."""
    if options.match is None:
        return
    if not isinstance(sampler, BestOfN):
        raise SettingError(f"match says what best-of-n may spend; {type(sampler).__name__} has no budget")
    if sampler.budget is not None:
        raise SettingError("budget and match say the same thing twice: give one of them")
    for i in range(prompts):
        for j in range(options.n):
            if (i, j) not in options.match:
                raise SettingError(
                    f"match has no completion for prompt {i}, sample {j}: draw as many there, of the same prompts"
                )
            check_number("match: the tokens decoded", options.match[i, j], 1, whole=True)


def check_agree(engine: Engine, sampler: Sampler, options: RunOptions) -> None:
    """Raise SettingError if ``agree`` is set and answers cannot be found."""
    if options.agree is None:
        return
    if sampler.answer is None:
        raise SettingError("agree compares answers: give answer, which finds them in a text")
    if engine.text is None:
        raise SettingError("agree reads answers in texts, and this model has no tokenizer: leave it out")
