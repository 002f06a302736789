from audit.models.events import (
    ERASED,
    Event,
    EventPayload,
    EventQuerySet,
    Generation,
)
from audit.models.log import Checkpoint, Cosignature, Leaf, LogKey, Quarantine, SealerMark, Tile

__all__ = [
    "ERASED",
    "Checkpoint",
    "Cosignature",
    "Event",
    "EventPayload",
    "EventQuerySet",
    "Generation",
    "Leaf",
    "LogKey",
    "Quarantine",
    "SealerMark",
    "Tile",
]
