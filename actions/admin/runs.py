from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from actions.admin.run_chart import MAX_EVENTS, picture
from actions.admin.timeline import MAX_SHOWN, timeline
from actions.models import Run
from actions.names import agents_called
from actions.run_history import run_history
from audit.models import Event
from audit.services.access_log import search_words
from common.admin.pages import KeysetAdmin
from common.amounts import amount_text
from common.ids import is_identifier
from common.templatetags.blocks import badge


@admin.register(Run)
class RunAdmin(KeysetAdmin):
    list_display = ("opened_at", "agent", "purpose", "state", "actions_count", "denials_count")
    list_display_links = ("opened_at", "purpose")
    list_filter = ("status", "environment", "initiator_kind")
    search_fields = ("agent",)
    search_help_text = (
        "the name or title of an agent, a reference, an identifier; words of what was done, with "
        "the right to see values"
    )
    detail_fields = (
        "agent",
        "environment",
        "state",
        "initiator",
        "reference",
        "labels",
        "actions_count",
        "denials_count",
        "sum_spent",
        "budget_actions",
        "budget",
        "opened_at",
        "closed_at",
        "outcome",
        "id",
    )
    detail_template = "actions/run.html"

    @admin.display(description="amount")
    def sum_spent(self, run: Run) -> str:
        return amount_text(run.amount)

    @admin.display(description="budget amount")
    def budget(self, run: Run) -> str:
        return "none" if run.budget_amount is None else amount_text(run.budget_amount)

    @admin.display(description="status")
    def state(self, run: Run) -> SafeString:
        return badge(run.status, run.get_status_display())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(agent__in=agents_called(term)) | Q(reference=term)
        wanted |= Q(pk__in=search_words(term, user=request.user).runs)
        if is_identifier(term):
            wanted |= Q(pk=term)
        return queryset.filter(wanted), False

    def detail(self, request: HttpRequest, obj: Run) -> dict[str, Any]:
        return {
            "timeline": timeline(obj),
            "picture": self._picture(request, obj),
            "title": obj.purpose,
            "max_shown": MAX_SHOWN,
        }

    def _picture(self, request: HttpRequest, run: Run) -> SafeString:
        """From the log alone, and without values: for whoever may see its events."""
        if not request.user.has_perm("audit.view_event"):
            return SafeString()
        events = Event.objects.of_run(run.pk).with_values()[:MAX_EVENTS]
        return picture(run_history(events, with_values=False))
