"""How a command reads its words: what would otherwise pass in silence is said."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import pairwise, takewhile
from typing import Any

from typer.core import TyperArgument, TyperCommand

from powercut.errors import SettingError


class Command(TyperCommand):
    """Refuses a flag in the place of another's value, and notes one that is given twice: the last one holds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; SettingError for a flag that lacks its value."""
        options = [param for param in self.get_params(ctx) if not isinstance(param, TyperArgument)]
        names = {name: param for param in options for name in (*param.opts, *param.secondary_opts)}
        for word, following in pairwise(takewhile(lambda word: word != "--", args)):
            if following in names and word in names and not getattr(names[word], "is_flag", False):
                raise SettingError(f"{word} needs a value (if {following} is meant: {word}={following})")
        order = self.make_parser(ctx).parse_args(args=list(args))[2]
        for param, times in Counter(order).items():
            switch = getattr(param, "is_flag", False) and not param.secondary_opts
            if times > 1 and param in options and not getattr(param, "multiple", False) and not switch:
                spelt = "/".join((*param.opts, *param.secondary_opts))
                warnings.warn(f"{spelt} is given {times} times: the last one holds", stacklevel=2)
        return super().parse_args(ctx, args)
