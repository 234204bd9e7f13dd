"""The command line's commands together, and what becomes of their errors."""

from __future__ import annotations

import errno
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer

from powercut.cli.command import Command
from powercut.cli.eval import evaluate
from powercut.cli.models import models
from powercut.cli.output import forget_stdout, open_streams, say, to_stdout
from powercut.cli.report import report
from powercut.cli.reproduce import reproduce
from powercut.cli.sample import sample
from powercut.cli.serve import serve
from powercut.cli.study.anchors import anchors
from powercut.cli.study.decisions import decisions
from powercut.cli.study.divergence import divergence
from powercut.cli.study.lengths import lengths
from powercut.cli.study.mixing import mixing
from powercut.cli.study.tree import tree
from powercut.cli.verify import verify
from powercut.cli.view import view
from powercut.errors import PowercutError, SettingError
from powercut.strict_json import json_file
from powercut.versions import versions

app = typer.Typer(
    help="Sample reasoning from the power distribution of any language model.",
    epilog='Example: powercut sample "What is 7 * 8 + 2?"',
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(sample)
app.command("eval", cls=Command)(evaluate)
app.command(cls=Command)(models)
app.command(cls=Command)(report)
app.command(cls=Command)(reproduce)
app.command(cls=Command)(serve)
app.command(cls=Command)(verify)
app.command(cls=Command)(view)

study = typer.Typer(
    help="The paper's theory and its premise, measured.",
    epilog="Example: powercut study tree",
    rich_markup_mode="markdown",
)
study.command(cls=Command)(anchors)
study.command(cls=Command)(decisions)
study.command(cls=Command)(divergence)
study.command(cls=Command)(lengths)
study.command(cls=Command)(mixing)
study.command(cls=Command)(tree)
app.add_typer(study, name="study")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --version: what a bug report needs, as one JSON object.")
    ] = False,
) -> None:
    if as_json and not show_version:
        raise SettingError("--json stands after the command, or beside --version")
    if show_version:
        to_stdout(json_file(versions()) if as_json else f"powercut {version('powercut')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise SettingError("Missing command.")


def run_command(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code: 0, 2 for bad input, 1 for other failures, 130 after Ctrl-C."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its code, and goes on
            stream.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    with _notes():
        try:
            # Not command.main, which makes its own of Ctrl-C, of closed pipes and of files that end too early.
            with command.make_context("powercut", list(arguments) or ["--help"]) as context:
                command.invoke(context)
            return 0
        except typer.Exit as done:
            return done.exit_code
        except PowercutError as error:
            say(f"error: {error}")
        except OSError as error:
            forget_stdout()
            nameless = "the current folder" if error.errno == errno.ENOENT else "stdout"
            say(f"error: {error.filename or nameless} cannot be used: {error.strerror or error}")
        except typer.TyperException as error:
            say(f"error: {error.format_message()}")
        except (KeyboardInterrupt, typer.Abort):  # where a command has nothing of its own to say of it
            say("interrupted")
            return 130
        return 2


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {record.getMessage()}")


@contextmanager
def _notes() -> Iterator[None]:
    """Show warnings, and what powercut logs, as notes of one line."""
    handler = _Say(logging.INFO)
    log = logging.getLogger("powercut")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            # anyio's own, of a connection that was given up before its first step: it harms nothing
            warnings.filterwarnings("ignore", "coroutine 'connect_tcp", RuntimeWarning)
            warnings.showwarning = lambda message, *_, **__: say(f"note: {message}")
            yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
