from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString

from audit import forms
from audit.models import AuditorPass
from common.admin.pages import GovernedAdmin, Page
from common.templatetags.blocks import badge


@admin.register(AuditorPass)
class AuditorPassAdmin(GovernedAdmin):
    list_display = ("person", "state", "ends_at", "of_agents", "since", "until", "granted_by")
    list_select_related = ("person", "granted_by")
    detail_fields = (
        "person", "state", "ends_at", "of_agents", "since", "until", "reason", "granted_by",
        "granted_at", "withdrawn_at",
    )  # fmt: skip
    pages = (
        Page(
            "grant",
            "Give a pass",
            forms.GrantPassForm,
            "audit.grant_pass",
            explains="For auditors from outside: the person sees the log of these agents and this "
            "time, and nothing else of the portal, until the pass ends.",
            done="The pass is given.",
            on_list=True,
        ),
        Page(
            "withdraw",
            "Withdraw",
            forms.WithdrawPassForm,
            "audit.grant_pass",
            explains="From their next click on the person sees nothing more.",
            danger=True,
            available=lambda one: one.withdrawn_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, one: AuditorPass) -> SafeString:
        if one.withdrawn_at is not None:
            return badge("withdrawn")
        return badge("active", "in force") if one.ends_at > timezone.now() else badge("ended")

    @admin.display(description="agents")
    def of_agents(self, one: AuditorPass) -> str:
        return ", ".join(one.agents) or "all"
