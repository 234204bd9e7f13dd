"""Loading a model for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from powercut.cli.interrupts import interruptible
from powercut.errors import SettingError, visible

if TYPE_CHECKING:
    from powercut.engines.protocol import Engine


def load_engine(
    console: Console, model: str | None, options: dict[str, Any], most: int, top_k: int | None = None
) -> Engine:
    """Load a model while a line says so.

    ``most`` is how many requests there can be at once, ``top_k`` the most log-probabilities that one asks for.
    """
    import powercut
    from powercut.engines import select

    engine_name = select(model)[0]
    for option, named in (("tokenizer", "--tokenizer"), ("model", "--served-model")):
        if option in options and engine_name not in ("http", "https"):
            raise SettingError(f"{named} is for a server: give its URL, --model http://HOST:PORT/v1, or leave it out")
    if engine_name in ("transformers", "llama"):
        options = {"slots": min(16, most), **options}  # no memory for more requests than there will be
    if engine_name in ("http", "https") and top_k is not None:
        options = {"top_k": top_k, **options}  # tried out now, not in the first completion
    if not console.is_terminal:
        with interruptible():
            return powercut.load(model, **options)
    with interruptible(), console.status("loading the model"):
        engine = powercut.load(model, **options)
    console.print(visible(engine.describe()), style="dim", markup=False, soft_wrap=True)
    return engine
