"""Documents name what exists, and can be read in an editor."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LINE = 140
# Written by programs, or data of somebody else.
NOT_OURS = ("demo/airline/data/", "demo/coverage.md", "docs/benchmark", "docs/chaos.md")
# Files that a reader makes, or that stand in another project.
ELSEWHERE = {"chancery.env", "log.env", "max_migration.txt"}
PATH = re.compile(
    r"(?<![\w./<-])([\w.-]+(?:/[\w.-]+)*\.(?:py|md|html|toml|conf|sh|in|yaml|env|css))\b"
)
FOLDER = re.compile(r"`([a-z_]+(?:/[a-z_]+)*)/`")


def documents() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [path for path in listed.stdout.split() if not path.startswith(NOT_OURS)]


def spans(text: str) -> Iterator[str]:
    """Yield the code within sentences; blocks of code show files that a reader writes."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", outside)
    yield from re.findall(r"\]\(([^)#:]+)\)", outside)


def missing(document: str, text: str) -> list[str]:
    """Return the paths in the document that are neither in the project nor beside it."""
    here = (ROOT / document).parent
    named = {path for span in spans(text) for path in PATH.findall(span)}
    named |= set(FOLDER.findall(text))
    names = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    return sorted(
        path
        for path in named - ELSEWHERE
        if not (ROOT / path).exists()
        and not (here / path).exists()
        and not ("/" not in path and path in names)
    )


@pytest.mark.parametrize("document", documents())
def test_every_path_that_a_document_names_exists(document: str) -> None:
    assert missing(document, (ROOT / document).read_text()) == []


@pytest.mark.parametrize("document", documents())
def test_no_line_of_prose_is_longer_than_an_editor_is_wide(document: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.split("\n") if not line.lstrip().startswith(("|", "!", "<"))]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_a_path_that_does_not_exist_is_seen() -> None:
    text = "See `audit/nothing.py`, [it](nowhere.md) and `audit/none/`, and `audit/models/`."
    assert missing("README.md", text) == ["audit/none", "audit/nothing.py", "nowhere.md"]
