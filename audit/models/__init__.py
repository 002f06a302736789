from audit.models.db_changes import DbChange
from audit.models.events import (
    ERASED,
    Event,
    EventPayload,
    EventQuerySet,
    Generation,
)
from audit.models.log import (
    Checkpoint,
    Cosignature,
    IndexMark,
    Leaf,
    LogKey,
    Quarantine,
    SealerMark,
    SinkState,
    Term,
    Tile,
    WitnessState,
)
from audit.models.passes import AuditorPass
from audit.models.records import Erasure, Export, Hold, RetentionRule, SystemRetention

__all__ = [
    "ERASED",
    "AuditorPass",
    "Checkpoint",
    "Cosignature",
    "DbChange",
    "Erasure",
    "Event",
    "EventPayload",
    "EventQuerySet",
    "Export",
    "Generation",
    "Hold",
    "IndexMark",
    "Leaf",
    "LogKey",
    "Quarantine",
    "RetentionRule",
    "SealerMark",
    "SinkState",
    "SystemRetention",
    "Term",
    "Tile",
    "WitnessState",
]
