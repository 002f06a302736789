from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from common.admin.pages import CommandPage, GovernedAdmin, KeysetAdmin
from common.templatetags.blocks import badge
from workflows import forms
from workflows.models import Schedule, ScheduleFire
from workflows.services.schedules import upcoming

WRITE = "workflows.add_schedule"


@admin.register(Schedule)
class ScheduleAdmin(GovernedAdmin):
    list_display = ("slug", "workflow", "identity", "cron", "timezone", "state", "next_fire_at")
    list_filter = ("paused", "workflow")
    list_select_related = ("workflow", "identity")
    search_fields = ("slug",)
    detail_fields = (
        "slug",
        "workflow",
        "identity",
        "cron",
        "timezone",
        "state",
        "next_fire_at",
        "catch_up",
        "overlap",
        "inputs",
    )
    detail_template = "workflows/schedule.html"
    pages = (
        CommandPage(
            "write",
            "Add a schedule",
            forms.ScheduleForm,
            WRITE,
            explains="A workflow that starts by itself, as an agent and within its rights.",
            on_list=True,
            submit="Save",
        ),
        CommandPage(
            "edit", "Change", forms.ScheduleForm, "workflows.change_schedule", submit="Save"
        ),
        CommandPage(
            "pause",
            "Pause",
            forms.PauseScheduleForm,
            "workflows.change_schedule",
            danger=True,
            available=lambda schedule: not schedule.paused,
        ),
        CommandPage(
            "unpause",
            "Run again",
            forms.UnpauseScheduleForm,
            "workflows.change_schedule",
            explains="From now on; what was missed stays missed.",
            available=lambda schedule: schedule.paused,
        ),
    )

    @admin.display(description="status")
    def state(self, schedule: Schedule) -> SafeString:
        return badge("suspended", "paused") if schedule.paused else badge("active")

    def detail(self, request: HttpRequest, obj: Schedule) -> dict[str, Any]:
        return {
            "upcoming": [] if obj.paused else upcoming(obj),
            "fires": obj.fires.select_related("run__workflow")[:30],
        }


@admin.register(ScheduleFire)
class ScheduleFireAdmin(KeysetAdmin):
    list_display = ("fire_time", "schedule", "state", "reason", "fired_at")
    list_filter = ("status", "schedule")
    list_select_related = ("schedule",)
    detail_fields = ("schedule", "fire_time", "state", "run", "reason", "fired_at")

    @admin.display(description="status")
    def state(self, fire: ScheduleFire) -> SafeString:
        tones = {"started": "succeeded", "skipped": "withdrawn", "refused": "rejected"}
        return badge(tones[fire.status], fire.get_status_display())
