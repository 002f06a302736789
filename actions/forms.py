from typing import Any

from django import forms

from actions.services import recovery
from actions.services.recovery import Resolution
from common.actors import Actor
from common.admin.fields import JSONTextField
from common.admin.pages import CommandForm, ShowOnce

ANSWERS = (
    (Resolution.TOOK_EFFECT.value, "It took effect"),
    (Resolution.FAILED.value, "It did not take effect"),
    (Resolution.AGAIN.value, "Try it again, with the same key"),
)


class ResolveForm(CommandForm):
    answer = forms.ChoiceField(choices=ANSWERS, widget=forms.RadioSelect)
    result = JSONTextField(
        required=False,
        help_text="What it brought, as JSON, if it took effect and later steps need it.",
    )
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=2_000,
        help_text="How you know. Recorded in the audit log with your name.",
    )

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        recovery.resolve_unknown(
            self.target.pk,
            actor=actor,
            answer=Resolution(self.cleaned_data["answer"]),
            reason=self.cleaned_data["reason"],
            result=self.cleaned_data["result"],
        )
        return None


class ResolveManyForm(CommandForm):
    tool = forms.ChoiceField(help_text="Tools that have calls of unknown effect now.")
    answer = forms.ChoiceField(choices=ANSWERS, widget=forms.RadioSelect)
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=2_000,
        help_text="How you know, for all of them. Recorded with your name for each.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found = recovery.unknown_by_tool()
        choices = [(f"{t}|{e}", f"{t} in {e}: {n} calls") for t, e, n in found]
        self.fields["tool"] = forms.ChoiceField(choices=choices, help_text="")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        tool, _, environment = self.cleaned_data["tool"].partition("|")
        recovery.resolve_many(
            tool,
            environment,
            actor=actor,
            answer=Resolution(self.cleaned_data["answer"]),
            reason=self.cleaned_data["reason"],
        )
        return None
