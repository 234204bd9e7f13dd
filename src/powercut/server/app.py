"""The server as an ASGI application: its routes, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from powercut.errors import PowercutError, SettingError
from powercut.prompt import Prompt
from powercut.server.answer import Answer, JsonAnswer, refused
from powercut.server.bodies import ChatBody, CompletionBody, ResponseBody
from powercut.server.chat_shape import ChatShape
from powercut.server.completion_shape import CompletionShape
from powercut.server.guard import Guard
from powercut.server.messages import input_messages, plain_messages
from powercut.server.metrics import Metrics
from powercut.server.offer import Offer
from powercut.server.ongoing import Answering
from powercut.server.order import Order, build_order
from powercut.server.refusals import Refusal, refusal
from powercut.server.response_shape import ResponseShape
from powercut.server.shape import Shape
from powercut.server.tokens import add_token_routes
from powercut.server.turns import Turns
from powercut.server.views import Views


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a server lets in: keys (none: everybody), origins of web pages, waiting requests, bytes of a body."""

    keys: Sequence[str] = ()
    origins: Sequence[str] = ()
    most_waiting: int = 1024
    most_bytes: int = 4 * 2**20


def create_app(offer: Offer, bounds: Bounds, keep_views: int = 0) -> FastAPI:
    """The application; ``app.state.answering`` are the requests that it is answering.

    ``keep_views``: of so many answers, the last ones, the steps are kept in memory, and there is a page of each.
    Raises SettingError for an engine without text.
    """
    if offer.engine.text is None:
        raise SettingError("this engine has no tokenizer: a server needs a model that reads text")
    app = FastAPI(title="powercut", version=version("powercut"), docs_url=None, redoc_url=None)
    metrics, turns = Metrics(), Turns(offer.engine.concurrency, bounds.most_waiting)
    views = Views(keep_views)
    app.state.answering, app.state.turns = Answering(offer.engine, turns, metrics, views), turns
    _add_errors(app)
    _add_plain_routes(app, offer, lambda: metrics.page(turns))
    _add_sampling_routes(app, offer, app.state.answering)
    add_token_routes(app, offer)
    if keep_views:
        views.add_route(app)
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    app.add_middleware(
        Guard, keys=bounds.keys, most_bytes=bounds.most_bytes, metrics=metrics, paths=paths, opens=views.opens
    )
    if bounds.origins:  # added last, and so first: a browser asks, without a key, what it may send
        app.add_middleware(
            CORSMiddleware, allow_origins=list(bounds.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return app


def _add_plain_routes(app: FastAPI, offer: Offer, metrics_page: Callable[[], str]) -> None:
    created = int(time.time())

    def described(model: str) -> dict[str, Any]:
        length = getattr(offer.engine, "context_length", None)
        facts = {"id": model, "object": "model", "created": created, "owned_by": "powercut"}
        return facts if length is None else {**facts, "max_model_len": length}

    @app.get("/health")
    async def health() -> Response:
        """Whether requests are answered."""
        return JsonAnswer({"status": "ok"}, 503 if app.state.answering.closed else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """What was done, for Prometheus."""
        return PlainTextResponse(metrics_page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models() -> Response:
        """The model, and the model by each sampler."""
        return JsonAnswer({"object": "list", "data": [described(model) for model in offer.ids]})

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        """One of them."""
        offer.check_model(model)
        return JsonAnswer(described(model))


def _add_sampling_routes(app: FastAPI, offer: Offer, answering: Answering) -> None:
    async def answer(request: Request, order: Callable[[float], Any], shape: Callable[[], Shape]) -> Response:
        """Join what a retry asks for once more, or begin to draw."""
        arrival = asyncio.get_running_loop().time()
        key = hashlib.sha256(request.headers.get("authorization", "").encode() + b"\0" + await request.body())
        key.update(request.url.path.encode())
        ongoing, retries = None, request.headers.get("x-stainless-retry-count", "0")
        if retries.isdecimal() and (count := int(retries[:9])):
            ongoing = answering.join(key.digest(), count)
        if ongoing is None:
            answering.check_room()
            ongoing = answering.begin(cast(Order, await order(arrival)), shape(), key.digest())
        return Answer(ongoing)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request, body: ChatBody) -> Response:
        """Answer a conversation."""
        if body.top_logprobs and not body.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs: set it to true", param="top_logprobs")

        def order(arrival: float) -> Any:
            return build_order(
                *(offer, body, [_read_messages(offer, lambda: plain_messages(body.messages), "messages")], arrival),
                prompt_field="messages",
                template_args=body.chat_template_kwargs,
                logprobs=bool(body.logprobs),
                top_logprobs=body.top_logprobs or 0,
            )

        return await answer(request, order, ChatShape)

    @app.post("/v1/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Continue one text, or several."""
        if body.echo and body.logprobs is not None:
            raise Refusal(
                400,
                "echo with logprobs asks for log-probabilities of the prompt, which this server does not give: "
                "leave out one of them",
                param="echo",
            )
        prompts = _prompts(body)
        echoed: list[str] | None = [] if body.echo else None

        async def order(arrival: float) -> Order:
            built = await build_order(
                *(offer, body, prompts, arrival),
                prompt_field="prompt",
                chat=False,
                logprobs=body.logprobs is not None,
                top_logprobs=body.logprobs or 0,
            )
            if echoed is not None:  # the ids are known to be tokens now
                text = offer.engine.text
                assert text is not None
                echoed.extend(
                    [each if isinstance(each, str) else await text.decode(cast(Any, each)) for each in prompts]
                )
            return built

        return await answer(request, order, lambda: CompletionShape(echoed))

    @app.post("/v1/responses")
    async def responses(request: Request, body: ResponseBody) -> Response:
        """Answer a text or a conversation, of which nothing is kept."""
        if body.n not in (None, 1):
            raise Refusal(400, "n: a response is one text", param="n")

        def order(arrival: float) -> Any:
            messages = _read_messages(
                offer, lambda: plain_messages(input_messages(body.input, body.instructions)), "input"
            )
            return build_order(
                *(offer, body, [messages], arrival), prompt_field="input", max_tokens=body.max_output_tokens
            )

        return await answer(request, order, ResponseShape)


def _read_messages(offer: Offer, read: Callable[[], Prompt], field: str) -> Prompt:
    if offer.engine.text is not None and not offer.engine.text.has_chat_template:
        raise Refusal(400, "this model has no chat template: ask it at /v1/completions, with a prompt", param=field)
    try:
        return read()
    except SettingError as error:
        raise Refusal(400, str(error), param=field) from None


def _prompts(body: CompletionBody) -> Sequence[Prompt]:
    """The prompts of a request, which may be one or several, as texts or as token ids."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise Refusal(400, "the prompt is empty: give a text, token ids, or a list of these", param="prompt")
    return cast(Sequence[Prompt], [prompt] if isinstance(prompt[0], int) else prompt)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part != "body"]
        if first["type"] == "json_invalid":
            what = f"the body is no JSON: {first['ctx']['error']} (character {int(place[0]) + 1})"
            return refused(Refusal(400, what))
        if not place:
            what = "the body must be a JSON object, sent with Content-Type: application/json"
            return refused(Refusal(400, what))
        return refused(Refusal(400, f"{'.'.join(place)}: {first['msg']}", param=place[0]))

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        status = error.status_code
        return refused(Refusal(status, f"{error.detail}", headers=error.headers))

    @app.exception_handler(Refusal)
    async def refuse(_: Request, error: Refusal) -> Response:
        return refused(error)

    @app.exception_handler(PowercutError)
    @app.exception_handler(Exception)
    async def other(_: Request, error: Exception) -> Response:
        return refused(refusal(error))
