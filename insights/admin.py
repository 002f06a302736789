"""The reports as pages of the admin: to look at, and to print."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.auditor_scope import scope_of
from audit.controls import controls
from audit.services import access_log
from common.actors import Actor
from insights.event_data import MAX_EVENTS, facts_of, types_like
from insights.forms import PeriodForm
from insights.reports import REPORTS

PERMISSION = "audit.view_event"


def reports(request: HttpRequest) -> HttpResponse:
    """All of them, with what each supports."""
    _ensure_allowed(request)
    found = [one for one in controls() if one["report"] in REPORTS]
    return _shown(request, "insights/reports.html", {"title": "Reports", "reports": found})


def report(request: HttpRequest, number: str) -> HttpResponse:
    """One report over a period; that it was looked at is recorded."""
    _ensure_allowed(request)
    control = next((one for one in controls() if one["report"] == number), None)
    if control is None or number not in REPORTS:
        raise Http404
    period = PeriodForm(request.GET).period()
    form = PeriodForm(request.GET or PeriodForm.saying(period))
    facts = facts_of(period, control["events"])
    content = REPORTS[number](facts)
    access_log.note_report(
        number,
        actor=Actor.from_user(request.user),
        since=period.since.isoformat(),
        until=period.until.isoformat(),
    )
    context = {
        "title": f"{number} {control['title']}",
        "control": control,
        "number": number,
        "form": form,
        "period": period,
        "content": content,
        "read": len(facts.rows),
        "left_out": facts.left_out,
        "max_events": MAX_EVENTS,
        "types": types_like(control["events"]),
    }
    return _shown(request, "insights/report.html", context)


def _ensure_allowed(request: HttpRequest) -> None:
    """Raises PermissionDenied."""
    # Reports count everything: a pass for some of it does not open them.
    if not request.user.has_perm(PERMISSION) or scope_of(request.user) is not None:
        raise PermissionDenied


def _shown(request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
