"""An event as other systems take it: CloudEvents 1.0 and OCSF 1.5.

Both are made from the leaf alone, so nothing that could be erased leaves the portal, and both name
the place and the hash by which the event is proved.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from audit.event_types import title_of

OCSF_VERSION = "1.5.0"
_VENDOR = "Chancery"
# Classes of OCSF by what our types begin with, the most telling first.
_CLASSES = (
    ("finding.", 2004),
    ("audit.", 1008),
    ("access.", 3005),
    ("role.", 3005),
    ("elevation.", 3005),
    ("credential.issued", 3002),
    ("auth.", 3002),
    ("agent.", 3004),
    ("identity.", 3004),
    ("credential.", 3004),
    ("enrolment.", 3004),
    ("signing_key.", 3004),
    ("delegation.", 3004),
    ("person.", 3004),
    ("policy.", 3004),
    ("record.", 3004),
    ("secret.", 3004),
    ("tool.registered", 3004),
    ("tool.definition_changed", 3004),
    ("tool.withdrawn", 3004),
    ("tool.reinstated", 3004),
)
_API_ACTIVITY = 6003
# Activities of those classes by the end of a type; what is not here is 99, other.
_ACTIVITIES: Mapping[int, Mapping[str, int]] = {
    2004: {"made": 1, "escalated": 2, "resolved": 3},
    1008: {"exported": 3, "payload_erased": 2, "retention_applied": 2},
    3002: {"issued": 1, "login_succeeded": 1, "login_failed": 1, "logged_out": 2},
    3004: {"created": 1, "registered": 1, "added": 1, "viewed": 2, "updated": 3, "changed": 3,
           "definition_changed": 3, "rotated": 3, "deleted": 4, "retired": 4, "revoked": 4},
    3005: {"granted": 1, "given": 1, "member_added": 1, "revoked": 2, "member_removed": 2,
           "ended": 2},
    6003: {"read": 2, "write": 3},
}  # fmt: skip
_GOOD = frozenset({"allowed", "approved", "succeeded", "login_succeeded"})
_BAD = frozenset({"denied", "halted", "rejected", "failed", "login_failed"})
_SERIOUS = ("halt.", "finding.", "record.bypass_detected", "audit.verify_failed",
            "audit.event_quarantined", "credential.superseded_key_used",
            "request.secret_refused")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event in its place of the log. `hash` is that of RFC 6962."""

    seq: int
    text: str
    hash: bytes

    @property
    def leaf(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


def cloudevent(one: Sealed) -> dict[str, Any]:
    """CloudEvents 1.0 in JSON; `data` is the leaf as it was hashed."""
    leaf = one.leaf
    return {
        "specversion": "1.0",
        "id": leaf["uid"],
        "source": settings.LOG_ORIGIN,
        "type": f"chancery.{leaf['type']}.v1",
        "time": leaf["at"],
        "subject": f"{leaf['subject']['kind']}/{leaf['subject']['id']}",
        "datacontenttype": "application/json",
        "sequence": f"{one.seq:020d}",
        "leafhash": one.hash.hex(),
        "data": leaf,
    }


def ocsf(one: Sealed) -> dict[str, Any]:
    """An OCSF event of the class that fits best; our own terms are in `unmapped`."""
    leaf = one.leaf
    kind, details = str(leaf["type"]), leaf.get("details", {})
    class_uid = next((uid for start, uid in _CLASSES if kind.startswith(start)), _API_ACTIVITY)
    activity = _activity(class_uid, kind, details)
    outcome = str(details.get("outcome", details.get("answer", kind.rpartition(".")[2])))
    status = 1 if outcome in _GOOD else 2 if outcome in _BAD else 99
    return {
        "class_uid": class_uid,
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": int(datetime.fromisoformat(leaf["at"]).timestamp() * 1000),
        "severity_id": 4 if kind.startswith(_SERIOUS) else 2 if status == 2 else 1,
        "status_id": status,
        "message": title_of(kind),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": _VENDOR, "vendor_name": _VENDOR},
            "log_name": settings.LOG_ORIGIN,
            "uid": leaf["uid"],
            "sequence": one.seq,
            "event_code": kind,
            "correlation_uid": leaf.get("run", leaf.get("request", "")),
        },
        "actor": {"user": {"uid": leaf["actor"]["id"], "type": leaf["actor"]["kind"]}},
        "api": {"operation": str(details.get("tool", kind))},
        "resources": [{"type": leaf["subject"]["kind"], "uid": leaf["subject"]["id"]}],
        "unmapped": {"details": details, "leaf_hash": one.hash.hex(), "at": leaf["at"]},
    }


def _activity(class_uid: int, kind: str, details: Mapping[str, Any]) -> int:
    known = _ACTIVITIES[class_uid]
    return known.get(kind.rpartition(".")[2], known.get(str(details.get("access", "")), 99))


SHAPES: Mapping[str, Callable[[Sealed], dict[str, Any]]] = {
    "cloudevents": cloudevent,
    "ocsf": ocsf,
}
