import json
from typing import Any

from auditlog.models import LogEntry
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts.models import User
from audit import forms
from audit.models import Event, EventPayload
from audit.shield import shield_of
from audit.vocabulary import declared, title_of
from common.admin.pages import EndlessAdmin, Page
from common.ids import is_identifier

MAX_NAMED = 1_000


def persons(name: str) -> list[str]:
    """People are in the log by their keys; by name they are found among the people."""
    return [str(pk) for pk in User.objects.filter(username=name).values_list("pk", flat=True)]


class TypeFilter(admin.SimpleListFilter):
    """Types come from the code that declares them, not from a scan of the log."""

    title = "what happened"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted((name, kind.title) for name, kind in declared().items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(EndlessAdmin):
    list_display = ("recorded_at", "happened", "actor_label", "subject_label", "run")
    list_filter = (TypeFilter, "actor_kind")
    list_select_related = ("payload",)
    search_fields = ("actor_id",)
    search_help_text = "Exactly: a type, an actor, the identifier of a subject, or a run"
    detail_template = "audit/event.html"
    pages = (
        Page(
            "values",
            "Show the values",
            forms.ViewValuesForm,
            "audit.view_eventpayload",
            explains="Names, reasons and other words: what lies beside the event. That you look at "
            "them is recorded.",
        ),
    )

    @admin.display(description="what happened")
    def happened(self, event: Event) -> str:
        return title_of(event.type)

    @admin.display(description="run")
    def run(self, event: Event) -> str:
        return str(event.run_id)[-12:] if event.run_id else ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """By equality on indexed columns: a search through text would read the whole log."""
        term = search_term.strip()
        if not term:
            return queryset, False
        named = EventPayload.objects.filter(subject_label=term).values_list("pk", flat=True)
        wanted = Q(type=term) | Q(subject_id=term) | Q(uid__in=list(named[:MAX_NAMED]))
        wanted |= Q(actor_id=term) | Q(actor_id__in=persons(term))
        if is_identifier(term):
            wanted |= Q(run_id=term)
        return queryset.filter(wanted), False

    def detail(self, request: HttpRequest, obj: Event) -> dict[str, Any]:
        beside = sorted({*obj.payload.disclosures, *obj.payload.erased})
        return {
            "details": obj.plain(),
            "beside": [(name, name in obj.payload.erased) for name in beside],
            "shield": shield_of(obj),
            "title": obj.title,
        }


@admin.register(LogEntry)
class ChangeAdmin(EndlessAdmin):
    """django-auditlog's entries, read only."""

    list_display = ("timestamp", "what", "object_repr", "who", "changed_fields")
    list_filter = ("action",)
    list_select_related = ("content_type",)
    search_fields = ("=object_pk",)
    search_help_text = "The key of a record"
    detail_template = "audit/change.html"

    @admin.display(description="change")
    def what(self, entry: LogEntry) -> str:
        return f"{entry.content_type.name}: {entry.get_action_display()}"

    @admin.display(description="by")
    def who(self, entry: LogEntry) -> str:
        return str((entry.additional_data or {}).get("label", ""))

    @admin.display(description="fields")
    def changed_fields(self, entry: LogEntry) -> str:
        return ", ".join(entry.changes_dict)

    def detail(self, request: HttpRequest, obj: LogEntry) -> dict[str, Any]:
        changes = [
            {"field": name, "from": _text(change, 0), "to": _text(change, 1)}
            for name, change in obj.changes_dict.items()
        ]
        return {"changes": changes, "who": self.who(obj), "title": self.what(obj)}


def _text(change: Any, place: int) -> str:
    if isinstance(change, dict):
        return ", ".join(map(str, change.get("objects", []))) if place else change["operation"]
    value = change[place]
    return value if isinstance(value, str) else json.dumps(value)
