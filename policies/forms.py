from typing import Any

from django import forms

from common.actors import Actor
from common.admin.pages import CommandForm, ReasonForm, ShowOnce
from policies.errors import InvalidPolicy
from policies.services import elevations, grants, releases


class _TextForm(CommandForm):
    """A rule's text; what is wrong is listed with its line and marked in the text."""

    text = forms.CharField(
        widget=forms.Textarea(attrs={"class": "code", "rows": 20, "spellcheck": "false"}),
        max_length=20_000,
        label="Rule in Cedar",
    )

    def save_rule(self, slug: str, *, actor: Actor) -> None:
        try:
            releases.save_policy(slug, self.cleaned_data["text"], actor=actor)
        except InvalidPolicy as refusal:
            for problem in refusal.details["problems"]:
                self.add_error("text", f"Line {problem['line']}: {problem['message']}")
            raise

    def numbered(self) -> list[tuple[str, bool]]:
        """The submitted lines, each with whether something is wrong there."""
        wrong = {
            int(str(message).split(":", 1)[0].removeprefix("Line "))
            for message in self.errors.get("text", [])
            if str(message).startswith("Line ")
        }
        lines = str(self.data.get("text", "")).splitlines()
        return [(line, number in wrong) for number, line in enumerate(lines, start=1)]


class WritePolicyForm(_TextForm):
    slug = forms.SlugField(
        max_length=100, label="Rule", help_text="The rule's @id. It cannot be changed later."
    )
    field_order = ("slug", "text")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        self.save_rule(self.cleaned_data["slug"], actor=actor)
        return None


class EditPolicyForm(_TextForm):
    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        initial = {"text": target.text} if target is not None else {}
        super().__init__(*args, target=target, initial=initial, **kwargs)

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        self.save_rule(self.target.slug, actor=actor)
        return None


class SwitchOffForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        releases.switch_policy(
            self.target.pk, actor=actor, enabled=False, reason=self.cleaned_data["reason"]
        )
        return None


class SwitchOnForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        releases.switch_policy(
            self.target.pk, actor=actor, enabled=True, reason=self.cleaned_data["reason"]
        )
        return None


class DraftReleaseForm(CommandForm):
    note = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}), help_text="What changes, and why."
    )

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        releases.draft_release(actor=actor, note=self.cleaned_data["note"])
        return None


class DiscardDraftForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        releases.discard_draft(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class EndElevationForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        elevations.end(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class MarkGrantForm(ReasonForm):
    """A role's grants, each by itself or only by elevation."""

    grant = forms.ChoiceField(label="Grant")
    by_elevation = forms.BooleanField(
        required=False,
        label="Only by elevation",
        help_text="It then gives no authority by itself: people approve each use of it, for a "
        "run and a while.",
    )
    field_order = ("grant", "by_elevation", "reason")

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, target=target, **kwargs)
        field: Any = self.fields["grant"]
        field.choices = [
            (f"{row._meta.model_name}:{row.pk}", f"{grants.access_of(row)} {row.content_object}")
            for row in (grants.of_role(target) if target is not None else ())
        ]

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        named = self.cleaned_data["grant"]
        row = next(
            one
            for one in grants.of_role(self.target)
            if f"{one._meta.model_name}:{one.pk}" == named
        )
        grants.mark(
            self.target,
            row.content_object,
            grants.access_of(row),
            actor=actor,
            by_elevation=self.cleaned_data["by_elevation"],
            reason=self.cleaned_data["reason"],
        )
        return None


class RequestReleaseForm(CommandForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        releases.ask_to_publish(self.target.pk, actor=actor)
        return None
