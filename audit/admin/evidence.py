from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from audit import forms
from audit.auditor_scope import scope_of
from audit.evidence.bundle import bundle, range_for
from audit.models import Erasure, Export, Hold, RetentionRule, SystemRetention
from audit.retention import CLASSES
from audit.services import exports
from audit.services.retention import days_of
from common.actors import Actor
from common.admin.pages import CommandPage, GovernedAdmin, KeysetAdmin
from common.errors import GovernanceError
from common.templatetags.blocks import badge

_TONES = {"asked": "pending", "approved": "approved", "refused": "rejected"}


class _DualControlAdmin(KeysetAdmin):
    list_select_related = ("asked_by", "decided_by")

    @admin.display(description="status")
    def state(self, one: Any) -> SafeString:
        return badge(_TONES[one.status], one.get_status_display())


@admin.register(Export)
class ExportAdmin(_DualControlAdmin):
    list_display = ("asked_at", "purpose", "asked_by", "decided_by", "state")
    list_display_links = ("asked_at", "purpose")
    list_filter = ("status",)
    detail_template = "audit/export.html"
    detail_fields = (
        "purpose", "state", "asked_by", "asked_at", "decided_by", "decided_at", "decision",
        "runs", "agents", "since", "until", "with_values", "with_sensitive",
    )  # fmt: skip
    pages = (
        CommandPage(
            "ask",
            "Request evidence export",
            forms.AskExportForm,
            "audit.ask_export",
            explains="Another person approves it. Then you take away an archive that verifies "
            "offline; what was not asked for is in it as hashes alone.",
            done="Awaiting second approval.",
            on_list=True,
        ),
        CommandPage(
            "approve",
            "Approve",
            forms.ApproveExportForm,
            "audit.approve_export",
            explains="The requester can download the evidence for seven days.",
            done="It is approved.",
            available=lambda one: one.is_asked,
        ),
        CommandPage(
            "refuse",
            "Refuse",
            forms.RefuseExportForm,
            "audit.approve_export",
            done="It is refused.",
            danger=True,
            available=lambda one: one.is_asked,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        found: Any = super().get_queryset(request)
        return found if scope_of(request.user) is None else found.filter(asked_by=request.user.pk)

    def detail(self, request: HttpRequest, obj: Export) -> dict[str, Any]:
        may = obj.asked_by_id == request.user.pk and obj.may_be_taken(timezone.now())
        return {"may_be_taken": may}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.taken))
        own = path("<uuid:export_id>/bundle.zip", view, name="audit_export_bundle")
        return [own, *super().get_urls()]

    def taken(self, request: HttpRequest, export_id: Any) -> HttpResponse | StreamingHttpResponse:
        """The archive, sent while it is made."""
        if not request.user.has_perm("audit.ask_export"):
            raise PermissionDenied
        export = self.detail_object(request, str(export_id))
        try:
            of = range_for(export)
            exports.take(
                export.pk,
                actor=Actor.from_user(request.user),
                start=of.start,
                end=of.end,
                size=of.checkpoint.size,
            )
        except GovernanceError as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(self.object_url(export))
        response = StreamingHttpResponse(bundle(export, of), content_type="application/zip")
        response["Content-Disposition"] = f'attachment; filename="evidence-{export.pk}.zip"'
        return response


@admin.register(Erasure)
class ErasureAdmin(_DualControlAdmin):
    list_display = ("asked_at", "what", "asked_by", "decided_by", "state", "events_count")
    list_display_links = ("asked_at", "what")
    list_filter = ("status",)
    detail_fields = (
        "what", "fields", "basis", "purpose", "state", "asked_by", "asked_at", "decided_by",
        "decided_at", "decision", "events_count",
    )  # fmt: skip
    pages = (
        CommandPage(
            "ask",
            "Request erasure",
            forms.AskErasureForm,
            "audit.ask_erasure",
            explains="Values go, with their salts: events and proofs stay, and say who erased. "
            "What others wrote of a person in words has to be named by its event.",
            done="Awaiting second approval.",
            on_list=True,
        ),
        CommandPage(
            "approve",
            "Approve and erase",
            forms.ApproveErasureForm,
            "audit.approve_erasure",
            explains="The values are gone at once. Copies in backups stay until those are "
            "overwritten.",
            done="The values are erased.",
            danger=True,
            available=lambda one: one.is_asked,
        ),
        CommandPage(
            "refuse",
            "Refuse",
            forms.RefuseErasureForm,
            "audit.approve_erasure",
            done="It is refused.",
            available=lambda one: one.is_asked,
        ),
    )

    @admin.display(description="what")
    def what(self, one: Erasure) -> str:
        return str(one)


@admin.register(Hold)
class HoldAdmin(KeysetAdmin):
    list_display = ("placed_at", "reason", "covers", "placed_by", "state")
    list_display_links = ("placed_at", "reason")
    list_select_related = ("placed_by",)
    detail_fields = (
        "reason", "covers", "state", "placed_by", "placed_at", "released_by", "released_at",
    )  # fmt: skip
    pages = (
        CommandPage(
            "place",
            "Place a hold",
            forms.PlaceHoldForm,
            "audit.place_hold",
            explains="What it covers is neither erased nor removed in time until it is released.",
            done="The hold is in force.",
            on_list=True,
        ),
        CommandPage(
            "release",
            "Release it",
            forms.ReleaseHoldForm,
            "audit.place_hold",
            done="The hold is released.",
            danger=True,
            available=lambda hold: hold.released_at is None,
        ),
    )

    @admin.display(description="covers")
    def covers(self, hold: Hold) -> str:
        parts = [
            f"run {hold.run_id}" if hold.run_id else "",
            f"agent {hold.agent}" if hold.agent else "",
            f"from {hold.since:%d %b %Y %H:%M}" if hold.since else "",
            f"until {hold.until:%d %b %Y %H:%M}" if hold.until else "",
        ]
        return ", ".join(filter(None, parts)) or "everything"

    @admin.display(description="status")
    def state(self, hold: Hold) -> SafeString:
        return badge("resolved", "released") if hold.released_at else badge("open", "in force")


@admin.register(RetentionRule)
class RetentionRuleAdmin(GovernedAdmin):
    list_display = ("kind", "days")
    detail_fields = ("kind", "days")
    change_list_template = "audit/retention.html"
    pages = (
        CommandPage(
            "set",
            "Set how long values are kept",
            forms.SetRetentionForm,
            "audit.set_retention",
            explains="Leaves and proofs stay. Holds come before it. Half a year is the least.",
            done="It is set.",
            on_list=True,
        ),
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        classes = [(one.title, days_of(kind), one.days) for kind, one in CLASSES.items()]
        context = {"classes": classes, "systems": SystemRetention.objects.all()}
        return super().changelist_view(request, {**context, **(extra_context or {})})
