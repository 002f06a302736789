from typing import Any

from django import forms

from accounts.factors import Factor
from approvals import services
from approvals.models import Vote
from common.actors import Actor
from common.admin.pages import CommandForm, ReasonForm, ShowOnce


class VoteForm(CommandForm):
    answer = forms.ChoiceField(choices=Vote.Answer.choices)
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=2_000,
        help_text="Required. It is recorded with your name and cannot be changed.",
    )

    # What the person has shown in this session; the page puts it in.
    factor: Factor | None = None

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        services.cast_vote(
            self.target.pk,
            actor=actor,
            answer=Vote.Answer(self.cleaned_data["answer"]),
            reason=self.cleaned_data["reason"],
            factor=self.factor,
        )
        return None


class AskForFactorForm(ReasonForm):
    required = forms.BooleanField(required=False, label="Shown again before each answer")
    field_order = ("required", "reason")

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        known = {"required": target.requires_step_up} if target is not None else {}
        super().__init__(*args, target=target, initial=known, **kwargs)

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        services.set_step_up(
            self.target.slug,
            actor=actor,
            required=self.cleaned_data["required"],
            reason=self.cleaned_data["reason"],
        )
        return None
