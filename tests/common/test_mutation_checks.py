"""What `tests.mutation_checks` takes away is there, and so are the tests that must notice."""

from pathlib import Path

import pytest

from tests.mutation_checks import DEFENCES
from tests.mutations_of_bounds import BOUNDS
from tests.mutations_of_decisions import DECISIONS, Defence

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "defence", [*DEFENCES, *DECISIONS, *BOUNDS], ids=lambda one: f"{one.threat} {one.title}"
)
def test_every_defence_can_be_taken_away(defence: Defence) -> None:
    assert defence.old in (ROOT / defence.path).read_text()
    for path in defence.tests.split():
        assert (ROOT / path.partition("::")[0]).exists()


def test_every_defence_is_of_a_threat_that_is_described() -> None:
    page = (ROOT / "docs/threats.md").read_text()
    for defence in (*DEFENCES, *DECISIONS, *BOUNDS):
        assert f"| {defence.threat} |" in page, defence.title
