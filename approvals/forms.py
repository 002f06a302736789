from django import forms

from approvals import services
from approvals.models import Vote
from common.actors import Actor
from common.admin.pages import CommandForm, Shown


class VoteForm(CommandForm):
    answer = forms.ChoiceField(choices=Vote.Answer.choices)
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=2_000,
        help_text="Required. It is recorded with your name and cannot be changed.",
    )

    def perform(self, *, actor: Actor) -> Shown | None:
        services.cast_vote(
            self.target.pk,
            actor=actor,
            answer=Vote.Answer(self.cleaned_data["answer"]),
            reason=self.cleaned_data["reason"],
        )
        return None
