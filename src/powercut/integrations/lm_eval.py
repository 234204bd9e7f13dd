"""powercut as a model of lm-evaluation-harness, for generation tasks; docs/evaluation.md says how to call it."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NoReturn

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from powercut.engines import load
from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.integrations.foreign import SamplerFor, answer, read_template_args
from powercut.prompt import Prompt, TemplateArgs
from powercut.run import Failure, astream, run
from powercut.samplers import Sampler
from powercut.samplers.named import split_options

logger = logging.getLogger(__name__)


_CHAT = '{"powercut chat": '
"""Begins a conversation: lm-eval carries prompts as texts, and may keep them on the disk between two runs."""


@register_model("powercut")
class PowercutLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """Draws each answer with a powercut sampler.

    ``pretrained`` is what ``powercut.load`` takes, ``options`` are settings of the sampler and options of the engine;
    ``template_args``, as a dictionary or as JSON, are variables of the chat template, for ``--apply_chat_template``.
    A task's stops are used, and its ``max_gen_toks`` unless ``max_new_tokens`` is given; its temperature is not: the
    sampler decides it. The same ``seed`` gives the same answers. An answer that fails is logged, and is empty.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        sampler: str = "entropy-cut",
        seed: int = 0,
        engine: Engine | None = None,
        template_args: TemplateArgs | str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._seed = seed
        self._template_args = read_template_args(template_args)
        settings, others = split_options(options)
        self._length_is_given = "max_new_tokens" in settings
        # before the model is loaded, which takes long
        self._sampler_for = SamplerFor(sampler, settings, "with --model_args")
        self._engine = load(pretrained, **others) if engine is None else engine

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Draw all answers that share their settings side by side."""
        alike: dict[str, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            alike[json.dumps(request.args[1], sort_keys=True)].append(i)
        answers = [""] * len(requests)
        for asked, places in alike.items():
            prompts = [_prompt(requests[i].args[0]) for i in places]
            run(self._fill(answers, places, prompts, self._sampler(json.loads(asked))))
        return answers

    async def _fill(self, answers: list[str], places: list[int], prompts: list[Prompt], sampler: Sampler) -> None:
        chat = False if isinstance(prompts[0], str) else None
        seed = self._seed * 1_000_003 + places[0]
        asked = astream(self._engine, sampler, prompts, seed=seed, chat=chat, template_args=self._template_args)
        async for outcome in asked:
            place = places[outcome.prompt_index]
            try:
                if isinstance(outcome, Failure):
                    raise outcome.error
                answers[place] = answer(outcome)
            except Exception as error:
                logger.error("answer %d failed and is empty: %s", place, error)

    def _sampler(self, asked: dict[str, Any]) -> Sampler:
        length = None if self._length_is_given else asked.get("max_gen_toks", 256)
        return self._sampler_for.request({**asked, "max_gen_toks": length})

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as it is: the model's own template is applied when it is encoded."""
        return f"{_CHAT}{json.dumps(chat_history)}}}"

    @property
    def tokenizer_name(self) -> str:
        """Names the template in lm-eval's cache."""
        return self._engine.name

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Not something that a sampler does; SettingError."""
        raise SettingError("powercut samples answers and scores no given ones: choose tasks of type generate_until")

    loglikelihood_rolling = loglikelihood


def _prompt(context: str) -> Prompt:
    return json.loads(context)["powercut chat"] if context.startswith(_CHAT) else context
