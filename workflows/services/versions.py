"""Writing versions of a workflow, and publishing them with a second person's consent."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from approvals.errors import AlreadyRequested
from approvals.models import ApprovalRequest, Tier
from approvals.publications import Publication
from approvals.services import NewApprovalRequest, open_request, spend, tier_terms
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.canonical import digest
from common.commands import command
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from workflows import events
from workflows.definitions.compiling import compile_text
from workflows.definitions.spec import WorkflowSpec
from workflows.errors import RolloutUnderWay, VersionInUse, VersionNotADraft, VersionOutOfDate
from workflows.models import Rollout, Workflow, WorkflowRun, WorkflowVersion
from workflows.models.definitions import WHOLE
from workflows.services.rollouts import begin_rollout
from workflows.spec_cache import current_references, written_down

PUBLISH = "workflows.publish"


def tools_of(spec: WorkflowSpec) -> frozenset[str]:
    """Every tool that a definition calls, forward or to undo."""
    found = set()
    for step in spec.steps.values():
        inner = step.foreach.steps.values() if step.foreach else ()
        for one in (step, *inner):
            found |= {call.tool.name for call in (one.call, one.compensate) if call}
    return frozenset(found)


def draft_version(text: str, *, actor: Actor, note: str = "") -> WorkflowVersion:
    """A new version of the workflow that the text names, checked against today's tools.

    The text is read before the transaction: however long that takes, it keeps nobody waiting.
    Raises InvalidDefinition with every problem, each with its line.
    """
    world = current_references()
    spec, plain = compile_text(text, world)
    return _draft(text, spec, plain, world, actor=actor, note=note)


@command
def _draft(
    text: str, spec: WorkflowSpec, plain: Any, world: Any, *, actor: Actor, note: str
) -> WorkflowVersion:
    workflow, _ = Workflow.objects.get_or_create(slug=spec.slug, defaults={"title": spec.title})
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    kept = written_down(world, tools_of(spec))
    last = workflow.versions.aggregate(last=Max("number"))["last"] or 0
    version = WorkflowVersion.objects.create(
        workflow=workflow,
        number=last + 1,
        text=text,
        spec=plain,
        world=kept,
        digest=digest({"spec": plain, "tools": _digests(kept)}),
        note=note,
        drafted_by=actor.label,
        drafted_by_id=actor.id,
    )
    record(
        events.VERSION_DRAFTED,
        actor=actor,
        subject=version,
        number=version.number,
        digest=version.digest,
    )
    return version


def _digests(kept: dict[str, Any]) -> dict[str, str]:
    return {name: tool["digest"] for name, tool in kept["tools"].items()}


def ensure_current(version: WorkflowVersion) -> None:
    """Raises VersionOutOfDate if a tool is not as it was when the version was checked."""
    tools = current_references().tools
    for name, kept in version.world["tools"].items():
        if name not in tools or tools[name].digest != kept["digest"]:
            message = f"{name} has changed since this version was drafted: save it again."
            raise VersionOutOfDate(message)


def _writers(version: WorkflowVersion, live: WorkflowVersion | None) -> list[int]:
    """Return the users who drafted this version or one between it and the published version before
    it: their text may be part of it. Versions published after it do not matter.
    """
    drafts = version.workflow.versions.filter(number__lte=version.number)
    before = live
    if live is not None and live.number > version.number:
        published = version.workflow.versions.exclude(published_at=None)
        before = published.filter(number__lt=version.number).order_by("-number").first()
    if before is not None:
        drafts = drafts.filter(number__gt=before.number)
    found = {*drafts.values_list("drafted_by_id", flat=True), version.drafted_by_id}
    return sorted(int(pk) for pk in found if pk.isdigit())


@command
def ask_to_publish(version_id: int, *, actor: Actor, share: int = WHOLE) -> ApprovalRequest:
    """Ask people to publish a draft, for all new runs or for a share of them (of 10,000).

    Who wrote it cannot approve. Raises VersionNotADraft, AlreadyRequested, VersionOutOfDate.
    """
    _ensure_a_share(share)
    version = _locked_draft(version_id)
    ensure_current(version)
    subject = Subject.of(version)
    if ApprovalRequest.objects.pending().about(subject.kind, subject.id).exists():
        message = "People have already been asked to publish this version."
        raise AlreadyRequested(message)
    live = version.workflow.live
    tier = Tier.objects.filter(slug="policy").first()
    question = NewApprovalRequest(
        kind=PUBLISH,
        title=f"Publish {version}",
        subject=subject,
        tier=tier_terms(tier.slug if tier else "manager"),
        snapshot={
            "workflow": version.workflow.slug,
            "version": version.number,
            "digest": version.digest,
            "share": share,
            "note": version.note,
            "text": version.text,
            "replaces": live.number if live else None,
        },
        reasons=[
            {
                "rule": "portal:workflow-version",
                "title": "A version needs a second person",
                "reason": "A workflow's version is published by somebody who wrote none of it.",
            }
        ],
        conflicted_users=_writers(version, live),
    )
    return open_request(question, actor=actor)


@command
def publish(version_id: int, *, actor: Actor, share: int = WHOLE) -> WorkflowVersion:
    """Start new runs on this version: all of them, or a share while a guard watches.

    Runs under way finish on theirs. Raises VersionNotADraft, VersionOutOfDate, RolloutUnderWay.
    """
    _ensure_a_share(share)
    version = _locked_draft(version_id)
    ensure_current(version)
    workflow = Workflow.objects.select_for_update().get(pk=version.workflow_id)
    if workflow.rollouts.filter(status=Rollout.Status.RUNNING).exists():
        raise RolloutUnderWay
    version.status = WorkflowVersion.Status.PUBLISHED
    version.published_by = actor.label
    version.published_at = timezone.now()
    version.save(update_fields=["status", "published_by", "published_at"])
    if share < WHOLE and workflow.live_id is not None:
        begin_rollout(workflow, version, share=share)
    else:
        workflow.live = version
        workflow.title = str(version.spec["title"])
        workflow.save(update_fields=["live", "title"])
    record(
        events.VERSION_PUBLISHED,
        actor=actor,
        subject=version,
        number=version.number,
        digest=version.digest,
        share=share,
    )
    return version


def finish_publication(request: ApprovalRequest, actor: Actor) -> None:
    """Apply the decision on a publication."""
    version_id = int(request.subject_id)
    if request.status == ApprovalRequest.Status.APPROVED:
        _locked_draft(version_id)
        _ensure_still_replaces(request)
        spend(request.pk, actor=actor, action=f"publish {request.subject_label}")
        publish(version_id, actor=actor, share=int(request.snapshot["share"]))
        return
    version = WorkflowVersion.objects.select_for_update().get(pk=version_id)
    if version.status != WorkflowVersion.Status.DRAFT:
        return
    version.status = WorkflowVersion.Status.REJECTED
    version.save(update_fields=["status"])
    record(events.VERSION_REJECTED, actor=actor, subject=version, number=version.number)


def _ensure_still_replaces(request: ApprovalRequest) -> None:
    """Raise VersionOutOfDate if new runs start on another version than when it was requested."""
    Workflow.objects.select_for_update().get(slug=request.snapshot["workflow"])
    for outdated in PUBLICATION.outdated([request]).values():
        raise VersionOutOfDate(outdated)


def _live_numbers(requests: Sequence[ApprovalRequest]) -> dict[UUID, int | None]:
    slugs = {request.snapshot["workflow"] for request in requests}
    live = Workflow.objects.filter(slug__in=slugs).values_list("slug", "live__number")
    numbers: dict[str, int | None] = dict(live)
    return {request.pk: numbers[request.snapshot["workflow"]] for request in requests}


PUBLICATION = Publication(
    PUBLISH,
    _live_numbers,
    "New runs start on version {} since this was requested, and the text shown here was compared "
    "with the one before it. Reject this request and draft a new version.",
)


@deciding_command
def retire_version(version_id: int, *, actor: Actor, reason: str) -> WorkflowVersion:
    """Put a published version away. Raises NotFound, VersionInUse while runs are on it.

    Starts are kept out meanwhile: none may begin on it unseen.
    """
    reason = clean_reason(reason)
    version = WorkflowVersion.objects.select_for_update().filter(pk=version_id).first()
    if version is None or version.status != WorkflowVersion.Status.PUBLISHED:
        raise NotFound
    is_live = Workflow.objects.filter(live=version).exists()
    rolled_out = Rollout.objects.filter(candidate=version, status=Rollout.Status.RUNNING)
    under_way = WorkflowRun.objects.unfinished().filter(version=version)
    if is_live or rolled_out.exists() or under_way.exists():
        raise VersionInUse
    version.status = WorkflowVersion.Status.RETIRED
    version.save(update_fields=["status"])
    record(
        events.VERSION_RETIRED, actor=actor, subject=version, number=version.number, reason=reason
    )
    return version


@command
def pause_workflow(workflow_id: int, *, actor: Actor, paused: bool, reason: str) -> Workflow:
    """Start no new run, or start them again. Runs under way go on."""
    reason = clean_reason(reason)
    workflow = Workflow.objects.select_for_update().filter(pk=workflow_id).first()
    if workflow is None:
        raise NotFound
    workflow.paused = paused
    workflow.save(update_fields=["paused"])
    event = events.WORKFLOW_PAUSED if paused else events.WORKFLOW_UNPAUSED
    record(event, actor=actor, subject=workflow, reason=reason)
    return workflow


def _ensure_a_share(share: int) -> None:
    if not 0 < share <= WHOLE:
        message = f"A share is between 1 and {WHOLE:,} of {WHOLE:,} runs."
        raise InvalidInput(message)


def _locked_draft(version_id: int) -> WorkflowVersion:
    versions = WorkflowVersion.objects.select_for_update(of=("self",)).select_related(
        "workflow", "workflow__live"
    )
    version = versions.filter(pk=version_id).first()
    if version is None:
        raise NotFound
    if version.status != WorkflowVersion.Status.DRAFT:
        raise VersionNotADraft
    return version
