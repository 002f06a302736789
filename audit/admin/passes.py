from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString

from audit import forms
from audit.models import AuditorPass
from common.admin.pages import CommandPage, GovernedAdmin
from common.templatetags.blocks import badge


def _is_over(one: AuditorPass) -> bool:
    return one.restored_at is None and not one.is_in_force(timezone.now())


@admin.register(AuditorPass)
class AuditorPassAdmin(GovernedAdmin):
    list_display = ("person", "state", "ends_at", "of_agents", "since", "until", "granted_by")
    list_select_related = ("person", "granted_by")
    detail_fields = (
        "person", "state", "ends_at", "of_agents", "since", "until", "reason", "granted_by",
        "granted_at", "withdrawn_at", "restored_at",
    )  # fmt: skip
    pages = (
        CommandPage(
            "grant",
            "Give a pass",
            forms.GrantPassForm,
            "audit.grant_pass",
            explains="For auditors from outside. The person sees the log of these agents and this "
            "time, and nothing else of the portal, until the pass ends. The rights of their own "
            "account do not count from now on, and stay so when the pass has ended, until "
            "somebody restores them on the pass's page. So give none to a colleague who is to "
            "keep looking at everything.",
            done="The pass is given.",
            on_list=True,
        ),
        CommandPage(
            "withdraw",
            "Withdraw",
            forms.WithdrawPassForm,
            "audit.grant_pass",
            explains="Takes effect on the auditor's next request, whatever rights their own "
            "account has. You can restore those afterwards.",
            done="The pass is withdrawn. The person sees nothing until their rights are restored.",
            danger=True,
            available=lambda one: one.withdrawn_at is None,
        ),
        CommandPage(
            "restore",
            "Restore the rights of their account",
            forms.RestoreRightsForm,
            "audit.grant_pass",
            explains="The pass has ended. The person gets back what the groups and rights of "
            "their own account let them see and do.",
            done="The rights of their own account count again.",
            available=_is_over,
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
