from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from actions.models import Attempt
from actions.names import agents_called
from audit.permissions import SEE_SENSITIVE
from audit.services.access_log import search_words
from common.admin.pages import CommandPage, KeysetAdmin
from common.ids import is_identifier
from common.templatetags.blocks import badge
from tools.data_classes import set_apart
from workflows import forms
from workflows.definitions.spec import WorkflowSpec
from workflows.diagrams import Bar, Lane, Mark, graph, in_seconds, in_short, timeline, tone_of
from workflows.models import StepRun, WorkflowRun
from workflows.run_state import forward_path
from workflows.spec_cache import data_class_of, spec_of

OPERATE = "workflows.operate_workflowrun"
MAX_LANES = 60
STUCK_AFTER = timedelta(hours=1)


class AttentionFilter(SimpleListFilter):
    """A filter for runs that need a person."""

    title = "attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("unknown", "effect unknown"),
            ("halted", "halted, or could not be undone"),
            ("waiting", "waiting"),
            ("stuck", "overdue"),
            ("partial", "partly done, then failed"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> QuerySet[WorkflowRun]:
        overdue = timezone.now() - STUCK_AFTER
        wanted = {
            "unknown": Q(unknown_count__gt=0),
            "halted": Q(status__in=["halted", "compensation_failed"]),
            "waiting": Q(status="waiting"),
            "stuck": Q(next_wake_at__lte=overdue),
            "partial": Q(is_partial=True),
        }.get(str(self.value()))
        return queryset.filter(wanted) if wanted is not None else queryset


def _is(*statuses: str) -> Any:
    return lambda run: run.status in statuses


@admin.register(WorkflowRun)
class WorkflowRunAdmin(KeysetAdmin):
    list_display = ("started_at", "workflow", "agent", "state", "note")
    list_display_links = ("started_at", "workflow")
    list_filter = (AttentionFilter, "status", "workflow")
    list_select_related = ("workflow", "run")
    search_fields = ("=pk",)
    search_help_text = (
        "the name or title of an agent, a workflow, an identifier; words of what was done, with "
        "the right to see values"
    )
    detail_template = "workflows/run.html"
    pages = (
        CommandPage(
            "resume",
            "Go on from here",
            forms.ResumeForm,
            OPERATE,
            explains="What succeeded is not done again. What did not is decided and done anew; a "
            "halt that is in force still halts.",
            available=_is("halted", "failed", "compensation_failed"),
        ),
        CommandPage(
            "undo",
            "Undo it",
            forms.UndoForm,
            OPERATE,
            explains="Takes back what can be taken back, the last first. Each call is decided and "
            "recorded like any other.",
            danger=True,
            available=_is(
                "succeeded", "failed", "halted", "cancelled", "waiting", "compensation_failed"
            ),
        ),
        CommandPage(
            "cancel",
            "Cancel",
            forms.CancelForm,
            OPERATE,
            explains="Ends the run where it is. Nothing is undone.",
            danger=True,
            available=_is("running", "waiting", "halted", "compensating", "compensation_failed"),
        ),
        CommandPage(
            "signal",
            "Send a signal",
            forms.SignalForm,
            OPERATE,
            explains="Says to the run that something has happened outside.",
            available=_is("running", "waiting"),
        ),
    )

    @admin.display(description="agent")
    def agent(self, run: WorkflowRun) -> str:
        return run.run.agent

    @admin.display(description="status")
    def state(self, run: WorkflowRun) -> SafeString:
        return badge(run.status, run.get_status_display())

    @admin.display(description="note")
    def note(self, run: WorkflowRun) -> SafeString | str:
        if run.unknown_count:
            return badge("unknown", f"effect of {run.unknown_count} unknown")
        if run.is_partial:
            return badge("expired", "failed partly done")
        return Truncator(run.reason).chars(70) or "—"

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowRun]:
        runs: QuerySet[WorkflowRun] = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return runs.defer("inputs", "output") if is_list else runs

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], search_term: str
    ) -> tuple[QuerySet[WorkflowRun], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(run__agent__in=agents_called(term)) | Q(workflow__slug=term)
        wanted |= Q(run__in=search_words(term, user=request.user).runs)
        if is_identifier(term):
            wanted |= Q(pk=term) | Q(parent_id=term)
        return queryset.filter(wanted), False

    def detail(self, request: HttpRequest, obj: WorkflowRun) -> dict[str, Any]:
        spec = spec_of(obj.version_id)
        inputs, output = _shown_to(request.user, obj, spec)
        steps = list(obj.steps.order_by("pk")[:500])
        end = obj.ended_at or timezone.now()
        lanes = lanes_of(steps[:MAX_LANES], end)
        return {
            "title": spec.title,
            "inputs": inputs,
            "output": output,
            "graph": graph(spec, marks_of(steps)),
            "lanes": timeline("When each step was at work", lanes, begin=obj.started_at, end=end)
            if lanes
            else "",
            "steps": [
                (step, in_short(spec.step(forward_path(step.path))), _took(step)) for step in steps
            ],
            "signals": obj.signals.all()[:50],
            "children": obj.children.select_related("workflow").defer("inputs", "output")[:50],
            "took": in_seconds((end - obj.started_at).total_seconds()),
            "is_over": obj.is_ended,
        }


def _shown_to(user: Any, run: WorkflowRun, spec: WorkflowSpec) -> tuple[Any, Any]:
    """Return inputs and output, with the class in place of what the person may not see: what the
    log keeps apart of them.
    """
    if user.has_perm(SEE_SENSITIVE):
        return run.inputs, run.output
    above = data_class_of(spec, parent=run.parent_id) if run.parent_id is not None else ""
    inputs = f"[{above}]" if above else set_apart(run.inputs, spec.inputs_schema)[0]
    made = data_class_of(spec, parent=run.parent_id, run=run.pk)
    return inputs, f"[{made}]" if made and run.output is not None else run.output


def marks_of(steps: Sequence[StepRun]) -> dict[str, Mark]:
    return {step.path: Mark(step.status, _note(step)) for step in steps if not step.scope}


def _note(step: StepRun) -> str:
    if step.status == StepRun.Status.WAITING and step.total:
        return f"{step.done + step.failures} of {step.total}"
    if step.status == StepRun.Status.WAITING:
        return f"waits for {step.get_waiting_for_display()}"
    if step.error and step.status not in {"succeeded", "skipped"}:
        return step.error
    return step.get_status_display() if step.status != "succeeded" else ""


def _took(step: StepRun) -> str:
    end = step.ended_at
    return in_seconds((end - step.started_at).total_seconds()) if end else "—"


def lanes_of(steps: Sequence[StepRun], now: datetime) -> list[Lane]:
    """A lane per step with its tries; one query for all."""
    tries: dict[Any, list[Attempt]] = {}
    actions = [step.action_id for step in steps if step.action_id]
    for attempt in Attempt.objects.filter(action_id__in=actions).order_by("number"):
        tries.setdefault(attempt.action_id, []).append(attempt)
    lanes = []
    for step in steps:
        end = step.ended_at or now
        says = f"{step.path}: {step.get_status_display()}, {_took(step)}"
        bars = [Bar(step.started_at, end, tone_of(step.status), says)]
        bars += [_bar(attempt, now) for attempt in tries.get(step.action_id, [])]
        lanes.append(Lane(step.path, step.status, bars))
    return lanes


_TRY_TONES = {"succeeded": "good", "failed": "bad", "started": "wait"}


def _bar(attempt: Attempt, now: datetime) -> Bar:
    says = f"try {attempt.number}: {attempt.get_status_display()} {attempt.error}".strip()
    tone = _TRY_TONES.get(attempt.status, "doubt")
    return Bar(attempt.started_at, attempt.ended_at or now, tone, says, is_try=True)
