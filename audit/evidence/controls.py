"""Which events support which controls: data that a compliance officer edits."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "controls.json"


@lru_cache(maxsize=1)
def controls() -> list[dict[str, Any]]:
    """The mapping as it is delivered: ids of frameworks' controls with titles in our own words."""
    found: list[dict[str, Any]] = json.loads(_FILE.read_text())
    return found
