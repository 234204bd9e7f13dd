"""Write the pages of the docs that are made from powercut itself, for ``make docs``.

python scripts/generated_pages.py [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import api_page
import cli_page
import errors_page

FOLDER = Path(__file__).parents[1] / "docs"
PAGES = {"api.md": api_page.page, "cli.md": cli_page.page, "errors.md": errors_page.page}


def main(arguments: Sequence[str]) -> None:
    """Write each page."""
    folder = Path(arguments[0]) if arguments else FOLDER
    for name, page in PAGES.items():
        (folder / name).write_text(page())
        print(folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
