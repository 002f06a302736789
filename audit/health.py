"""Problems of the log, shown to everybody who opens the portal."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from audit import events
from audit.models import Checkpoint, Event, Quarantine, SealerMark, SinkState, WitnessState

SEALED_WITHIN = timedelta(minutes=1)
DELIVERED_WITHIN = timedelta(minutes=5)
SAID_FOR = timedelta(days=1)
WITNESSED_WITHIN = timedelta(minutes=10)


def alarms() -> list[str]:
    """Each a sentence. Bounded reads, by index."""
    return [
        *_unsealed(),
        *_kept_out(),
        *_unverified(),
        *_unwitnessed(),
        *_undelivered(),
        *_passed_by(),
    ]


def _unsealed() -> Iterator[str]:
    mark = SealerMark.objects.values_list("low", flat=True).first() or 0
    late = Event.objects.filter(
        pk__gt=mark, place__isnull=True, quarantine__isnull=True,
        recorded_at__lt=timezone.now() - SEALED_WITHIN,
    )  # fmt: skip
    if late.order_by("pk")[:1]:
        yield "Events are not being sealed: does the sealer run, and with the log's key?"


def _kept_out() -> Iterator[str]:
    if Quarantine.objects.exists():
        yield "Events were found that no process of the portal wrote. They are kept out of the log."


def _unverified() -> Iterator[str]:
    types = (events.VERIFY_PASSED.name, events.VERIFY_FAILED.name)
    last = Event.objects.filter(type__in=types).order_by("-pk").values_list("type", flat=True)
    if last.first() == events.VERIFY_FAILED.name:
        yield "The log did not hold when it was last verified."


def _unwitnessed() -> Iterator[str]:
    now = timezone.now()
    for one in WitnessState.objects.all():
        if one.trouble and one.since is not None and now - one.since > WITNESSED_WITHIN:
            yield f"The witness {one.name} does not sign the log: {one.trouble}."
        elif one.trouble == "conflict":
            yield f"The witness {one.name} has seen another log than this one."
        elif _is_late(one, now):
            yield f"The witness {one.name} has not signed for a while."


def _undelivered() -> Iterator[str]:
    now = timezone.now()
    for one in SinkState.objects.exclude(trouble=""):
        if one.since is not None and now - one.since > DELIVERED_WITHIN:
            yield f"The sink {one.name} does not take the log: {one.trouble}."


def _passed_by() -> Iterator[str]:
    recent = Event.objects.filter(type=events.BYPASS_DETECTED.name).order_by("-pk")
    last = recent.values_list("recorded_at", flat=True).first()
    if last is not None and timezone.now() - last < SAID_FOR:
        yield "A governed record was changed outside the portal in the last day."


def _is_late(one: WitnessState, now: datetime) -> bool:
    """Whether there has been more to sign for longer than it should take."""
    following = Checkpoint.objects.filter(size__gt=one.size).order_by("size").first()
    return following is not None and now - following.signed_at > WITNESSED_WITHIN
