"""Use of identities: counted by the hour, and searched for anomalies.

Rules that need no past are looked at all the time, over windows of keys that grow with time, so
that their cost does not grow with the log. What is compared with the past is judged once an hour.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from actions.anomaly_score import is_outlier
from actions.models import Action, FirstToolUse, UsageHour
from agents.events import CREDENTIAL_ISSUED
from agents.models import AgentIdentity, Finding
from agents.services.findings import Anomaly, escalate_unanswered, report
from agents.usage_hours import Hours
from audit.models import Event
from common.clock import database_now
from common.ids import first_key_at
from common.isolation import each

WINDOW = timedelta(minutes=5)
MINT_WINDOW = timedelta(minutes=10)
# Keys are made by the machines that decide, and `now` is the database's.
CLOCKS_APART = timedelta(minutes=1)
MAX_DENIED_TOOLS = 3
# Renewal at two thirds of a life, and three times that: more is not what runtimes do.
MINT_FACTOR = 3
# An identity that is new uses every tool for the first time.
SETTLED_AFTER = timedelta(days=1)
BASELINE = timedelta(days=28)
ENOUGH_CALLS = 20
ENOUGH_DENIALS = 10
KEPT_FOR = timedelta(days=400)
_Rule = Finding.Rule


def watch(*, now: datetime | None = None) -> int:
    """Count, and report what is unusual; the number of new findings."""
    moment = now or database_now()
    count_hours(moment)
    looks = (_probing, _first_uses, _minting, _outside_hours, _compare_hours)
    # Each is reported as it is seen: what a look marks as seen, it marks after that.
    found = [
        finding
        for findings in each(
            looks, lambda look: each(look(moment), report, what="finding"), what="look"
        )
        for finding in findings
    ]
    return sum(one is not None for one in found) + escalate_unanswered(now=moment)


def count_hours(now: datetime) -> None:
    """This hour and the one before, from the actions that were decided in them."""
    this = now.replace(minute=0, second=0, microsecond=0)
    for hour in (this - timedelta(hours=1), this):
        rows = [
            UsageHour(identity_id=identity, hour=hour, **counts)
            for identity, counts in _counted(hour).items()
        ]
        UsageHour.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["identity", "hour"],
            update_fields=["allowed", "needs_approval", "denied", "halted", "tools"],
        )


def _counted(hour: datetime) -> dict[int, dict[str, int]]:
    outcomes = {outcome.value: Count("pk", filter=Q(outcome=outcome)) for outcome in Action.Outcome}
    decided = _decided(hour, hour + timedelta(hours=1))
    rows = decided.values_list("run__identity_id").annotate(
        different=Count("tool", distinct=True), **outcomes
    )
    names = ("tools", *outcomes)
    return {
        identity: dict(zip(names, numbers, strict=True)) for identity, *numbers in rows.order_by()
    }


def _decided(start: datetime, end: datetime) -> QuerySet[Action]:
    return Action.objects.filter(pk__gte=first_key_at(start), pk__lt=first_key_at(end))


def _lately(now: datetime, window: timedelta = WINDOW) -> QuerySet[Action]:
    return _decided(now - window, now + CLOCKS_APART).order_by()


def _probing(now: datetime) -> Iterable[Anomaly]:
    denied = _lately(now).filter(outcome=Action.Outcome.DENIED)
    tools: dict[int, set[str]] = defaultdict(set)
    for identity, tool in denied.values_list("run__identity_id", "tool").distinct():
        tools[identity].add(tool)
    for identity, names in tools.items():
        if len(names) > MAX_DENIED_TOOLS:
            yield Anomaly(identity, _Rule.PROBING, "", {"denied on": sorted(names)})


def _first_uses(now: datetime) -> Iterable[Anomaly]:
    allowed = _lately(now).filter(outcome=Action.Outcome.ALLOWED)
    pairs = set(allowed.values_list("run__identity_id", "tool").distinct())
    identities = {identity for identity, _ in pairs}
    uses = FirstToolUse.objects.filter(identity_id__in=identities)
    known = set(uses.values_list("identity_id", "tool"))
    settled = set(
        uses.filter(first_at__lt=now - SETTLED_AFTER).values_list("identity_id", flat=True)
    )
    in_production = set(
        AgentIdentity.objects.filter(
            pk__in=identities, environment__is_production=True
        ).values_list("pk", flat=True)
    )
    new = sorted(pairs - known)
    for identity, tool in new:
        if identity in settled and identity in in_production:
            yield Anomaly(identity, _Rule.FIRST_USE, tool, {"tool": tool, "seen at": _said(now)})
    FirstToolUse.objects.bulk_create(
        [FirstToolUse(identity_id=identity, tool=tool, first_at=now) for identity, tool in new],
        ignore_conflicts=True,
    )


def _minting(now: datetime) -> Iterable[Anomaly]:
    issued = Event.objects.filter(
        uid__gte=first_key_at(now - MINT_WINDOW), type=CREDENTIAL_ISSUED.name
    )
    counted = issued.values_list("subject_id").annotate(n=Count("pk")).order_by()
    minted = {int(subject): number for subject, number in counted}
    for identity in AgentIdentity.objects.filter(pk__in=minted):
        every = identity.token_seconds * 2 / 3
        expected = ceil(MINT_WINDOW.total_seconds() / every) * identity.replicas
        if minted[identity.pk] > MINT_FACTOR * expected:
            evidence = {
                "tokens in ten minutes": minted[identity.pk],
                "expected": expected,
                "runtimes declared": identity.replicas,
            }
            yield Anomaly(identity.pk, _Rule.MINT_RATE, "", evidence)


def _outside_hours(now: datetime) -> Iterable[Anomaly]:
    used = _lately(now).values_list("run__identity_id").annotate(last=Max("decided_at"))
    last_used = dict(used)
    declared = AgentIdentity.objects.filter(pk__in=last_used).exclude(hours="")
    for identity in declared:
        if not Hours.parsed(identity.hours).cover(last_used[identity.pk]):
            evidence = {"declared": identity.hours, "used at": _said(last_used[identity.pk])}
            yield Anomaly(identity.pk, _Rule.OUTSIDE_HOURS, "", evidence)


def _compare_hours(now: datetime) -> Iterable[Anomaly]:
    """Hours that are over, each compared once with the four weeks before it."""
    over = now.replace(minute=0, second=0, microsecond=0)
    rows = list(UsageHour.objects.filter(is_evaluated=False, hour__lt=over).order_by("hour")[:500])
    for row in rows:
        past = UsageHour.objects.filter(
            identity_id=row.identity_id, hour__gte=row.hour - BASELINE, hour__lt=row.hour
        )
        usual = list(past.only("allowed", "needs_approval", "denied", "halted"))
        hour = f"{row.hour:%Y-%m-%d %H}h"
        for rule, value, before, floor in (
            (_Rule.MANY_CALLS, row.calls, [one.calls for one in usual], ENOUGH_CALLS),
            (_Rule.MANY_DENIALS, row.denied, [one.denied for one in usual], ENOUGH_DENIALS),
        ):
            if is_outlier(value, before, at_least=floor):
                evidence = {
                    "hour": hour,
                    "number": value,
                    "usual": sorted(before)[len(before) // 2],
                }
                yield Anomaly(row.identity_id, rule, hour, evidence)
    UsageHour.objects.filter(pk__in=[row.pk for row in rows]).update(is_evaluated=True)


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def prune(*, now: datetime | None = None) -> int:
    """Forget hours of more than a year ago."""
    before = (now or timezone.now()) - KEPT_FOR
    return UsageHour.objects.filter(hour__lt=before).delete()[0]
