import json
from textwrap import shorten as shortened
from typing import Any

from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse

from audit import forms
from audit.admin.event_search import Explorer
from audit.auditor_scope import scope_of
from audit.event_proof import shield_of
from audit.event_types import title_of
from audit.models import Event
from audit.retention import SENSITIVE_FIELD
from audit.services import access_log, search_index
from common.actors import Actor
from common.admin.pages import CommandPage, KeysetAdmin


@admin.register(Event)
class EventAdmin(KeysetAdmin):
    list_display = ("recorded", "happened", "who", "about", "run")
    list_select_related = ("payload",)
    change_list_template = "audit/explorer.html"
    detail_template = "audit/event.html"
    pages = (
        CommandPage(
            "values",
            "Show the values",
            forms.ViewValuesForm,
            "audit.view_eventpayload",
            explains="Names, reasons and other words: what lies beside the event. That you look at "
            "them is recorded.",
        ),
        CommandPage(
            "sensitive",
            "Show sensitive values",
            forms.ViewSensitiveForm,
            "audit.see_sensitive",
            explains="With what tools declare to be personal or sensitive. That you look at it is "
            "recorded.",
            available=lambda event: SENSITIVE_FIELD in event.payload.disclosures,
        ),
    )

    @admin.display(description="recorded (UTC)")
    def recorded(self, event: Event) -> str:
        return f"{event.recorded_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="who")
    def who(self, event: Event) -> str:
        return event.actor_label

    @admin.display(description="about")
    def about(self, event: Event) -> str:
        return event.subject_label

    @admin.display(description="what happened")
    def happened(self, event: Event) -> str:
        return title_of(event.type)

    @admin.display(description="run")
    def run(self, event: Event) -> str:
        return str(event.run_id)[-12:] if event.run_id else ""

    def get_queryset(self, request: HttpRequest) -> Any:
        found: Any = super().get_queryset(request)
        scope = scope_of(request.user)
        return found if scope is None else scope.of(found)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Explorer

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(
            request, {"behind": search_index.behind(), **(extra_context or {})}
        )
        found = getattr(response, "context_data", {}).get("cl")
        if isinstance(found, Explorer) and found.search and found.has_criteria:
            access_log.note_search(found.search, actor=Actor.from_user(request.user))
        return response

    def detail(self, request: HttpRequest, obj: Event) -> dict[str, Any]:
        beside = sorted({*obj.payload.disclosures, *obj.payload.erased})
        return {
            "details": obj.plain(),
            "beside": [(name, name in obj.payload.erased) for name in beside],
            "shield": shield_of(obj),
            "title": obj.title,
        }


@admin.register(LogEntry)
class ChangeAdmin(KeysetAdmin):
    """django-auditlog's entries, read only."""

    list_display = ("recorded", "what", "which", "who", "changed_fields")
    list_filter = ("action",)
    list_select_related = ("content_type",)
    search_fields = ("=object_pk", "object_repr")
    search_help_text = "the name of a record, or its key"
    detail_template = "audit/change.html"

    @admin.display(description="recorded (UTC)")
    def recorded(self, entry: LogEntry) -> str:
        return f"{entry.timestamp:%Y-%m-%d %H:%M}"

    @admin.display(description="change")
    def what(self, entry: LogEntry) -> str:
        return f"{entry.content_type.name}: {entry.get_action_display()}"

    @admin.display(description="which")
    def which(self, entry: LogEntry) -> str:
        return shortened(str(entry.object_repr), 30, placeholder=" …")

    @admin.display(description="by")
    def who(self, entry: LogEntry) -> str:
        return str((entry.additional_data or {}).get("label", ""))

    @admin.display(description="fields")
    def changed_fields(self, entry: LogEntry) -> str:
        names = list(entry.changes_dict)
        return names[0] if len(names) == 1 else str(len(names))

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
