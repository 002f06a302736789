"""Controls and the events that support them: data that a compliance officer edits."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

_DELIVERED = Path(__file__).parent / "evidence" / "controls.json"


def controls() -> list[dict[str, Any]]:
    """Ids of frameworks' controls with titles in our own words: as delivered, or as the file of
    CHANCERY_CONTROLS_FILE says.
    """
    return _read(Path(settings.CONTROLS_FILE) if settings.CONTROLS_FILE else _DELIVERED)


@lru_cache(maxsize=4)
def _read(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found
