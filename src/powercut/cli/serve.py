"""``powercut serve``: an OpenAI-compatible server whose answers are drawn by a sampler."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from powercut.cli.load_engine import load_engine
from powercut.cli.options import (
    DEFAULT_SAMPLER,
    ModelFlag,
    sampler_from_flags,
    split_flags,
    unescaped,
    with_engine_and_setting_flags,
)
from powercut.cli.output import say
from powercut.errors import EngineError, SettingError
from powercut.samplers import SAMPLERS
from powercut.samplers.settings import check_number

KEY_VARIABLE = "POWERCUT_SERVER_KEY"

_SLOTS = 16
"""Requests decoded at once by an engine in this process, unless --slots says otherwise."""

_WHO = "Who may ask"


@with_engine_and_setting_flags
def serve(
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 is every network of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model. Default: its own name.")] = None,
    sampler: Annotated[
        str, typer.Option(help=f"Draws what a request does not choose otherwise: one of {', '.join(SAMPLERS)}.")
    ] = DEFAULT_SAMPLER,
    patterns: Annotated[
        bool,
        typer.Option(
            "--patterns/--no-patterns",
            help="Let requests give regular expressions (require, answer), of which some take for ever.",
        ),
    ] = False,
    max_waiting: Annotated[int, typer.Option(help="Requests that may wait; one more is told to come again.")] = 1024,
    max_body_mb: Annotated[int, typer.Option(help="Longest request, in megabytes.")] = 4,
    drain_s: Annotated[float, typer.Option(help="Seconds that answers have to come to their end after SIGTERM.")] = 30,
    keep_views: Annotated[
        int,
        typer.Option(
            metavar="N", help="Keep the steps of the last N answers in memory; each answer has a link to its page."
        ),
    ] = 0,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Keys, one a line, of which a request needs one. Default: that of {KEY_VARIABLE}; without, all may.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web page's origin (https://HOST) whose scripts may ask; may be given several times.",
            show_default=False,
            rich_help_panel=_WHO,
        ),
    ] = None,
    model: ModelFlag = None,
    **flags: Any,
) -> None:
    """Serve a model behind OpenAI's API; each answer is drawn by a sampler.

    Point any client at http://HOST:PORT/v1. The flags of samplers are defaults, which a request may change by the same
    names. docs/server.md says what clients can ask for.

    For example:

        powercut serve --model smollm2 --port 8000
    """
    check_number("--port", port, 0, 65535, whole=True)
    check_number("--max-waiting", max_waiting, 1, whole=True)
    check_number("--max-body-mb", max_body_mb, 1, 1024, whole=True)
    check_number("--drain-s", drain_s, 0, 86400)
    check_number("--keep-views", keep_views, 0, 100_000, whole=True)
    for origin in cors_origin or ():
        if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise SettingError(f"--cors-origin {origin} is no origin: give https://HOST, with nothing behind the host")
    engine_options, settings = split_flags(flags)
    if "stop" in settings:
        settings["stop"] = unescaped(settings["stop"])
    default = sampler_from_flags(sampler, settings)
    keys = _keys(api_key_file)
    try:
        from powercut.server.app import Bounds, create_app
        from powercut.server.offer import Offer
        from powercut.server.serving import listen
        from powercut.server.serving import serve as serve_app
    except ImportError as error:
        raise EngineError(f"a server needs fastapi and uvicorn ({error}): pip install 'powercut[serve]'") from error
    with listen(host, port) as listener:
        console = Console(stderr=True, highlight=False)
        engine = load_engine(console, model, engine_options, _SLOTS, default.top_k)
        offer = Offer(name or engine.name, engine, sampler, settings, patterns=patterns)
        bounds = Bounds(keys=keys, origins=cors_origin or (), most_waiting=max_waiting, most_bytes=max_body_mb * 2**20)
        app = create_app(offer, bounds, keep_views)
        if not keys and host not in ("127.0.0.1", "::1", "localhost"):
            say(f"note: whoever reaches {host} may ask: give --api-key-file or {KEY_VARIABLE}")
        try:
            listener.listen()  # so that nobody who reads the next line comes too early
        except OSError as error:  # another was started at the same time, and has its model sooner
            raise SettingError(f"--port {port} cannot be listened on: {error.strerror or error}") from None
        at = f"[{host}]" if ":" in host else host
        say(f"serving {offer.name} at http://{at}:{listener.getsockname()[1]}/v1")

        async def serve_and_close() -> None:
            try:
                await serve_app(app, listener, drain_s)
            finally:
                await engine.aclose()

        asyncio.run(serve_and_close())


def _keys(file: Path | None) -> list[str]:
    """The keys of a file, or the one in the environment."""
    if file is None:
        key = os.environ.get(KEY_VARIABLE)
        if key is not None and not key.strip():  # a variable that was to be filled in: let nobody in by mistake
            raise SettingError(f"{KEY_VARIABLE} is empty: give a key, or unset it, and all may ask")
        return [] if key is None else [key.strip()]
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SettingError(f"--api-key-file {file} is no text in UTF-8: give one of keys, one a line") from None
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise SettingError(f"--api-key-file {file} has no keys: one a line")
    return keys
