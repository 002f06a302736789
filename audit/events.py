from audit.vocabulary import declare

_CHANGE = ("model", "pk", "entry", "changes")

RECORD_CREATED = declare("record.created", "A governed record was created", *_CHANGE)
RECORD_UPDATED = declare("record.updated", "A governed record was changed", *_CHANGE)
RECORD_DELETED = declare("record.deleted", "A governed record was removed", *_CHANGE)
RECORD_RELATED_CHANGED = declare(
    "record.related_changed", "A governed record's relations were changed", *_CHANGE
)

HEARTBEAT = declare("audit.heartbeat", "The log is being sealed", "size")
EVENT_QUARANTINED = declare(
    "audit.event_quarantined", "An event that the portal did not write was kept out", "event"
)
LOG_KEY_CHANGED = declare(
    "audit.key_rotated", "The log is signed with another key", "key", "previous"
)
