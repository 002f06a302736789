from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from agents import forms
from agents.models import Finding
from common.admin.pages import CommandPage, KeysetAdmin
from common.templatetags.blocks import badge


class _IsOpen(admin.SimpleListFilter):
    title = "whether it is open"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Finding]) -> QuerySet[Finding]:
        if self.value() is None:
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "yes")


@admin.register(Finding)
class FindingAdmin(KeysetAdmin):
    list_display = ("found_at", "identity", "rule", "about", "answer", "state")
    list_display_links = ("found_at", "rule")
    list_filter = (_IsOpen, "rule", "response")
    list_select_related = ("identity",)
    search_fields = ("=identity__client_id",)
    detail_fields = (
        "identity",
        "rule",
        "about",
        "answer",
        "state",
        "evidence",
        "found_at",
        "resolved_at",
        "resolved_by",
        "resolution",
    )
    pages = (
        CommandPage(
            "resolve",
            "Say what it was",
            forms.ResolveFindingForm,
            "agents.change_finding",
            explains="If nothing else keeps its tokens short, they live their usual time again. An "
            "identity that was suspended is resumed by itself.",
            done="It is resolved.",
            available=lambda finding: finding.resolved_at is None,
        ),
    )

    @admin.display(description="what was done")
    def answer(self, finding: Finding) -> SafeString:
        return badge(finding.response, finding.get_response_display())

    @admin.display(description="status")
    def state(self, finding: Finding) -> SafeString:
        return badge("resolved" if finding.resolved_at else "open")
