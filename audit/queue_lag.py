"""Requests that wait for a second person on a page of their own: evidence and erasures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from audit.models import Erasure, Export

MAX_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request for evidence or for an erasure."""

    title: str
    url: str
    asked_by: str
    asked_at: datetime


def waiting_for_second_person(user: Any) -> list[Waiting]:
    """Return what this person may decide and did not ask for themselves, the oldest first."""
    found = []
    for model, right in ((Export, "audit.approve_export"), (Erasure, "audit.approve_erasure")):
        if not user.has_perm(right):
            continue
        asked = model.objects.filter(status=model.Status.ASKED).exclude(asked_by=user.pk)
        for row in asked.select_related("asked_by").order_by("asked_at")[:MAX_SHOWN]:
            stem = f"admin:audit_{model._meta.model_name}_change"
            url, who = reverse(stem, args=[row.pk]), row.asked_by.get_full_name()
            found.append(Waiting(str(row), url, who or row.asked_by.get_username(), row.asked_at))
    return sorted(found, key=lambda one: one.asked_at)[:MAX_SHOWN]
