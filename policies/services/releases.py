"""Writing rules, drafting a release of them, and making it live with a second person's consent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from accounts.models import Environment
from agents.models import Agent
from approvals.errors import AlreadyRequested
from approvals.models import ApprovalRequest, Tier
from approvals.publications import Publication
from approvals.services import (
    NewApprovalRequest,
    open_request,
    spend,
    terms_by_slug,
    tier_terms,
    withdraw,
)
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.canonical import composed, digest
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason
from policies import events
from policies.differences import plain
from policies.errors import (
    InvalidPolicy,
    NothingToRelease,
    ReleaseNotADraft,
    ReleaseOutOfDate,
    ReleaseUnchanged,
    UnknownRelease,
)
from policies.models import Policy, PolicyRelease, Role
from policies.names import Known, Name, names_in, unknown_names
from policies.schema import cedar_schema
from policies.services.release_writers import difference_from, writers_of
from policies.slices import parsed_rules
from policies.snapshot import ELEVATED
from policies.validation import PolicyProblem, problems_of
from tools.catalog import catalog
from tools.definitions import ToolSpec

PUBLISH = "policies.publish"
# How often a release is drafted again because rules or tools changed while it was checked.
MAX_TRIES = 3


def callable_specs() -> list[ToolSpec]:
    """The tools that policies can speak of, by name."""
    specs = catalog.current().tools.values()
    return sorted((s for s in specs if not s.serves_facts_only), key=lambda s: s.full_name)


def check(slug: str, text: str) -> list[PolicyProblem]:
    """Return the problems of a rule's text, against the tools and tiers of this moment."""
    schema = cedar_schema(callable_specs())
    return problems_of(
        text, expected_id=slug, schema=schema, tiers=terms_by_slug(), known=known_names()
    )


def known_names() -> Known:
    """Return the names that rules may use at this moment."""
    specs = catalog.current().tools.values()
    return Known(
        agents=frozenset(Agent.objects.values_list("slug", flat=True)),
        roles=frozenset({ELEVATED, *Role.objects.values_list("slug", flat=True)}),
        environments=frozenset(Environment.objects.values_list("slug", flat=True)),
        labels=frozenset(label for spec in specs for label in spec.labels),
    )


def save_policy(slug: str, text: str, *, actor: Actor) -> Policy:
    """Write a rule. It takes effect with the next release. Raises InvalidPolicy.

    The text is read before the transaction: however long that takes, it keeps nobody waiting.
    """
    text = composed(text)  # as the arguments are that it is compared with
    found = check(slug, text)
    if found:
        first = found[0]
        message = f"Line {first.line}: {first.message}"
        raise InvalidPolicy(message, problems=[{"policy": slug, **p.plain()} for p in found])
    return _save(slug, text, actor=actor)


@deciding_command
def _save(slug: str, text: str, *, actor: Actor) -> Policy:
    policy = Policy.objects.select_for_update().filter(slug=slug).first() or Policy(slug=slug)
    policy.text = text
    policy.written_by_id = actor.id
    policy.save()
    record(events.POLICY_SAVED, actor=actor, subject=policy, digest=digest(text))
    return policy


@deciding_command
def switch_policy(policy_id: int, *, actor: Actor, enabled: bool, reason: str) -> Policy:
    """Leave a rule out of the next release, or take it in again."""
    reason = clean_reason(reason)
    policy = Policy.objects.select_for_update().filter(pk=policy_id).first()
    if policy is None:
        raise NotFound
    policy.enabled = enabled
    policy.save(update_fields=["enabled"])
    event = events.POLICY_SWITCHED_ON if enabled else events.POLICY_SWITCHED_OFF
    record(event, actor=actor, subject=policy, reason=reason)
    return policy


@dataclass(frozen=True, slots=True)
class _Content:
    """Contents of a release: its rules by name, the tools, and the tools' schema."""

    rules: Mapping[str, str]
    tools: Mapping[str, str]
    schema: Mapping[str, Any] = field(compare=False)

    @classmethod
    def of_now(cls) -> "_Content":
        specs = callable_specs()
        rules = Policy.objects.filter(enabled=True).values_list("slug", "text")
        tools = {spec.full_name: spec.digest for spec in specs}
        return cls(dict(rules), tools, cedar_schema(specs))


def draft_release(*, actor: Actor, note: str = "") -> PolicyRelease:
    """A release of all enabled rules, checked together against today's tools.

    Raises NothingToRelease, ReleaseUnchanged, InvalidPolicy with every problem of every rule, and
    ReleaseOutOfDate if rules or tools change while they are checked.

    They are checked before the transaction: however long that takes, nobody waits for it. Rules and
    tools are saved and releases drafted one after the other, so every act is in the log either
    before the draft that has it in or after it.
    """
    for _ in range(MAX_TRIES):
        content = _Content.of_now()
        if not content.rules:
            raise NothingToRelease
        _ensure_sound(content.rules, content.schema)
        release = _draft(content, actor=actor, note=note)
        if release is not None:
            return release
    raise ReleaseOutOfDate


@deciding_command
def _draft(content: _Content, *, actor: Actor, note: str) -> PolicyRelease | None:
    """The release of this content; None if it is not that of now any more."""
    if _Content.of_now() != content:
        return None
    schema, tools = dict(content.schema), dict(content.tools)
    text = "\n\n".join(rule.strip() for rule in content.rules.values()) + "\n"
    whole = digest({"text": text, "tools": tools})
    live = PolicyRelease.objects.live().first()
    if live is not None and live.digest == whole:
        raise ReleaseUnchanged
    writers = writers_of(text, tools, live)
    # Two drafts at once would take the same number; the unique constraint lets one through.
    number = (PolicyRelease.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    release = PolicyRelease.objects.create(
        number=number,
        text=text,
        schema=schema,
        tools=tools,
        digest=whole,
        note=note,
        drafted_by=actor.label,
        drafted_by_id=actor.id,
        writers=sorted(writers | ({int(actor.id)} if actor.id.isdigit() else set())),
    )
    record(
        events.RELEASE_DRAFTED,
        actor=actor,
        subject=release,
        number=number,
        digest=release.digest,
    )
    return release


def _ensure_sound(texts: Mapping[str, str], schema: Mapping[str, Any]) -> None:
    """Raises InvalidPolicy with every problem of every rule."""
    tiers, known = terms_by_slug(), known_names()
    problems = [
        {"policy": slug, **problem.plain()}
        for slug, text in texts.items()
        for problem in problems_of(text, expected_id=slug, schema=schema, tiers=tiers, known=known)
    ]
    if problems:
        first = problems[0]
        message = f"{first['policy']}, line {first['line']}: {first['message']}"
        raise InvalidPolicy(message, problems=problems)


def _ensure_names_exist(release: PolicyRelease) -> None:
    """Check that everything the rules name still exists. Raises ReleaseOutOfDate."""
    known = known_names()
    for rule in parsed_rules(release.text):
        gone = unknown_names(rule, known)
        if gone:
            message = (
                f'The rule {rule.id} names the {gone[0].kind} "{gone[0].id}", which there is no '
                "more: it would never apply."
            )
            raise ReleaseOutOfDate(message)


def rules_naming(kind: str, identifier: str) -> list[str]:
    """The rules, as they are edited and as they are live, that name this thing."""
    wanted = Name(kind, identifier)
    live = PolicyRelease.objects.live().first()
    texts = [*Policy.objects.filter(enabled=True).values_list("text", flat=True)]
    rules = [
        rule for text in (*texts, live.text if live else "") if text for rule in parsed_rules(text)
    ]
    return sorted({rule.id for rule in rules if wanted in names_in(rule)})


@command
def ask_to_publish(release_id: int, *, actor: Actor) -> ApprovalRequest:
    """Request approval to make a draft live. Its writers, and users whose act is in its difference
    to the live release, cannot approve.

    Raises ReleaseNotADraft, AlreadyRequested, ReleaseUnchanged.
    """
    release = _locked_draft(release_id)
    tier = Tier.objects.order_by("rank").filter(slug="policy").first()
    live = PolicyRelease.objects.live().first()
    found = difference_from(live, release.text, release.tools)
    if live is not None and live.digest == release.digest:
        raise ReleaseUnchanged
    # The live release may be another one than when it was drafted.
    writers = {*release.writers, *writers_of(release.text, release.tools, live)}
    question = NewApprovalRequest(
        kind=PUBLISH,
        title=f"Make policy release {release.number} live",
        subject=Subject.of(release),
        tier=tier_terms(tier.slug if tier else "manager"),
        snapshot={
            "release": release.number,
            "digest": release.digest,
            "note": release.note,
            "text": release.text,
            "replaces": live.number if live else None,
            "difference": plain(found),
        },
        reasons=[
            {
                "rule": "portal:release",
                "title": "A release needs a second person",
                "reason": "Rules are made live by somebody who wrote none of what changes. "
                "Requests that wait for people, or were approved and not used yet, are decided "
                "again under the new release: people are asked once more where it still asks.",
            }
        ],
        conflicted_users=sorted(writers),
    )
    if ApprovalRequest.objects.pending().about(*subject_of(release)).exists():
        raise AlreadyRequested
    return open_request(question, actor=actor)


@command
def discard_draft(release_id: int, *, actor: Actor, reason: str) -> PolicyRelease:
    """Give a draft up; people are no longer asked about it.

    Raises NoSuchRelease, ReleaseNotADraft, ReasonRequired, and AlreadyRequested if people are asked
    about it at this very moment.
    """
    reason = clean_reason(reason)
    # Requests are locked before what they are about, as where people decide on them.
    asked = ApprovalRequest.objects.pending().filter(kind=PUBLISH, subject_id=str(release_id))
    for request in asked:
        withdraw(request.pk, actor=actor, reason=reason)
    release = _locked_draft(release_id)
    if asked.all().exists():  # between the withdrawal and the lock
        raise AlreadyRequested
    release.status = PolicyRelease.Status.REJECTED
    release.save(update_fields=["status"])
    record(
        events.RELEASE_DISCARDED,
        actor=actor,
        subject=release,
        number=release.number,
        reason=reason,
    )
    return release


@deciding_command
def publish(release_id: int, *, actor: Actor) -> PolicyRelease:
    """Make a draft live and retire the one that was. Decisions follow it from the commit on.

    Raises ReleaseNotADraft, ReleaseOutOfDate if a tool's definition changed since the draft.
    """
    release = _locked_draft(release_id)
    if release.tools != {spec.full_name: spec.digest for spec in callable_specs()}:
        raise ReleaseOutOfDate
    _ensure_names_exist(release)
    now = timezone.now()
    former = PolicyRelease.objects.live().select_for_update().first()
    if former is not None:
        former.status = PolicyRelease.Status.RETIRED
        former.save(update_fields=["status"])
    release.status = PolicyRelease.Status.LIVE
    release.published_by = actor.label
    release.published_at = now
    release.save(update_fields=["status", "published_by", "published_at"])
    record(
        events.RELEASE_PUBLISHED,
        actor=actor,
        subject=release,
        number=release.number,
        digest=release.digest,
        replaces=former.number if former else None,
    )
    return release


def finish_publication(request: ApprovalRequest, actor: Actor) -> None:
    """Apply the decision on a publication."""
    release_id = int(request.subject_id)
    if request.status == ApprovalRequest.Status.APPROVED:
        _locked_draft(release_id)
        _ensure_still_replaces(request)
        spend(request.pk, actor=actor, action=f"publish {request.subject_label}")
        publish(release_id, actor=actor)
        return
    release = PolicyRelease.objects.select_for_update().get(pk=release_id)
    if release.status != PolicyRelease.Status.DRAFT:
        return
    release.status = PolicyRelease.Status.REJECTED
    release.save(update_fields=["status"])
    record(events.RELEASE_REJECTED, actor=actor, subject=release, number=release.number)


def _ensure_still_replaces(request: ApprovalRequest) -> None:
    """Raise ReleaseOutOfDate if another release went live since the request."""
    PolicyRelease.objects.live().select_for_update().first()
    for outdated in PUBLICATION.outdated([request]).values():
        raise ReleaseOutOfDate(outdated)


def _live_numbers(requests: Sequence[ApprovalRequest]) -> dict[UUID, int | None]:
    live = PolicyRelease.objects.live().values_list("number", flat=True).first()
    return {request.pk: live for request in requests}


PUBLICATION = Publication(
    PUBLISH,
    _live_numbers,
    "Release {} has gone live since this was requested, and the difference shown here is to the "
    "one before it. Reject this request and draft a new release.",
)


def subject_of(release: PolicyRelease) -> tuple[str, int]:
    return release._meta.label_lower, release.pk


def _locked_draft(release_id: int) -> PolicyRelease:
    release = PolicyRelease.objects.select_for_update().filter(pk=release_id).first()
    if release is None:
        raise UnknownRelease
    if release.status != PolicyRelease.Status.DRAFT:
        raise ReleaseNotADraft
    return release
