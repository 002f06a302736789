"""The home page. Bounded reads: a day of decisions by index, never a whole table."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone

from accounts.models import User
from actions.models import Action
from agents.models import Agent, Halt, halted
from approvals.eligibility import count_waiting_for, undecidable
from approvals.models import ApprovalRequest
from audit.auditor_scope import scope_of
from audit.health import alarms
from audit.queue_lag import waiting_for_second_person
from common.charts import Series, stacked_bars
from common.ids import first_key_at
from policies.models import PolicyRelease
from workflows.models import WorkflowRun

HOURS = 24
MAX_WAITING_SHOWN = 6
MAX_LOOKED_AT = 100
SERIES = (
    Series("allowed", "allowed", "good"),
    Series("needs_approval", "needed approval", "wait"),
    Series("denied", "denied", "bad"),
    Series("halted", "halted", "doubt"),
)


def overview(user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    now = timezone.now()
    hours, counts = _decisions_by_hour(now)
    totals: Counter[str] = Counter()
    for row in counts:
        totals.update(row)
    waiting = ApprovalRequest.objects.pending().select_related("tier").order_by("pk")

    def may(permission: str) -> bool:
        return isinstance(user, User) and user.has_perm(permission)

    sees_requests, sees_actions = may("approvals.view_approvalrequest"), may("actions.view_action")
    return {
        "sees": {
            "requests": sees_requests,
            "actions": sees_actions,
            "agents": may("agents.view_agent"),
            "release": may("policies.view_policyrelease"),
        },
        "agents_by_status": _agents(),
        "decisions_plot": stacked_bars("Calls by hour", hours, counts, SERIES),
        "series": SERIES,
        "totals": [(one, totals[one.key]) for one in SERIES],
        "decisions": sum(totals.values()),
        "waiting": list(waiting[:MAX_WAITING_SHOWN]) if sees_requests else [],
        "waiting_for_me": count_waiting_for(user) if isinstance(user, User) else 0,
        "waiting_count": waiting.count(),
        "elsewhere": waiting_for_second_person(user),
        "undecidable": undecidable(waiting[:MAX_LOOKED_AT]) if sees_requests else [],
        "halts": Halt.objects.in_force()[:MAX_WAITING_SHOWN] if may("agents.view_halt") else [],
        "alarms": alarms() if may("audit.view_event") and scope_of(user) is None else [],
        "release": PolicyRelease.objects.live().defer("text", "schema", "tools").first(),
        "unknown": list(_unknown()) if sees_actions else [],
        "stopped": list(_stopped()) if may("workflows.view_workflowrun") else [],
    }


def _unknown() -> QuerySet[Action]:
    found = Action.objects.filter(status=Action.Status.UNKNOWN)
    return found.defer("arguments", "claims", "facts", "result")[:MAX_WAITING_SHOWN]


def _stopped() -> QuerySet[WorkflowRun]:
    """Runs that only a person can move."""
    found = WorkflowRun.objects.filter(status__in=["halted", "compensation_failed"])
    return found.select_related("workflow").defer("inputs", "output")[:MAX_WAITING_SHOWN]


def _agents() -> list[tuple[str, int]]:
    """By status; what is active and covered by a halt counts as halted."""
    rows = Agent.objects.annotate(is_halted=halted(agent="slug"))
    counted = rows.values_list("status", "is_halted").annotate(n=Count("pk")).order_by()
    found: Counter[str] = Counter()
    for status, is_halted, number in counted:
        stands_still = is_halted and status == Agent.Status.ACTIVE
        found["halted" if stands_still else status] += number
    order = list(dict.fromkeys((Agent.Status.ACTIVE.value, "halted", *Agent.Status.values)))
    return [(status, found[status]) for status in order]


def _decisions_by_hour(now: datetime) -> tuple[list[str], list[dict[str, int]]]:
    """The last 24 hours. Keys grow with time, so the primary key finds them without an index."""
    start = (now - timedelta(hours=HOURS - 1)).replace(minute=0, second=0, microsecond=0)
    rows = (
        Action.objects.filter(pk__gte=first_key_at(start))
        .annotate(hour=TruncHour("decided_at"))
        .values_list("hour", "outcome")
        .annotate(n=Count("pk"))
        .order_by()
    )
    found: dict[datetime, dict[str, int]] = {}
    for hour, outcome, number in rows:
        found.setdefault(hour, {})[outcome] = number
    moments = [start + timedelta(hours=index) for index in range(HOURS)]
    return [f"{moment:%H}h" for moment in moments], [found.get(moment, {}) for moment in moments]
