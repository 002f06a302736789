import difflib
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from common.admin.pages import CommandPage, GovernedAdmin, Link
from common.templatetags.blocks import badge
from workflows import forms, metrics
from workflows.diagrams import graph, in_seconds, in_words
from workflows.models import Rollout, Workflow, WorkflowVersion
from workflows.services.rollouts import record_of
from workflows.spec_cache import spec_of

WRITE = "workflows.add_workflowversion"
CHANGE = "workflows.change_workflow"
TELEMETRY = "admin:workflows_workflow_telemetry"
MAX_SHOWN = 20


@admin.register(Workflow)
class WorkflowAdmin(GovernedAdmin):
    list_display = ("slug", "title", "state", "live_version")
    list_select_related = ("live", "live__workflow")
    list_filter = ("paused",)
    search_fields = ("slug", "title")
    detail_fields = ("slug", "title", "state", "live_version")
    detail_template = "workflows/workflow.html"
    pages = (
        CommandPage(
            "write",
            "Write a workflow",
            forms.WriteVersionForm,
            WRITE,
            explains="The text is checked against the tools as they are now, and becomes a draft. "
            "Somebody else publishes it.",
            on_list=True,
            submit="Check and save as a draft",
            done="The draft is saved. Ask for it to be published.",
        ),
        CommandPage(
            "start",
            "Start a run",
            forms.StartForm,
            "workflows.start_workflowrun",
            done="The run is started.",
            available=lambda workflow: workflow.live_id is not None and not workflow.paused,
        ),
        CommandPage(
            "pause",
            "Pause",
            forms.PauseForm,
            CHANGE,
            explains="No new run is started; runs under way go on.",
            danger=True,
            available=lambda workflow: not workflow.paused,
        ),
        CommandPage(
            "unpause",
            "Start runs again",
            forms.UnpauseForm,
            CHANGE,
            available=lambda workflow: workflow.paused,
        ),
    )

    @admin.display(description="status")
    def state(self, workflow: Workflow) -> SafeString:
        if workflow.paused:
            return badge("suspended", "paused")
        return badge("live") if workflow.live_id else badge("draft", "not published")

    @admin.display(description="live version")
    def live_version(self, workflow: Workflow) -> str:
        return str(workflow.live.number) if workflow.live else "—"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        found: QuerySet[Workflow] = super().get_queryset(request)
        return found.defer("live__text", "live__spec", "live__world")

    def detail(self, request: HttpRequest, obj: Workflow) -> dict[str, Any]:
        [figures] = metrics.of_workflows([obj])
        spec = spec_of(obj.live_id) if obj.live_id else None
        return {
            "title": obj.title,
            "graph": graph(spec) if spec else "",
            "spec": spec,
            "figures": figures,
            "durations": (in_seconds(figures.p50_s), in_seconds(figures.p95_s)),
            "waited": in_seconds(figures.waited_p50_s),
            "versions": obj.versions.light()[:MAX_SHOWN],
            "rollouts": obj.rollouts.select_related("candidate__workflow")[:5],
            "schedules": obj.schedules.all()[:MAX_SHOWN],
            "runs": obj.runs.order_by("-pk").defer("inputs", "output")[:8],
        }

    def links(self, request: HttpRequest, obj: Any) -> list[Link]:
        own = [] if obj else [Link("Telemetry", reverse(TELEMETRY), danger=False)]
        return [*super().links(request, obj), *own]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.telemetry_view)
        own = [path("telemetry/", view, name="workflows_workflow_telemetry")]
        inherited: list[URLPattern] = super().get_urls()
        return own + inherited

    def telemetry_view(self, request: HttpRequest) -> HttpResponse:
        """Tools, endpoints and workflows over the last day."""
        self.ensure_viewable(request)
        context = {
            "title": "Telemetry of the last day",
            "tools": metrics.of_tools(),
            "workflows": metrics.of_workflows(Workflow.objects.all()[:50]),
        }
        return self.shown(request, "workflows/metrics.html", context)


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(GovernedAdmin):
    list_display = ("__str__", "state", "note", "drafted_by", "drafted_at", "published_by")
    list_filter = ("status", "workflow")
    list_select_related = ("workflow",)
    detail_fields = (
        "workflow",
        "number",
        "state",
        "note",
        "drafted_by",
        "drafted_at",
        "published_by",
        "published_at",
        "digest",
    )
    detail_template = "workflows/version.html"
    pages = (
        CommandPage(
            "ask",
            "Ask to publish it",
            forms.RequestVersionForm,
            WRITE,
            explains="Somebody else must approve: a version is never published by its writer. "
            "Runs under way finish on their version.",
            submit="Ask",
            done="Submitted for approval.",
            available=lambda version: version.status == WorkflowVersion.Status.DRAFT,
        ),
        CommandPage(
            "edit",
            "Write the next version from this",
            forms.WriteVersionForm,
            WRITE,
            submit="Check and save as a draft",
            done="The draft is saved. Ask for it to be published.",
        ),
        CommandPage(
            "retire",
            "Retire",
            forms.RetireVersionForm,
            CHANGE,
            explains="Only when no run is on it any more.",
            danger=True,
            available=lambda version: version.status == WorkflowVersion.Status.PUBLISHED,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        versions: QuerySet[WorkflowVersion] = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return versions.defer("text", "spec", "world") if is_list else versions

    @admin.display(description="status")
    def state(self, version: WorkflowVersion) -> SafeString:
        status = "live" if version.status == WorkflowVersion.Status.PUBLISHED else version.status
        return badge(status, version.get_status_display())

    def detail(self, request: HttpRequest, obj: WorkflowVersion) -> dict[str, Any]:
        spec = spec_of(obj.pk)
        former = (
            WorkflowVersion.objects.filter(workflow=obj.workflow, number__lt=obj.number)
            .order_by("-number")
            .first()
        )
        changed = difflib.unified_diff(
            former.text.splitlines() if former else [], obj.text.splitlines(), n=2, lineterm=""
        )
        return {
            "graph": graph(spec),
            "spec": spec,
            "words": [(step.title, in_words(step), step.needs) for step in spec.steps.values()],
            "former": former,
            "changes": [(_tone(line), line) for line in list(changed)[2:]] if former else [],
            "lines": obj.text.splitlines(),
            "tools": [
                {"tool": name, "digest": tool["digest"]}
                for name, tool in sorted(obj.world["tools"].items())
            ],
        }


def _tone(line: str) -> str:
    return {"+": "add", "-": "del"}.get(line[:1], "")


@admin.register(Rollout)
class RolloutAdmin(GovernedAdmin):
    list_display = ("workflow", "candidate_number", "percent", "state", "started_at", "reason")
    list_filter = ("status", "workflow")
    list_select_related = ("workflow", "candidate", "stable")
    detail_fields = (
        "workflow",
        "percent",
        "state",
        "reason",
        "max_failed_percent",
        "max_denied_percent",
        "min_runs",
        "started_at",
        "ended_at",
    )
    detail_template = "workflows/rollout.html"
    pages = (
        CommandPage(
            "share",
            "Change the share",
            forms.ShareForm,
            CHANGE,
            available=lambda rollout: rollout.status == Rollout.Status.RUNNING,
        ),
        CommandPage(
            "complete",
            "Let it take over",
            forms.CompleteForm,
            CHANGE,
            explains="All new runs start on the new version.",
            available=lambda rollout: rollout.status == Rollout.Status.RUNNING,
        ),
        CommandPage(
            "roll_back",
            "Roll back",
            forms.RollBackForm,
            CHANGE,
            explains="New runs start on the former version again.",
            danger=True,
            available=lambda rollout: rollout.status == Rollout.Status.RUNNING,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollout]:
        found: QuerySet[Rollout] = super().get_queryset(request)
        heavy = ("text", "spec", "world")
        return found.defer(*(f"{which}__{f}" for which in ("candidate", "stable") for f in heavy))

    @admin.display(description="new version")
    def candidate_number(self, rollout: Rollout) -> str:
        return f"{rollout.candidate.number} beside {rollout.stable.number}"

    @admin.display(description="share of new runs")
    def percent(self, rollout: Rollout) -> str:
        return f"{rollout.share / 100:g} %"

    @admin.display(description="status")
    def state(self, rollout: Rollout) -> SafeString:
        tones = {"running": "executing", "completed": "completed", "rolled_back": "rejected"}
        return badge(tones[rollout.status], rollout.get_status_display())

    def detail(self, request: HttpRequest, obj: Rollout) -> dict[str, Any]:
        return {
            "title": f"Rollout of {obj.candidate}",
            "sides": [
                (f"Version {obj.candidate.number} (new)", record_of(obj, obj.candidate)),
                (f"Version {obj.stable.number}", record_of(obj, obj.stable)),
            ],
        }
