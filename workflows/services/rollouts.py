"""Giving a new version to a part of new runs, and taking it back when it does badly."""

from dataclasses import dataclass

from django.db.models import Count, Q
from django.utils import timezone

from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.commands import command
from common.errors import InvalidInput
from common.input_checks import clean_reason
from common.isolation import each
from workflows import events
from workflows.errors import NoRolloutUnderWay
from workflows.models import Rollout, Workflow, WorkflowRun, WorkflowVersion
from workflows.models.definitions import WHOLE

_BAD = ("failed", "compensated", "compensation_failed", "halted")


@dataclass(frozen=True)
class Record:
    """The results of one version's runs since its rollout began."""

    ended: int
    failed: int
    denied: int

    def percent(self, part: int) -> float:
        return 100 * part / self.ended if self.ended else 0.0

    @property
    def failed_percent(self) -> float:
        return self.percent(self.failed)

    @property
    def denied_percent(self) -> float:
        return self.percent(self.denied)


def record_of(rollout: Rollout, version: WorkflowVersion) -> Record:
    runs = WorkflowRun.objects.filter(version=version, started_at__gte=rollout.started_at)
    if version.pk == rollout.candidate_id:
        runs = WorkflowRun.objects.filter(version=version)
    over = runs.filter(status__in=[*WorkflowRun.ENDED, "halted", "compensation_failed"])
    found = over.aggregate(
        ended=Count("pk"),
        failed=Count("pk", filter=Q(status__in=_BAD)),
        denied=Count("pk", filter=Q(run__denials_count__gt=0)),
    )
    return Record(**found)


def begin_rollout(workflow: Workflow, candidate: WorkflowVersion, *, share: int) -> Rollout:
    """In the transaction of publishing. Raises InvalidInput for a share that is no part."""
    if not 0 < share < WHOLE or workflow.live is None:
        message = "A share is between 1 and 9,999 of 10,000 runs."
        raise InvalidInput(message)
    return Rollout.objects.create(
        workflow=workflow, stable=workflow.live, candidate=candidate, share=share
    )


@command
def change_share(rollout_id: int, *, actor: Actor, share: int) -> Rollout:
    """Give the new version to more or fewer of the new runs."""
    rollout = _running(rollout_id)
    if not 0 < share < WHOLE:
        message = "A share is between 1 and 9,999 of 10,000 runs."
        raise InvalidInput(message)
    rollout.share = share
    rollout.save(update_fields=["share"])
    record(events.ROLLOUT_CHANGED, actor=actor, subject=rollout.candidate, share=share)
    return rollout


@command
def complete(rollout_id: int, *, actor: Actor, reason: str) -> Rollout:
    """The new version takes over: all new runs start on it."""
    rollout = _running(rollout_id)
    workflow = Workflow.objects.select_for_update().get(pk=rollout.workflow_id)
    workflow.live = rollout.candidate
    workflow.title = str(rollout.candidate.spec["title"])
    workflow.save(update_fields=["live", "title"])
    _end(rollout, Rollout.Status.COMPLETED, clean_reason(reason))
    record(
        events.ROLLOUT_COMPLETED,
        actor=actor,
        subject=rollout.candidate,
        number=rollout.candidate.number,
    )
    return rollout


@command
def roll_back(rollout_id: int, *, actor: Actor, reason: str) -> Rollout:
    """New runs start on the former version again; runs under way finish where they are."""
    reason = clean_reason(reason)
    rollout = _running(rollout_id)
    _end(rollout, Rollout.Status.ROLLED_BACK, reason)
    record(
        events.ROLLOUT_ROLLED_BACK,
        actor=actor,
        subject=rollout.candidate,
        number=rollout.candidate.number,
        reason=reason,
    )
    return rollout


def guard() -> int:
    """Roll back every rollout whose new version does worse than allowed; how many."""
    return sum(each(Rollout.objects.filter(status="running"), _judge, what="rollout"))


def _judge(rollout: Rollout) -> bool:
    found = record_of(rollout, rollout.candidate)
    if found.ended < rollout.min_runs:
        return False
    reason = ""
    if found.failed_percent > rollout.max_failed_percent:
        reason = f"{found.failed} of {found.ended} runs failed."
    elif found.denied_percent > rollout.max_denied_percent:
        reason = f"{found.denied} of {found.ended} runs were denied something."
    if not reason:
        return False
    try:
        roll_back(rollout.pk, actor=SYSTEM, reason=f"The guard: {reason}")
    except NoRolloutUnderWay:
        return False  # somebody was faster
    return True


def _end(rollout: Rollout, status: Rollout.Status, reason: str) -> None:
    rollout.status, rollout.reason = status, reason[:500]
    rollout.ended_at = timezone.now()
    rollout.save(update_fields=["status", "reason", "ended_at"])


def _running(rollout_id: int) -> Rollout:
    rollouts = Rollout.objects.select_for_update(of=("self",)).select_related("candidate")
    rollout = rollouts.filter(pk=rollout_id, status=Rollout.Status.RUNNING).first()
    if rollout is None:
        raise NoRolloutUnderWay
    return rollout
