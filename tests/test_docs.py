"""docs/samplers.md says of every setting which samplers have it and what its default is."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

from powercut.samplers import SAMPLERS

PAGE = Path(__file__).parents[1].joinpath("docs", "samplers.md").read_text()


def spell(default):
    if default == ():
        return "none"
    if isinstance(default, float):
        return f"{default:g}"
    return f"`{default!r}`".replace("'", '"') if isinstance(default, bool | str | None) else str(default)


def expected_rows():
    """Setting, default and owners, as the table should have them."""
    for name in dict.fromkeys(field.name for kind in SAMPLERS.values() for field in dataclasses.fields(kind)):
        owners = [kind for kind in SAMPLERS.values() if name in kind.__dataclass_fields__]
        defaults = [(kind, spell(kind.__dataclass_fields__[name].default)) for kind in owners]
        usual = Counter(default for _, default in defaults).most_common(1)[0][0]
        others = [f"`{kind.__name__}`: {default}" for kind, default in defaults if default != usual]
        of = "all" if len(owners) == len(SAMPLERS) else ", ".join(f"`{kind.__name__}`" for kind in owners)
        yield f"| `{name}` | {'; '.join([usual, *others])} | {of} |"


def test_the_table_of_settings_is_that_of_the_code():
    table = PAGE.split("## All settings")[1]
    rows = [re.match(r"\| `\w+` \| [^|]* \| [^|]* \|", line) for line in table.splitlines()]
    assert [row[0] for row in rows if row] == list(expected_rows())


def test_every_sampler_has_its_place():
    for kind in SAMPLERS.values():
        assert f"| `{kind.__name__}` |" in PAGE
