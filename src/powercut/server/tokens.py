"""The routes that translate between text and token ids, as vLLM has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.responses import Response

from powercut.engines.protocol import Request
from powercut.errors import SettingError
from powercut.server.answer import JsonAnswer
from powercut.server.bodies import DetokenizeBody, TokenizeBody
from powercut.server.messages import plain_messages
from powercut.server.offer import Offer
from powercut.server.order import check_fields
from powercut.server.refusals import Refusal, unusable
from powercut.text import TokenizerText, encode_prompt


def add_token_routes(app: FastAPI, offer: Offer) -> None:
    """Add /tokenize, /detokenize and /tokenizer_info."""
    text = offer.engine.text
    assert text is not None, "checked when the server starts"

    @app.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Response:
        """Token ids of a raw prompt or of messages."""
        _check(body)
        tokens = await _encoded(body)
        answer: dict[str, Any] = {"count": len(tokens), "tokens": tokens}
        if (length := getattr(offer.engine, "context_length", None)) is not None:
            answer["max_model_len"] = length
        if body.return_token_strs:
            answer["token_strs"] = [await _name(token) for token in tokens]
        return JsonAnswer(answer)

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> Response:
        """The text of token ids, special tokens as what they are called where the tokenizer is here."""
        _check(body)
        if body.tokens and not 0 <= min(body.tokens) <= max(body.tokens) < 2**31:
            raise Refusal(400, "tokens must be token ids of at least 0 and below 2^31", param="tokens")
        if body.tokens:
            try:
                offer.engine.check(Request(np.array([max(body.tokens)]), 1, top_k=1))
            except SettingError as error:
                raise Refusal(400, str(error), param="tokens") from None
        prompt = text.with_special(body.tokens) if isinstance(text, TokenizerText) else await text.decode(body.tokens)
        return JsonAnswer({"prompt": prompt})

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> Response:
        """The chat template, and the special tokens."""
        if not isinstance(text, TokenizerText):
            raise Refusal(404, "the tokenizer is not on this machine: ask the model's server", code="no_tokenizer")
        return JsonAnswer(text.describe())

    def _check(body: TokenizeBody | DetokenizeBody) -> None:
        offer.check_model(body.model)
        try:
            check_fields(body, body.more)
        except SettingError as error:
            raise unusable(error, body.more.keys()) from None

    async def _encoded(body: TokenizeBody) -> list[int]:
        if (body.prompt is None) == (body.messages is None):
            raise Refusal(400, "give prompt or messages, and one of them alone", param="prompt")
        field = "messages" if body.prompt is None else "prompt"
        try:
            if body.messages is not None:
                if body.add_special_tokens:
                    raise SettingError("add_special_tokens: the chat template has its own: leave it out")
                messages = plain_messages(body.messages)
                return await encode_prompt(text, messages, template_args=body.chat_template_kwargs)
            if body.chat_template_kwargs:
                raise SettingError("template_args: a raw prompt goes through no chat template: leave them out")
            if body.add_special_tokens is False:
                if not isinstance(text, TokenizerText):
                    raise SettingError("add_special_tokens: the tokenizer is not on this machine: leave it out")
                return text.encode_plain(body.prompt or "")
            return await text.encode(body.prompt or "")
        except SettingError as error:
            raise unusable(error, ("add_special_tokens", "chat_template_kwargs"), field) from None

    async def _name(token: int) -> str:
        return text.name_of(token) if isinstance(text, TokenizerText) else await text.decode([token])
