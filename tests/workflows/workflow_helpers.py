"""Workflows over the toolbox: written, published, started and driven as a worker would."""

from typing import Any
from uuid import uuid4

from django.db.models import Q

from actions.models import Run
from common.actors import SYSTEM, Actor
from tests.factories import Governed
from workflows.models import StepRun, Workflow, WorkflowRun, WorkflowVersion
from workflows.services import runs, sweeper, versions, worker
from workflows.services.runs import Start

SLUG = "work"
HEAD = """\
workflow: {slug}
title: {slug}
schema: 1
roles: [keepers]
"""


def text_of(body: str, slug: str = SLUG) -> str:
    return HEAD.format(slug=slug) + body


def publish(body: str, *, slug: str = SLUG, share: int = 10_000) -> WorkflowVersion:
    version = versions.draft_version(text_of(body, slug), actor=SYSTEM)
    return versions.publish(version.pk, actor=SYSTEM, share=share)


def begin(governed: Governed, inputs: Any = None, *, slug: str = SLUG, **given: Any) -> WorkflowRun:
    """A run started by Tilda, not yet driven."""
    asked = Start(
        workflow=slug,
        inputs=inputs or {},
        key=given.pop("key", str(uuid4())),
        initiator_kind=Run.Initiator.USER,
        initiator=given.pop("initiator", "somebody"),
        **given,
    )
    caller = governed.caller
    actor = Actor("agent", caller.identity.client_id, caller.identity.client_id)
    return runs.start(caller, asked, actor=actor)[0]


def driven(run: WorkflowRun, times: int = 20) -> WorkflowRun:
    """The run after it and the runs within it were driven as long as anything would wake them."""
    for _ in range(times):
        family = Q(pk=run.pk) | Q(parent=run) | Q(parent__parent=run)
        woken = WorkflowRun.objects.filter(family, pk__in=sweeper.to_drive(limit=1_000))
        ids = list(woken.values_list("pk", flat=True))
        if not ids:
            break
        for pk in ids:
            worker.run_until_idle(pk)
    return WorkflowRun.objects.get(pk=run.pk)


def done(governed: Governed, body: str, inputs: Any = None) -> WorkflowRun:
    publish(body)
    return driven(begin(governed, inputs))


def steps(run: WorkflowRun) -> dict[str, str]:
    return dict(StepRun.objects.filter(run_id=run.pk).order_by("id").values_list("path", "status"))


def step(run: WorkflowRun, path: str) -> StepRun:
    return StepRun.objects.get(run_id=run.pk, path=path)


def workflow(slug: str = SLUG) -> Workflow:
    return Workflow.objects.get(slug=slug)
