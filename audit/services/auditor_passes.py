"""Giving auditors a pass, and taking it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group

from accounts.models import Groups, User
from audit import events
from audit.auditor_scope import ALLOWED
from audit.errors import PassEnded, PassInForce, PassNotApplicable
from audit.models import AuditorPass
from audit.services.dual_control import person
from audit.services.recorder import record
from common.actors import Actor
from common.clock import database_now
from common.commands import command
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason

# What an auditor's own account has, too: a sign-in, its factors, what they asked of the log.
_NO_WORK = frozenset({"accounts", "account", "admin", "audit", "auditlog", "auth", "mfa",
                      "sessions", "socialaccount"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range of a pass: these agents (none: all), in this time, until it ends."""

    ends_at: datetime
    agents: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None


@command
def grant(user_id: int, bounds: Bounds, *, actor: Actor, reason: str) -> AuditorPass:
    """A pass in place of any that the person has.

    Raises NotFound, NoPassForThem (oneself, somebody whom no pass could limit, or whom it would
    keep from work that they have here), InvalidInput, ReasonRequired, PeopleOnly.
    """
    reason, now = clean_reason(reason), database_now()
    holder = User.objects.select_for_update().filter(pk=user_id, is_active=True).first()
    if holder is None:
        raise NotFound
    if holder.is_superuser or holder.pk == person(actor):
        raise PassNotApplicable
    latest = AuditorPass.objects.filter(person=holder).order_by("-id").first()
    has_own_rights = latest is None or latest.restored_at is not None
    if has_own_rights and not _only_looks(holder):
        raise PassNotApplicable
    if bounds.ends_at <= now or (bounds.since and bounds.until and bounds.since >= bounds.until):
        message = "It has to end later than now, and its time to begin before it ends."
        raise InvalidInput(message)
    AuditorPass.objects.filter(person=holder, withdrawn_at=None).update(withdrawn_at=now)
    given = AuditorPass.objects.create(
        person=holder,
        agents=list(bounds.agents),
        since=bounds.since,
        until=bounds.until,
        ends_at=bounds.ends_at,
        reason=reason,
        granted_by_id=person(actor),
        granted_at=now,
    )
    record(
        events.PASS_GRANTED,
        actor=actor,
        subject=given,
        ends_at=bounds.ends_at.isoformat(),
        agents=list(bounds.agents),
        since=bounds.since.isoformat() if bounds.since else None,
        until=bounds.until.isoformat() if bounds.until else None,
        reason=reason,
    )
    return given


def _only_looks(user: User) -> bool:
    """An auditor's account: in no group with other work, which may be to vote, and named by no
    record of work, such as an agent that they own.
    """
    if user.groups.exclude(name=Groups.AUDITORS).exists() or _has_work(user):
        return False
    named = (one.partition(".")[2] for one in user.get_all_permissions() - ALLOWED)
    return all(name.startswith("view_") for name in named)


def _has_work(user: User) -> bool:
    """Whether a record names the person, or a group of theirs, as who decides or answers for it."""
    for relation in (*User._meta.related_objects, *Group._meta.related_objects):
        model: Any = relation.related_model
        if model._meta.app_label in _NO_WORK:
            continue
        name = relation.field.name
        name = f"{name}__user" if relation.model is Group else name
        if model._base_manager.filter(**{name: user}).exists():  # noqa: SLF001 - Django's name
            return True
    return False


@command
def restore_rights(pass_id: UUID, *, actor: Actor, reason: str) -> AuditorPass:
    """Let the rights of the person's own account count again, now that their pass has ended.

    Raises NotFound, PassInForce, PassEnded (another pass followed, or they count already),
    NoPassForThem for one's own, ReasonRequired.
    """
    reason, now = clean_reason(reason), database_now()
    given = AuditorPass.objects.select_for_update().filter(pk=pass_id).first()
    if given is None:
        raise NotFound
    if given.person_id == person(actor):
        raise PassNotApplicable
    if given.is_in_force(now):
        raise PassInForce
    latest = AuditorPass.objects.filter(person_id=given.person_id).order_by("-id").first()
    if given.restored_at is not None or latest != given:
        raise PassEnded
    given.withdrawn_at, given.restored_at = given.withdrawn_at or now, now
    given.save(update_fields=["withdrawn_at", "restored_at"])
    record(events.RIGHTS_RESTORED, actor=actor, subject=given, reason=reason)
    return given


@command
def withdraw(pass_id: UUID, *, actor: Actor, reason: str) -> AuditorPass:
    """From the next request on it opens nothing. Raises NotFound, PassEnded, ReasonRequired."""
    reason = clean_reason(reason)
    given = AuditorPass.objects.select_for_update().filter(pk=pass_id).first()
    if given is None:
        raise NotFound
    if given.withdrawn_at is not None:
        raise PassEnded
    given.withdrawn_at = database_now()
    given.save(update_fields=["withdrawn_at"])
    record(events.PASS_WITHDRAWN, actor=actor, subject=given, reason=reason)
    return given
