"""Flags: those that several commands share, and one for every setting of every sampler, read from its dataclass."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_type_hints

import typer

from powercut.errors import SettingError
from powercut.evals.styles import STYLES
from powercut.samplers import SAMPLERS, Sampler, named, settings

DEFAULT_SAMPLER = "entropy-cut"

MODEL_PANEL = "Model"
ModelFlag = Annotated[
    str | None,
    typer.Option(
        help="A hub name, a local folder, a GGUF file, vllm:NAME or a URL; `powercut models` lists what is here. "
        "Default: the bundled SmolLM2-135M-Instruct.",
        rich_help_panel=MODEL_PANEL,
    ),
]
PROMPTS_PANEL = "Prompts"
ChatFlag = Annotated[
    bool | None,
    typer.Option(
        "--chat/--raw",
        help="Insist on the model's chat template, or never use it. Default: use it where there is one.",
        rich_help_panel=PROMPTS_PANEL,
    ),
]
TemplateArgFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--template-arg",
        metavar="NAME=VALUE",
        help="A variable of the chat template, such as enable_thinking=false; may be given several times. VALUE is "
        "JSON, or a text.",
        show_default=False,
        rich_help_panel=PROMPTS_PANEL,
    ),
]
StyleFlag = Annotated[
    str | None,
    typer.Option(
        metavar="STYLE",
        help=f"How problems are put: {', '.join(STYLES)} (paper: as published). Default: what the model was made for.",
        rich_help_panel=PROMPTS_PANEL,
    ),
]
RUN_PANEL = "The run"
AllowUnsafeLocalFlag = Annotated[
    bool,
    typer.Option(
        "--allow-unsafe-local",
        help="Run code that the model writes on this machine, with limits, and not in docker.",
        rich_help_panel=RUN_PANEL,
    ),
]
KeepTraceFlag = Annotated[
    bool,
    typer.Option(
        "--save-trace",
        help="Keep every step of every completion: powercut report makes a page of each, powercut view one.",
        rich_help_panel=RUN_PANEL,
    ),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=RUN_PANEL)]

_ENGINE_FLAGS: dict[str, tuple[type, str, str]] = {
    "device": (str, "--device", "Where to run it: cpu, cuda, cuda:1, ..."),
    "dtype": (str, "--dtype", "float32, bfloat16, float16 or float64."),
    "slots": (int, "--slots", "Completions decoded at once."),
    "context_length": (int, "--context-length", "Longest prompt and completion together, in tokens."),
    "threads": (int, "--threads", "For a GGUF file: threads to decode with. Default: every core."),
    "gpu_layers": (int, "--gpu-layers", "For a GGUF file: layers that a GPU holds. Default: all, where there is one."),
    "yarn": (float, "--yarn", "Extend the model's context by this factor (YaRN)."),
    "tokenizer": (
        str,
        "--tokenizer",
        "For a server: the folder or hub name of its model's tokenizer. "
        "Default: the server's own, from its folder if that is here.",
    ),
    "served_model": (str, "--served-model", "For a server: which of its models."),
}
"""Flags of every command that loads a model: type, spelling, help."""

_OPTIONS = {"served_model": "model"}
"""What ``powercut.load`` calls the flags of another name."""

Command = TypeVar("Command", bound=Callable[..., Any])

_MOST = 100_000
"""Seeds, problems, completions at once: each is held in memory."""

_METAVARS = {int: "INTEGER", float: "FLOAT", str: "TEXT"}
_SPELT = {"True": "on", "False": "off", "None": "none"}


def given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given: those that are not None, nor an empty list (a flag that may be repeated)."""
    return {name: value for name, value in options.items() if value not in (None, (), [])}


def flag(name: str) -> str:
    """Spell a setting's name as a flag: ``top_k`` is ``--top-k``."""
    return "--" + name.replace("_", "-")


def with_engine_flags(command: Command) -> Command:
    """Give ``command``, in place of its ``**flags``, those of the engine."""
    return _with_flags(command, _engine_flags())


def with_engine_and_setting_flags(command: Command, *, several: bool = False) -> Command:
    """Give ``command``, in place of its ``**flags``, those of the engine and one for each setting of any sampler.

    With ``several`` each setting may be given several times, and its values come in a list.
    """
    return _with_flags(command, _engine_flags() | _setting_flags(several))


def with_engine_and_repeated_setting_flags(command: Command) -> Command:
    """``with_engine_and_setting_flags``, each setting of which may be given several times."""
    return with_engine_and_setting_flags(command, several=True)


def split_flags(flags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was given of ``**flags``: options of the engine, as ``powercut.load`` takes them, and sampler settings."""
    engine = {_OPTIONS.get(name, name): flags[name] for name in _ENGINE_FLAGS if name in flags}
    return given(**engine), given(**{name: value for name, value in flags.items() if name not in _ENGINE_FLAGS})


def check_counts(**counts: int | None) -> None:
    """Raise SettingError for a number of seeds, problems or completions at once that is below 1 or past all memory."""
    for option, value in counts.items():
        if value is not None and not 1 <= value <= _MOST:
            bound = "at least 1" if value < 1 else f"at most {_MOST:,}"
            raise SettingError(f"{flag(option)} must be {bound} (got {value})")


def template_args(written: Iterable[str] | None) -> dict[str, Any]:
    """The chat template's variables from NAME=VALUE: values are JSON where they are that, else texts.

    Raises SettingError for what has no name, or one that is there twice.
    """
    found: dict[str, Any] = {}
    for each in written or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise SettingError(f"--template-arg must be NAME=VALUE, such as enable_thinking=false (got {each!r})")
        if name in found:
            raise SettingError(f"--template-arg {name} is given twice: give one value")
        found[name] = value
        with suppress(ValueError, RecursionError):
            read = json.loads(value, parse_constant=_refuse)
            json.dumps(read, allow_nan=False)  # nor a number that is infinite here
            found[name] = read
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _with_flags(command: Command, flags: Mapping[str, Any]) -> Command:
    """A flag that the command declares itself stays as it is."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in flags.items()
        if name not in signature.parameters
    ]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def _engine_flags() -> dict[str, Any]:
    return {
        name: Annotated[kind | None, typer.Option(spelt, help=text, rich_help_panel=MODEL_PANEL)]
        for name, (kind, spelt, text) in _ENGINE_FLAGS.items()
    }


def _setting_flags(several: bool) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    listed: Any = list
    for name, owners in _by_panel():
        hint, *options = get_args(_annotation(name, owners))
        one = settings.members(hint)[0]  # the other is None
        if several and typing.get_origin(one) is not list:
            hint = listed[one] | None
        flags[name] = Annotated[hint, *options]
    return flags


def sampler_from_flags(name: str, options: Mapping[str, Any]) -> Sampler:
    """Build the sampler called ``name`` from the flags that were given; its own defaults hold for the others.

    Raises SettingError for an unknown name, a flag that this sampler does not have, or a value it cannot use.
    """
    written = given(**options)
    if "stop" in written:
        written["stop"] = unescaped(written["stop"])
    return named.build_sampler(name, written, spell=flag)


def unescaped(stops: Iterable[str]) -> tuple[str, ...]:
    r"""Stops as they are meant on a command line: one that is ``\n``, ``\t`` and ``\r`` alone is the characters."""
    marks = {r"\n": "\n", r"\t": "\t", r"\r": "\r"}
    return tuple(
        re.sub(r"\\[ntr]", lambda mark: marks[mark[0]], stop) if re.fullmatch(r"(?:\\[ntr])+", stop) else stop
        for stop in stops
    )


def _by_panel() -> list[tuple[str, list[str]]]:
    """Every setting with the samplers that have it; the most widely shared first, so that help panels follow suit."""
    names = dict.fromkeys(field.name for kind in SAMPLERS.values() for field in fields(kind))
    owned = [(name, named.owners_of(name)) for name in names]
    return sorted(owned, key=lambda item: -len(item[1]))


def _annotation(name: str, owners: list[str]) -> Any:
    """Declare the flag of one setting. All but switches are read as text: so None can be given."""
    kind = SAMPLERS[DEFAULT_SAMPLER if DEFAULT_SAMPLER in owners else owners[0]]
    hint = get_type_hints(kind)[name]
    # Switches have a second column of names; a panel of their own leaves the others wide enough to read.
    panel = f"{'Switches' if hint is bool else 'Settings'} of {_spell_owners(owners, list(SAMPLERS))}"
    common: dict[str, Any] = {"rich_help_panel": panel, "show_default": False}
    text = _help_text(name, owners) + _show_defaults(name, owners)
    if hint is bool:
        common["metavar"] = " "
        return Annotated[bool | None, typer.Option(f"{flag(name)}/--no-{flag(name)[2:]}", help=text, **common)]
    if typing.get_origin(hint) is tuple:
        text += " id:7 means token id 7."
        return Annotated[list[str] | None, typer.Option(flag(name), help=text, metavar="TEXT", **common)]
    kind_read = settings.kind_of(hint)
    first = [_METAVARS[kind_read]] if kind_read else []
    metavar = "|".join([*first, *settings.words(hint), *(["none"] if settings.optional(hint) else [])])
    return Annotated[str | None, typer.Option(flag(name), help=text, metavar=metavar, **common)]


def _spell_owners(owners: list[str], among: list[str]) -> str:
    """Spell ``owners`` in the shortest way, as some ``among`` those samplers."""
    others = [name for name in among if name not in owners]
    if not others:
        return "every sampler"
    return f"all but {', '.join(others)}" if len(others) < 3 < len(owners) else ", ".join(owners)


def _help_text(name: str, owners: list[str]) -> str:
    """The setting's help: what all its samplers say of it, then what only some do, with their names."""
    said: dict[str, list[str]] = {}
    for owner in owners:
        for sentence in re.split(r"(?<=\.) ", SAMPLERS[owner].__dataclass_fields__[name].metadata["help"]):
            said.setdefault(sentence, []).append(owner)
    parts = [
        sentence if who == owners else f"{sentence[:-1]} ({_spell_owners(who, owners)})."
        for sentence, who in said.items()
    ]
    return " ".join(parts)


def _show_defaults(name: str, owners: list[str]) -> str:
    """Spell the default, or each sampler's where they differ; nothing for an empty tuple."""
    shown: dict[str, list[str]] = {}
    for owner in owners:
        default = SAMPLERS[owner].__dataclass_fields__[name].default
        text = f"{default:g}" if isinstance(default, float) else _SPELT.get(repr(default), str(default))
        shown.setdefault(text, []).append(owner)
    if list(shown) == ["()"]:
        return ""
    if len(shown) == 1:
        return f" Default: {next(iter(shown))}."
    return " Default: " + "; ".join(f"{text} ({_spell_owners(who, owners)})" for text, who in shown.items()) + "."
