"""The halt page. Halts are an agent matter; what they reach is known on this floor."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from actions import halt_impact
from agents import forms
from agents.models import Halt
from approvals.models import ApprovalRequest
from common.admin.pages import CommandPage, GovernedAdmin
from common.templatetags.blocks import badge


@admin.register(Halt)
class HaltAdmin(GovernedAdmin):
    list_display = ("__str__", "state", "reason", "placed_by", "placed_at", "lifted_at")
    list_filter = ("kind",)
    detail_fields = (
        "kind",
        "target",
        "state",
        "reason",
        "placed_by",
        "placed_at",
        "lifted_by",
        "lifted_at",
    )
    detail_template = "actions/halt.html"
    pages = (
        CommandPage(
            "stop",
            "Stop something now",
            forms.StopForm,
            "agents.add_halt",
            explains="From the moment this is recorded, nothing it covers is decided as allowed, "
            "and calls on their way are cut off.",
            danger=True,
            on_list=True,
            done="The halt is in force.",
            template="actions/stop.html",
        ),
        CommandPage(
            "place",
            "Name what to stop",
            forms.PlaceHaltForm,
            "agents.add_halt",
            explains="For a tool, or for what is not busy now.",
            danger=True,
            on_list=True,
            done="The halt is in force.",
        ),
        CommandPage(
            "lift",
            "Lift",
            forms.LiftHaltForm,
            "agents.change_halt",
            explains="What was halted may act again. The halt of everything, and it alone, is "
            "lifted by two people: for that a second person is asked.",
            done="The halt is lifted.",
            available=lambda halt: halt.lifted_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, halt: Halt) -> SafeString:
        return badge("lifted" if halt.lifted_at else "in force")

    def page_context(self, request: HttpRequest, page: CommandPage, target: Any) -> dict[str, Any]:
        return {"stoppable": halt_impact.halt_targets()} if page.name == "stop" else {}

    def detail(self, request: HttpRequest, obj: Halt) -> dict[str, Any]:
        met = halt_impact.in_flight_at(obj)
        return {
            "met": met,
            "outcomes": sorted(halt_impact.outcomes(met).items()),
            "took": halt_impact.seconds_to_stop(obj, met),
            "asked": ApprovalRequest.objects.pending().about("agents.halt", obj.pk).first(),
        }
