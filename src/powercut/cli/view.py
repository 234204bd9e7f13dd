"""``powercut view``: one HTML page of the chains that ``--save-trace`` of ``powercut sample`` or ``eval`` wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from powercut.chains import Chains, read_chains
from powercut.cli.load_engine import load_engine
from powercut.cli.options import MODEL_PANEL, split_flags, with_engine_flags
from powercut.cli.output import OutFile, say
from powercut.cli.study.questions import extractor
from powercut.errors import EngineError, SettingError
from powercut.view.page import view_page
from powercut.view.payload import Find

_BRANCHES = 8
"""Branches decoded at once."""

_DRAIN = 2.0
"""Seconds that branches have to come to their end after Ctrl-C."""


@with_engine_flags
def view(
    chain: Annotated[Path, typer.Argument(metavar="CHAIN", help="What --save-trace wrote.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page. Default: CHAIN with .html.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a page that exists.")] = False,
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What an answer looks like in the text; its last match counts, or that of its first group. Default: "
            "as the sampler was told, else what is in the last \\boxed{}, else the last number.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="With --model: where to serve the page. 0: any that is free.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            help="Serve the page with this model behind it, which draws branches; as for powercut sample.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    **flags: Any,
) -> None:
    """See a chain: the text, each token tinted by how unsure the model was, and every step that changed it.

    Writes one HTML page, which loads nothing and sends nothing. With --model nothing is written: the page is served to
    this machine alone, and a click on a token draws new continuations from there.

    For example:

        powercut sample "What is 7 * 8 + 2?" --save-trace chain.jsonl

        powercut view chain.jsonl

        powercut view chain.jsonl --model smollm2
    """
    if chain.is_dir():
        raise SettingError(
            f"{chain} is a folder: give a file, of a run that of a completion, {chain}/cells/*/steps/*.gz"
        )
    chains, options = read_chains(chain), split_flags(flags)[0]
    find = None if answer is None else extractor(answer)
    if model is not None:
        if output is not None:
            raise SettingError("--output is for a page without --model: leave out one of them")
        _serve(chains, chain.name, find, model, options, port)
        return
    if options or port:
        raise SettingError("a page without --model has no engine and no port: give --model, or leave their flags out")
    plain = chain.with_suffix("") if chain.suffix == ".gz" else chain
    target = output or plain.with_suffix(".html")
    page = view_page(chains, chain.name, find)
    with OutFile("--output", target, force=force) as out:
        out.write(page)
    if out.failed:
        raise typer.Exit(2)
    say(f"wrote {target}")


def _serve(chains: Chains, title: str, find: Find | None, model: str, options: dict[str, Any], port: int) -> None:
    try:
        from powercut.server.branching import Door, add_pieces, create_view_app
        from powercut.server.serving import listen, serve
    except ImportError as error:
        raise EngineError(f"--model needs a server ({error}): pip install 'powercut[serve]'") from error
    with listen("127.0.0.1", port) as listener:
        engine = load_engine(Console(stderr=True, highlight=False), model, options, _BRANCHES)
        add_pieces(chains, engine)
        at = listener.getsockname()[1]
        door = Door.at(at)
        app = create_view_app(chains, engine, title, find, door)
        say(f"the page is at http://127.0.0.1:{at}/{door.token}/ until Ctrl-C")

        async def serve_and_close() -> None:
            try:
                await serve(app, listener, _DRAIN)
            finally:
                await engine.aclose()

        asyncio.run(serve_and_close())
