from common.actors import Actor
from common.admin.pages import ReasonForm, Shown
from tools.services import defining as services


class WithdrawForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        services.withdraw_tool(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ReinstateForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        services.reinstate_tool(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None
