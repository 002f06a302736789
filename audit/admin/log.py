from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from audit.models import Checkpoint, Quarantine, SinkState, WitnessState
from audit.proofs import as_text
from common.admin.pages import GovernedAdmin, KeysetAdmin
from common.templatetags.blocks import badge


@admin.register(Checkpoint)
class CheckpointAdmin(KeysetAdmin):
    list_display = ("signed_at", "events_count", "root_shown", "witnessed")
    list_display_links = ("signed_at", "events_count")
    list_select_related = ("key",)
    detail_fields = ("events_count", "whole_root", "signed_at", "key")
    detail_template = "audit/checkpoint.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("cosignatures")

    @admin.display(description="events")
    def events_count(self, one: Checkpoint) -> str:
        return f"{one.size:,}"

    @admin.display(description="root")
    def root_shown(self, one: Checkpoint) -> str:
        return bytes(one.root).hex()[:16] + "…"

    @admin.display(description="root")
    def whole_root(self, one: Checkpoint) -> str:
        return bytes(one.root).hex()

    @admin.display(description="witnesses")
    def witnessed(self, one: Checkpoint) -> str:
        return ", ".join(sorted(cosigned.witness for cosigned in one.cosignatures.all()))

    def detail(self, request: HttpRequest, obj: Checkpoint) -> dict[str, Any]:
        return {"note": as_text(obj), "cosignatures": obj.cosignatures.order_by("witness")}


@admin.register(Quarantine)
class QuarantineAdmin(KeysetAdmin):
    list_display = ("found_at", "event", "reason")
    list_select_related = ("event",)
    detail_fields = ("event", "reason", "found_at")


@admin.register(SinkState)
class SinkStateAdmin(GovernedAdmin):
    list_display = ("name", "state", "next_seq", "delivered_at")
    detail_fields = ("name", "state", "next_seq", "delivered_at", "trouble", "since")

    @admin.display(description="status")
    def state(self, one: SinkState) -> SafeString:
        return badge("failed", one.trouble) if one.trouble else badge("active", "takes")


@admin.register(WitnessState)
class WitnessStateAdmin(GovernedAdmin):
    list_display = ("name", "state", "size", "signed_at")
    detail_fields = ("name", "state", "size", "signed_at", "trouble", "since")

    @admin.display(description="status")
    def state(self, one: WitnessState) -> SafeString:
        return badge("failed", one.trouble) if one.trouble else badge("active", "signs")
