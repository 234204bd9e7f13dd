"""The Python of the docs runs, page by page: with a table in place of the models that pages load."""

import sys
import types

import pytest

import powercut
from tests.pages import PAGES, blocks
from tests.server.serving import serving
from tests.test_docs_commands import load

SMALL = {"max_new_tokens=1024": "max_new_tokens=16", "max_new_tokens=256": "max_new_tokens=16", "blocks=16": "blocks=2"}
"""Numbers that are made small; no page's point is in them."""


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_the_python_of_a_page_runs(page, monkeypatch, capsys):
    monkeypatch.setattr(powercut, "load", load)
    module = types.ModuleType("__main__")  # where scripts are, and dataclasses look for their types
    monkeypatch.setitem(sys.modules, "__main__", module)
    names = vars(module) | {"pc": powercut, "prompts": ["1 + 1"]}
    names["engine"] = load()
    with serving(load()) as served:
        for block in blocks(PAGES[page], "python"):
            code = block.replace("http://127.0.0.1:8000", served.root)
            code = code.replace("messages=[...]", 'messages=[{"role": "user", "content": "1 + 1"}]')
            for large, small in SMALL.items():
                code = code.replace(large, small)
            exec(compile(code, page, "exec"), names)
