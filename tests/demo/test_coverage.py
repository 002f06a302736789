"""The table of the airline's policy names what there is, and all of it."""

import re
from pathlib import Path

from demo.catalogue import definitions

DEMO = Path(__file__).resolve().parents[2] / "demo"
NAMED = set(re.findall(r"`([a-z0-9_-]+)`", (DEMO / "coverage.md").read_text()))
RULES = {path.stem for path in (DEMO / "policies").glob("*.cedar")}
FACTS = {fact["name"] for _, tool in definitions() for fact in tool.get("facts", ())}


def test_every_rule_is_in_the_table() -> None:
    assert RULES <= NAMED


def test_every_fact_that_a_rule_looks_at_is_in_the_table() -> None:
    texts = "".join(path.read_text() for path in (DEMO / "policies").glob("*.cedar"))
    looked_at = set(re.findall(r"context\.facts\.(\w+)", texts))
    assert looked_at <= FACTS
    assert looked_at - {"reason_to_be_attested"} <= NAMED


def test_what_the_table_names_as_a_rule_is_one() -> None:
    with_a_dash = {name for name in NAMED if "-" in name} - {"cancel-and-refund"}
    assert with_a_dash <= RULES
    assert (DEMO / "workflows" / "cancel-and-refund.yaml").is_file()
