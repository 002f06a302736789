from audit.event_types import declare

_CHANGE = ("model", "pk", "entry", "changes")

RECORD_CREATED = declare("record.created", "Governed record created", *_CHANGE)
RECORD_UPDATED = declare("record.updated", "Governed record changed", *_CHANGE)
RECORD_DELETED = declare("record.deleted", "Governed record deleted", *_CHANGE)
RECORD_RELATED_CHANGED = declare(
    "record.related_changed", "Relations of a governed record changed", *_CHANGE
)
BYPASS_DETECTED = declare(
    "record.bypass_detected",
    "Governed record changed outside the portal",
    "model",
    "pk",
    "kind",
    "fields",
    "database_user",
    "noticed_at",
)

HEARTBEAT = declare("audit.heartbeat", "Log sealer running", "size")
EVENT_QUARANTINED = declare(
    "audit.event_quarantined", "Event that the portal did not write quarantined", "event"
)
PAYLOAD_ERASED = declare(
    "audit.payload_erased", "Values of events erased", "erased", "fields", "request", "basis"
)
RETENTION_APPLIED = declare(
    "audit.retention_applied", "Retention period of values applied", "erased", "fields", "rule"
)
# Those that say which values are gone.
ERASING = (PAYLOAD_ERASED.name, RETENTION_APPLIED.name)
RETENTION_CHANGED = declare(
    "audit.retention_changed",
    "Retention period changed",
    "kind",
    "days",
    "system",
    "reason",
)
EXPORT_ASKED = declare(
    "audit.export_requested",
    "Evidence export requested",
    "purpose",
    "wanted",
    "controls",
    "values",
    "apart",
    words=("purpose",),
)
EXPORT_DECIDED = declare("audit.export_decided", "Evidence export decided", "answer", "reason")
EXPORTED = declare(
    "audit.exported", "Evidence downloaded", "start", "end", "size", "values", "apart"
)
ERASURE_ASKED = declare(
    "audit.erasure_requested",
    "Erasure requested",
    "about",
    "basis",
    "purpose",
    words=("basis",),
)
ERASURE_DECIDED = declare("audit.erasure_decided", "Erasure decided", "answer", "reason", "events")
HOLD_PLACED = declare("audit.hold_placed", "Legal hold placed", "reason", "run")
HOLD_RELEASED = declare("audit.hold_released", "Legal hold released", "reason")
PAYLOAD_VIEWED = declare("audit.payload_viewed", "Protected values of an event viewed", "apart")
REPORT_VIEWED = declare("audit.report_viewed", "Report viewed", "report", "since", "until")
SEARCHED = declare("audit.searched", "Events searched", "fields", "sought")
WITNESS_REFUSED = declare(
    "audit.witness_refused", "Cosignature of a witness missing", "witness", "error", "size"
)
PASS_GRANTED = declare(
    "audit.pass_granted",
    "Auditor pass granted",
    "ends_at",
    "agents",
    "since",
    "until",
    "reason",
)
PASS_WITHDRAWN = declare("audit.pass_withdrawn", "Auditor pass withdrawn", "reason")
RIGHTS_RESTORED = declare(
    "audit.rights_restored", "Rights of an auditor's account restored", "reason"
)
SINK_REFUSED = declare("audit.sink_refused", "Log delivery failed", "sink", "error", "number")
VERIFY_PASSED = declare("audit.verify_passed", "Log verified", "size", "values")
VERIFY_FAILED = declare(
    "audit.verify_failed", "Log verification failed", "size", "problems", "first"
)
LOG_KEY_ROTATED = declare(
    "audit.key_rotated",
    "Log signing key rotated",
    "key",
    "previous",
    "size",
    "root",
    "signature",
)
SIGNED_IN = declare("auth.login_succeeded", "User signed in", "address")
SIGNED_OUT = declare("auth.logged_out", "User signed out", "address")
SIGN_IN_REFUSED = declare("auth.login_failed", "Sign-in refused", "address")
SECRET_REFUSED = declare(
    "request.secret_refused",
    "Request with a credential rejected",
    "kind",
    "where",
    "fingerprint",
)
