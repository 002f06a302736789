"""R1 and R9: whether the log is whole, and what was kept, removed and looked at."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import Count
from django.utils import timezone

from accounts.models import User
from audit.models import Checkpoint, Event, Hold, Quarantine, WitnessState
from audit.retention import CLASSES
from audit.services.retention import days_of
from common.charts import Series
from insights.components import Content, Figure, duration, listed, most, over_time
from insights.event_data import Facts, Period

EXPECTED_EVERY = timedelta(hours=1)


def integrity(facts: Facts) -> Content:
    """R1: sealed, verified, without a gap."""
    period = facts.period
    signed = list(_checkpoints(period))
    passed = sum(1 for _ in facts.of("audit.verify_passed"))
    failed = sum(1 for _ in facts.of("audit.verify_failed"))
    wrong = _miscounted(facts)
    last = Checkpoint.objects.filter(signed_at__lt=period.until).first()
    gap = _longest_gap(signed, period)
    kept_out = Quarantine.objects.filter(found_at__range=(period.since, period.until)).count()
    return Content(
        summary="Events are sealed in a Merkle tree whose root is signed. Somebody who keeps one "
        "signed root can tell later that nothing was changed, left out or added before it.",
        figures=[
            Figure("events sealed by the end", f"{last.size:,}" if last else "0"),
            Figure("checkpoints signed", f"{len(signed):,}"),
            Figure("longest time without one", duration(gap.total_seconds()),
                   "bad" if gap > EXPECTED_EVERY * 2 else ""),
            Figure("verifications that held", str(passed), "" if passed else "wait"),
            Figure("that did not", str(failed), "bad" if failed else ""),
            Figure("events kept out as not ours", str(kept_out), "bad" if kept_out else ""),
            Figure("runs that lack events", str(len(wrong)), "bad" if wrong else ""),
        ],
        charts=[
            over_time(
                "Checkpoints", period, ((at, "n") for at, _ in signed),
                (Series("n", "signed", "good"),),
                "At least one an hour, also when nothing happens: so silence shows.",
            ),
        ],
        tables=[
            listed(
                "Witnesses", ("Who", "has signed up to", "last", "trouble"),
                ((w.name, f"{w.size:,}", w.signed_at or "never", w.trouble or "none")
                 for w in WitnessState.objects.all()),
                empty="Nobody else signs the log. Without a checkpoint kept elsewhere, cutting off "
                "its end would not show.",
            ),
            listed(
                "Runs that lack events", ("Run", "said", "found"), wrong,
                empty="None: each run that was closed has all the events that it said it had.",
            ),
        ],
        limits=[] if last is None else [
            f"The last checkpoint of the period: size {last.size:,}, root {bytes(last.root).hex()}."
        ],
    )  # fmt: skip


def _checkpoints(period: Period) -> list[tuple[datetime, int]]:
    within = Checkpoint.objects.filter(signed_at__gte=period.since, signed_at__lt=period.until)
    return list(within.order_by("size").values_list("signed_at", "size"))


def _longest_gap(signed: list[tuple[datetime, int]], period: Period) -> timedelta:
    """Also from the period's beginning to the first, and from the last to its end, as far as there
    was a log.
    """
    log_began = Event.objects.order_by("id").values_list("recorded_at", flat=True).first()
    if log_began is None or log_began >= period.until:
        return timedelta(0)
    first, last = max(period.since, log_began), min(period.until, timezone.now())
    moments = [first, *(at for at, _ in signed), last]
    return max(later - earlier for earlier, later in pairwise(moments))


def _miscounted(facts: Facts) -> list[tuple[str, int, int]]:
    """Runs of which there are fewer events now than when they were closed."""
    closed = [fact for fact in facts.of("run.closed") if "events" in fact.said]
    wrong = []
    for start in range(0, len(closed), 500):
        batch = closed[start : start + 500]
        found = _events_of([fact.run for fact in batch])
        for fact in batch:
            there = found.get(fact.run, 0)
            if there < int(fact.said["events"]):
                wrong.append((fact.run, int(fact.said["events"]), there))
    return wrong


def _events_of(runs: list[str]) -> dict[str, int]:
    rows = Event.objects.filter(run_id__in=runs).values_list("run_id")
    return {str(run): number for run, number in rows.annotate(n=Count("pk")).order_by()}


def keeping(facts: Facts) -> Content:
    """R9: retention, holds, erasure, and who looked at what."""
    looked = Counter(
        fact.type.removeprefix("audit.") for fact in facts.of(
            "audit.payload_viewed", "audit.searched", "audit.report_viewed", "audit.exported"
        )
    )  # fmt: skip
    by = Counter(
        fact.actor for fact in facts.of("audit.payload_viewed", "audit.searched", "audit.exported")
    )
    names = {str(pk): name for pk, name in User.objects.values_list("pk", "username")}
    erased = sum(len(f.said.get("erased", ())) for f in facts.of("audit.payload_erased"))
    removed = sum(len(f.said.get("erased", ())) for f in facts.of("audit.retention_applied"))
    held = Hold.objects.filter(released_at__isnull=True)
    return Content(
        summary="Values can be erased, and are removed in time; the leaves they were part of and "
        "every proof stay. A legal hold comes before both.",
        figures=[
            Figure("legal holds in force now", str(held.count())),
            Figure("events that lost values by erasure", f"{erased:,}"),
            Figure("by retention", f"{removed:,}"),
            Figure("times values were looked at", f"{looked['payload_viewed']:,}"),
            Figure("searches", f"{looked['searched']:,}"),
            Figure("bundles taken away", str(looked["exported"])),
        ],
        charts=[
            most(
                "Who looked, searched and took away",
                Counter({names.get(key, key): number for key, number in by.items()}),
            ),
        ],
        tables=[
            listed(
                "How long values are kept", ("What", "days"),
                ((kind.title, days_of(name)) for name, kind in CLASSES.items()),
            ),
            listed(
                "Legal holds in force", ("Since", "run", "agent", "placed by"),
                ((h.placed_at, h.run_id or "all", h.agent or "all", h.placed_by) for h in held),
                empty="None is in force.",
            ),
        ],
    )  # fmt: skip
