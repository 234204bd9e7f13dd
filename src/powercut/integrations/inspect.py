"""powercut as a model provider of Inspect: ``inspect eval TASK --model powercut/MODEL -M sampler=entropy-cut``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelInfo,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
    set_model_info,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from powercut.engines import load
from powercut.engines.protocol import Engine
from powercut.engines.with_rows import WithRows
from powercut.errors import SettingError
from powercut.integrations.foreign import SamplerFor, Seeds, answer, read_messages, read_template_args
from powercut.prompt import Message, TemplateArgs
from powercut.records import Completed, measures
from powercut.run import asample
from powercut.samplers.named import split_options
from powercut.stage_log import LastStage, StageLog
from powercut.step_lines import StepLines
from powercut.strict_json import strict
from powercut.text import encode_prompt
from powercut.trace import Completion, Event


class PowercutAPI(ModelAPI):
    """Samples each answer from a powercut sampler.

    ``model_name`` is what ``powercut.load`` takes (``smollm2``, a folder, ``vllm:NAME``, ``http://HOST:PORT/v1``); with
    ``base_url`` it is the name of the model at that server. ``engine`` is used in its place where it is given.
    ``sampler`` is a sampler's command-line name. ``chat`` None uses the model's chat template where it has one, False
    joins the messages with empty lines. ``template_args`` are variables of the template, as a dictionary or as JSON.
    ``options`` are settings of the sampler, and options of the engine. ``record`` is called, while a completion is
    drawn, with the seed that was asked for and each of its lines as step_lines.py has them.

    A completion depends on the seed, on the messages and on how often they were asked before, so that epochs differ
    and a run can be repeated; the seed is Inspect's ``seed``, else ``seed`` here. ``max_tokens`` and ``stop_seqs`` are
    Inspect's as well, and ``extra_body`` may hold settings for a single call. Cost and statistics are in
    ``ModelOutput.metadata``, where ``seed`` is the one that gives this completion again in ``powercut.sample``.

    Unless the user says how many, as many connections are used as keep the engine full. Raises SettingError for
    settings that cannot be used, EngineError when the model cannot be loaded or fails: the sample fails then, and
    Inspect's ``--no-fail-on-error`` goes on with the others.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        engine: Engine | None = None,
        sampler: str = "entropy-cut",
        chat: bool | None = None,
        template_args: TemplateArgs | str | None = None,
        seed: int = 0,
        record: Callable[[int, dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> None:
        config = GenerateConfig() if config is None else config
        super().__init__(model_name, base_url, api_key, [], config)
        settings, options = split_options(options)
        self._chat, self._seed = chat, seed
        self._template_args = read_template_args(template_args, chat)
        self._sampler_for = SamplerFor(sampler, settings, "with -M")  # before the model is loaded, which takes long
        self._loaded = engine is None
        if engine is None:
            engine = load(base_url, model=model_name, **options) if base_url else load(model_name, **options)
        elif options:
            raise SettingError(f"{min(options)} is neither a setting of a sampler nor an option of this engine")
        if engine.text is None:
            raise SettingError("this engine has no tokenizer: Inspect needs a model that reads text")
        self._engine, self._text = engine, engine.text
        self._seeds, self._record = Seeds(), record
        if config.max_connections is None and config.adaptive_connections is None:
            # Left alone Inspect begins with 20 and adapts, as for a service with unknown limits. It keeps this object.
            config.max_connections = self.max_connections()
        # Where it knows nothing of a model, Inspect makes another of it to ask, which would load the weights again.
        set_model_info(f"powercut/{model_name}", ModelInfo(model=model_name))

    async def aclose(self) -> None:
        """Close the engine that was loaded here; one that was given is its owner's to close."""
        if self._loaded:
            await self._engine.aclose()

    def max_connections(self) -> int:
        """As many completions as keep the engine full."""
        return -(-self._engine.concurrency // self._sampler_for.plain.width)

    def connection_key(self) -> str:
        """Samplers that share an engine share its connections, if they need as many."""
        return f"{self.model_name} {id(self._engine)} {self.max_connections()}"

    async def count_text_tokens(self, text: str) -> int:
        """Count by the model's own tokenizer."""
        return len(await self._text.encode(text))

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  # Inspect's name
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Draw one completion of the conversation."""
        if tools:
            raise SettingError("powercut samples text and calls no tools: choose a task or a solver without tools")
        asked = config.model_dump(exclude_none=True)
        sampler = self._sampler_for.request(asked, config.extra_body)
        prompt = await encode_prompt(
            self._text, self._prompt(input), chat=self._chat, template_args=self._template_args
        )
        asked_seed = self._seed if config.seed is None else config.seed
        seed = self._seeds.next(prompt, asked_seed)
        drawn_with: dict[str, Any] = {"sampler": self._sampler_for.name, "settings": asdict(sampler), "seed": seed}
        log, lines = StageLog(sampler), StepLines(self._text, **drawn_with, model=self._engine.name)

        def observe(prompt_index: int, sample_index: int, event: Event) -> None:
            log.add(event.stage, event.step, event.trace)
            if self._record is not None:
                for line in lines.event(prompt_index, sample_index, event):
                    self._record(asked_seed, line)

        told = self._engine if self._record is None else WithRows(self._engine)
        [completion] = await asample(told, sampler, [prompt], seed=seed, observe=observe)
        if self._record is not None:
            completed = Completed.of(
                completion, **drawn_with, model=self._engine.name, meta={}, template_args=self._template_args
            )
            self._record(asked_seed, lines.completion(completed))
        return self._output(completion, drawn_with, len(prompt), log.last())

    def _prompt(self, messages: Sequence[ChatMessage]) -> str | list[Message]:
        read = read_messages({"role": message.role, "content": _content(message)} for message in messages)
        if self._chat is False or (self._chat is None and not self._text.has_chat_template):
            return "\n\n".join(message["content"] for message in read)
        return read

    def _output(
        self, completion: Completion, drawn_with: dict[str, Any], read: int, chain: LastStage | None
    ) -> ModelOutput:
        kept = len(completion.tokens)
        facts = dict(drawn_with)
        if chain is not None:
            facts["chain"] = asdict(chain)
        if self._template_args is not None:
            facts["template_args"] = self._template_args
        stop_reason: StopReason = "stop" if completion.finished else "max_tokens"
        message = ChatMessageAssistant(content=answer(completion), model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=stop_reason)],
            usage=ModelUsage(input_tokens=read, output_tokens=kept, total_tokens=read + kept),
            time=completion.stats.seconds,
            metadata=strict(facts | measures(completion)),
        )


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [part.model_dump(include={"type", "text"}) for part in message.content]


@modelapi(name="powercut")
def _powercut() -> type[ModelAPI]:
    """Registered with Inspect under this name."""
    return PowercutAPI
