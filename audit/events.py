from audit.event_types import declare

_CHANGE = ("model", "pk", "entry", "changes")

RECORD_CREATED = declare("record.created", "A governed record was created", *_CHANGE)
RECORD_UPDATED = declare("record.updated", "A governed record was changed", *_CHANGE)
RECORD_DELETED = declare("record.deleted", "A governed record was removed", *_CHANGE)
RECORD_RELATED_CHANGED = declare(
    "record.related_changed", "A governed record's relations were changed", *_CHANGE
)
BYPASS_DETECTED = declare(
    "record.bypass_detected",
    "A governed record was changed by passing the portal by",
    "model",
    "pk",
    "kind",
    "fields",
    "database_user",
    "noticed_at",
)

HEARTBEAT = declare("audit.heartbeat", "The log is being sealed", "size")
EVENT_QUARANTINED = declare(
    "audit.event_quarantined", "An event that the portal did not write was kept out", "event"
)
PAYLOAD_ERASED = declare(
    "audit.payload_erased", "Values of events were erased", "erased", "fields", "request", "basis"
)
RETENTION_APPLIED = declare(
    "audit.retention_applied", "Values of events were removed in time", "erased", "fields", "rule"
)
# Those that say which values are gone.
ERASING = (PAYLOAD_ERASED.name, RETENTION_APPLIED.name)
RETENTION_CHANGED = declare(
    "audit.retention_changed",
    "How long values are kept was changed",
    "kind",
    "days",
    "system",
    "reason",
)
EXPORT_ASKED = declare(
    "audit.export_requested",
    "Evidence was asked for",
    "purpose",
    "wanted",
    "controls",
    "values",
    "apart",
    words=("purpose",),
)
EXPORT_DECIDED = declare(
    "audit.export_decided", "A second person decided on evidence", "answer", "reason"
)
EXPORTED = declare(
    "audit.exported", "Evidence was taken away", "start", "end", "size", "values", "apart"
)
ERASURE_ASKED = declare(
    "audit.erasure_requested",
    "The erasure of values was asked for",
    "about",
    "basis",
    "purpose",
    words=("basis",),
)
ERASURE_DECIDED = declare(
    "audit.erasure_decided", "A second person decided on an erasure", "answer", "reason", "events"
)
HOLD_PLACED = declare("audit.hold_placed", "A legal hold was placed", "reason", "run")
HOLD_RELEASED = declare("audit.hold_released", "A legal hold was released", "reason")
PAYLOAD_VIEWED = declare("audit.payload_viewed", "The values of an event were looked at", "apart")
REPORT_VIEWED = declare("audit.report_viewed", "A report was looked at", "report", "since", "until")
SEARCHED = declare("audit.searched", "Somebody looked for events", "fields", "sought")
WITNESS_REFUSED = declare(
    "audit.witness_refused", "A witness did not sign the log", "witness", "error", "size"
)
PASS_GRANTED = declare(
    "audit.pass_granted",
    "An auditor was given a pass",
    "ends_at",
    "agents",
    "since",
    "until",
    "reason",
)
PASS_WITHDRAWN = declare("audit.pass_withdrawn", "An auditor's pass was withdrawn", "reason")
RIGHTS_RESTORED = declare(
    "audit.rights_restored", "The rights of an auditor's own account count again", "reason"
)
SINK_REFUSED = declare(
    "audit.sink_refused", "A sink did not take events", "sink", "error", "number"
)
VERIFY_PASSED = declare("audit.verify_passed", "The log was verified", "size", "values")
VERIFY_FAILED = declare(
    "audit.verify_failed", "The log is not what it was", "size", "problems", "first"
)
LOG_KEY_ROTATED = declare(
    "audit.key_rotated",
    "The log is signed with another key",
    "key",
    "previous",
    "size",
    "root",
    "signature",
)
SIGNED_IN = declare("auth.login_succeeded", "A person signed in", "address")
SIGNED_OUT = declare("auth.logged_out", "A person signed out", "address")
SIGN_IN_REFUSED = declare("auth.login_failed", "A sign-in was refused", "address")
SECRET_REFUSED = declare(
    "request.secret_refused",
    "A request held a credential and was not taken in",
    "kind",
    "where",
    "fingerprint",
)
