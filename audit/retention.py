"""Retention periods of events' values, by the class of what the event is about.

Leaves, places and proofs stay for the life of the log. Six months is the least that the EU AI Act
asks of logs (articles 19 and 26(6)), so no rule goes below it.
"""

from dataclasses import dataclass

from audit.bounded_values import SENSITIVE
from audit.event_types import declared

FLOOR_DAYS = 184


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """`days`: unless a rule says otherwise."""

    title: str
    days: int
    prefixes: tuple[str, ...]


CLASSES = {
    "decision": RetentionClass(
        "Decisions, approvals and evidence",
        730,
        (
            "decision.",
            "approval.",
            "elevation.",
            "finding.",
            "halt.",
            "audit.",
            "tier.",
            "request.",
        ),
    ),
    "operational": RetentionClass(
        "Tool calls, runs and credentials in use",
        214,
        (
            "tool.call.",
            "run.",
            "workflow.",
            "breaker.",
            "secret.used",
            "credential.issued",
            "auth.",
        ),
    ),
    "config": RetentionClass("Changes of configuration, rights and keys", 2190, ("",)),
    # By class of the data, whatever the event: the one field that such values are kept apart in.
    "sensitive": RetentionClass("Personal and sensitive values of calls", 214, ()),
}
SENSITIVE_FIELD = f"details.{SENSITIVE}"


def class_of(name: str) -> str:
    """The class of an event's type: the most telling prefix counts."""
    found = [
        (len(prefix), kind)
        for kind, one in CLASSES.items()
        for prefix in one.prefixes
        if name.startswith(prefix)
    ]
    return max(found)[1]


def types_of(kind: str) -> list[str]:
    if kind == "sensitive":
        return sorted(name for name, one in declared().items() if SENSITIVE in one.details)
    return sorted(name for name in declared() if class_of(name) == kind)
