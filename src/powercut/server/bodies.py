"""The JSON that clients send. A field may be null, which is as if it were missing; every setting is a field besides."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_MORE = "Every setting of the sampler is a field too, by its name: alpha, steps, blocks, top_k, ..."


def _no_truth(value: Any) -> Any:
    """Pydantic takes true for 1: ``max_tokens: true`` would be an answer of one token."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number is needed, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
Number = Annotated[float, BeforeValidator(_no_truth)]


class Body(BaseModel):
    """A JSON object; fields that are not named are kept."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @property
    def more(self) -> dict[str, Any]:
        """The fields that are not named here, without those that are null."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class StreamOptions(Body):
    """What a stream has besides its text."""

    include_usage: bool | None = None


class SamplingBody(Body):
    """What all requests for text have in common."""

    model: str | None = Field(None, description="NAME, or NAME@SAMPLER. Default: the server's.")
    sampler: str | None = Field(None, description="entropy-cut, standard, ... Default: the server's. " + _MORE)
    n: Whole | None = Field(None, description="Choices of each prompt.")
    seed: Whole | None = Field(None, description="The same seed gives the same answer.")
    stop: str | list[str] | None = None
    max_tokens: Whole | None = Field(None, description="Longest completion, in tokens.")
    max_completion_tokens: Whole | None = Field(None, description="The same.")
    temperature: Number | None = Field(None, description="Not used: the sampler decides it. See proposal_temperature.")
    top_p: Number | None = Field(None, description="Not used: the law is not cut off so. See top_k.")
    min_p: Number | None = Field(None, description="Not used, as top_p.")
    do_sample: bool | None = Field(None, description="Not used: the sampler decides it.")
    proposal_temperature: Number | None = Field(None, description="The sampler's setting temperature.")
    best_of: Whole | None = Field(None, description="Of the sampler best-of-n: completions to choose from.")
    budget: Whole | None = Field(
        None, description="Tokens decoded for each choice, after which it is returned as it stands.", ge=1, le=10**9
    )
    deadline_s: Number | None = Field(
        None, description="Seconds from the request on, after which choices are returned as they stand.", gt=0, le=1e9
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stream_progress: bool | None = Field(
        None, description="Stream what the chain does: as reasoning_content, or as comments."
    )


class ChatMessage(Body):
    """One turn of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None


class ChatBody(SamplingBody):
    """A request of /v1/chat/completions."""

    messages: list[ChatMessage]
    logprobs: bool | None = Field(None, description="Log-probabilities of the text under the base model, in nats.")
    top_logprobs: Whole | None = Field(None, ge=0, le=20)
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Variables of the chat template.")


class CompletionBody(SamplingBody):
    """A request of /v1/completions."""

    prompt: str | list[str] | list[Whole] | list[list[Whole]]
    logprobs: Annotated[Whole | None, BeforeValidator(lambda value: None if value is False else value)] = Field(
        None, ge=0, le=20
    )
    echo: bool | None = Field(None, description="Begin each text with its prompt.")


class ResponseBody(SamplingBody):
    """A request of /v1/responses: text, and no state."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Whole | None = Field(None, description="Longest completion, in tokens.")


class TokenizeBody(Body):
    """A request of /tokenize: a raw prompt, or messages for the chat template."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = Field(
        None, description="A start token before a raw prompt, if the model has one."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Variables of the chat template.")
    return_token_strs: bool | None = None


class DetokenizeBody(Body):
    """A request of /detokenize."""

    model: str | None = None
    tokens: list[Whole]
