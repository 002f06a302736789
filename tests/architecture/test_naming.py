"""Names and first words of docstrings, held over the source: see `docs/style.md`."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = (
    "accounts", "actions", "agents", "approvals", "audit", "common", "insights", "policies",
    "portal", "tools", "workflows",
)  # fmt: skip
OTHERS = ("clients", "demo")
PARTICIPLE = re.compile(
    r"_?(?:[a-z]+ed|begun|built|chosen|done|drawn|found|given|gone|held|kept|known|left|lost|made|"
    r"met|read_back|said|seen|sent|shown|spent|taken|told|thrown|undone|written)(?:_[a-z0-9_]+)?"
)
NO_PARTICIPLES = {"embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed"}
# Calls that change something outside of the function.
EFFECTS = {
    "bulk_create", "bulk_update", "delete", "enqueue", "get_or_create", "record", "record_many",
    "save", "send", "send_mail", "update_or_create", "write_events",
}  # fmt: skip
FREE_RELATIVE = re.compile(r"(?:What|Who|How|Which|That|Where|When)(?:ever|soever)?\b")
# Names that Django, a framework or the reader expects in each app or module.
SHARED_CLASS_NAMES = {"Command", "Kind", "Meta", "Migration", "Status"}


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "/migrations/" not in name and "/tests/" not in name:
                yield name, ast.parse(path.read_text())


def called_names(node: ast.AST) -> set[str]:
    calls = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
    return {
        function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for function in calls
    }


def is_participle(name: str) -> bool:
    first = name.lstrip("_").split("_")[0]
    return PARTICIPLE.fullmatch(name) is not None and first not in NO_PARTICIPLES


def effectful_participles(tree: ast.Module) -> list[str]:
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and is_participle(node.name)
        and called_names(node) & EFFECTS
    ]


def free_relatives(tree: ast.Module) -> list[str]:
    nodes = (ast.AsyncFunctionDef, ast.ClassDef, ast.FunctionDef, ast.Module)
    found = (ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes))
    return [text for text in found if FREE_RELATIVE.match(text)]


def is_gerund(path: str) -> bool:
    return re.search(r"/services/(?:.*_)?[a-z]+ing\.py$", path) is not None


def shared_class_names(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Class names that stand in more than one module; nested classes are named by their owner."""
    found = defaultdict[str, list[str]](list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name not in SHARED_CLASS_NAMES:
                found[node.name].append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_a_function_that_changes_something_is_named_by_an_imperative() -> None:
    found = {path: effectful_participles(tree) for path, tree in modules(*APPS, *OTHERS)}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_docstring_opens_with_a_verb_or_a_noun() -> None:
    found = {path: free_relatives(tree) for path, tree in modules(*APPS, *OTHERS)}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_a_module_of_services_is_named_by_a_noun() -> None:
    assert [path for path, _ in modules(*APPS) if is_gerund(path)] == []


def test_a_class_name_exists_once() -> None:
    assert shared_class_names(dict(modules(*APPS, "demo"))) == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def _stored(a):\n    a.save()", ["_stored"]),
        ("def written_back(a):\n    return record(a)", ["written_back"]),
        ("def store(a):\n    a.save()", []),
        ("def stored(a):\n    return a.value", []),
        ("def needed(a):\n    return a.value", []),
        ("def proceed(a):\n    a.save()", []),
    ],
)
def test_the_rule_for_functions_sees_what_it_is_for(source: str, names: list[str]) -> None:
    assert effectful_participles(ast.parse(source)) == names


def test_the_other_rules_see_what_they_are_for() -> None:
    relative = ast.parse('"""What it is."""\n\ndef one():\n    """Return one."""\n')
    assert free_relatives(relative) == ["What it is."]
    assert is_gerund("audit/services/sealing.py")
    assert is_gerund("audit/services/run_loading.py")
    assert not is_gerund("audit/sealing.py")
    twice = {name: ast.parse("class One: ...\nclass Meta: ...") for name in ("a.py", "b.py")}
    assert shared_class_names(twice) == {"One": ["a.py", "b.py"]}
