from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from actions import forms
from actions.admin.timeline import entry_of
from actions.models import Action
from actions.names import agents_called, tools_called
from actions.visible_values import shown_to
from audit.services.access_log import search_words
from common.admin.pages import CommandPage, KeysetAdmin
from common.amounts import amount_text
from common.ids import is_identifier
from common.templatetags.blocks import badge


@admin.register(Action)
class ActionAdmin(KeysetAdmin):
    list_display = ("decided_at", "tool", "agent", "decision", "state", "because")
    list_display_links = ("decided_at", "tool")
    list_filter = ("outcome", "status", "environment")
    search_fields = ("tool",)
    search_help_text = (
        "the name or title of a tool or an agent, an identifier; words of arguments and answers, "
        "with the right to see values"
    )
    detail_fields = (
        "tool",
        "agent",
        "environment",
        "decision",
        "state",
        "tier",
        "release",
        "sum_asked",
        "attempts_count",
        "decided_at",
        "idempotency_key",
        "arguments_digest",
        "id",
    )
    detail_template = "actions/action.html"
    pages = (
        CommandPage(
            "resolve",
            "Record the outcome",
            forms.ResolveForm,
            "actions.resolve_action",
            explains="The call was sent but no response was received. Check the target system and "
            "record whether it took effect; waiting workflow steps then continue.",
            submit="Record outcome",
            done="Outcome recorded.",
            available=lambda action: action.status == Action.Status.UNKNOWN,
        ),
        CommandPage(
            "resolve_many",
            "Settle many unknown calls",
            forms.ResolveManyForm,
            "actions.resolve_action",
            explains="After an outage: the same answer for every call of one tool whose effect is "
            "unknown now. Each is recorded on its own.",
            submit="Record the answers",
            done="Recorded.",
            danger=True,
            on_list=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Action]:
        actions: QuerySet[Action] = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return actions.defer("arguments", "claims", "facts", "result") if is_list else actions

    @admin.display(description="decision")
    def decision(self, action: Action) -> SafeString:
        return badge(action.outcome, action.get_outcome_display())

    @admin.display(description="amount")
    def sum_asked(self, action: Action) -> str:
        return amount_text(action.amount)

    @admin.display(description="status")
    def state(self, action: Action) -> SafeString:
        return badge(action.status, action.get_status_display())

    @admin.display(description="because")
    def because(self, action: Action) -> str:
        return "; ".join(reason["title"] for reason in action.reasons)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Action], search_term: str
    ) -> tuple[QuerySet[Action], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(tool__in=tools_called(term)) | Q(agent__in=agents_called(term))
        named = search_words(term, user=request.user).subjects
        wanted |= Q(pk__in=[key for key in named if is_identifier(key)])
        if is_identifier(term):
            wanted |= Q(pk=term) | Q(run_id=term)
        return queryset.filter(wanted), False

    def detail(self, request: HttpRequest, obj: Action) -> dict[str, Any]:
        shown = shown_to(request.user, obj)
        return {"entry": entry_of(obj), "title": f"{obj.tool} by {obj.agent}", "shown": shown}
