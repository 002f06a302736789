"""Rules for all services at once, over their source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECORATORS = {"command", "deciding_command", "atomic"}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(ROOT.glob("*/services*")):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            tree = ast.parse(file.read_text())
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    yield f"{file.relative_to(ROOT)}:{node.name}", node


FOUND = dict(functions())


def decorators(node: ast.FunctionDef) -> set[str]:
    names = (one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)
    return {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in names}


def locks(node: ast.FunctionDef) -> bool:
    return any(
        isinstance(one, ast.Attribute) and one.attr == "select_for_update" for one in ast.walk(node)
    )


def opens_one(node: ast.FunctionDef) -> bool:
    """Whether a transaction is opened within it."""
    return any(isinstance(one, ast.Attribute) and one.attr == "atomic" for one in ast.walk(node))


PUBLIC = [
    name
    for name, node in FOUND.items()
    if not node.name.startswith("_")
    and locks(node)
    and "actor" in {a.arg for a in node.args.kwonlyargs}
]


@pytest.mark.parametrize("name", PUBLIC)
def test_what_locks_and_acts_for_somebody_is_a_command(name: str) -> None:
    """A test runs in a transaction anyway: only a rule over the source sees that one is missing."""
    node = FOUND[name]
    within = "within the caller's transaction" in (ast.get_docstring(node) or "").lower()
    assert decorators(node) & DECORATORS or opens_one(node) or within


def test_the_rule_looks_at_something() -> None:
    assert len(PUBLIC) > 25
