from django import forms

from common.actors import Actor
from common.admin.pages import CommandForm, Created, ReasonForm, ShowOnce
from tools.models import Secret
from tools.services import registration as services
from tools.services import secrets


class WithdrawForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        services.withdraw_tool(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ReinstateForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        services.reinstate_tool(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SecretValueForm(CommandForm):
    """Write-only: what is typed is never shown again, not even when something else is wrong."""

    secret = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
        help_text="Goes in and never comes out: not here, not in the log, not to an agent.",
    )


class AddSecretForm(SecretValueForm):
    name = forms.SlugField(max_length=64)
    placement = forms.ChoiceField(choices=Secret.Placement.choices, label="Sent as")
    parameter = forms.CharField(
        required=False, max_length=100, help_text="Of the header or the address parameter."
    )
    begins_with = forms.CharField(
        required=False, max_length=32, help_text="What the header's value begins with: Bearer."
    )
    username = forms.CharField(required=False, max_length=200, help_text="With a password only.")
    field_order = ("name", "placement", "parameter", "begins_with", "username", "secret")

    def perform(self, *, actor: Actor) -> Created:
        given = self.cleaned_data
        return Created(
            secrets.add_secret(
                self.target.pk,
                actor=actor,
                name=given["name"],
                placement=Secret.Placement(given["placement"]),
                value=given["secret"],
                parameter=given["parameter"],
                prefix=given["begins_with"],
                username=given["username"],
            )
        )


class RotateSecretForm(SecretValueForm, ReasonForm):
    field_order = ("secret", "reason")

    def perform(self, *, actor: Actor) -> None:
        secrets.rotate_secret(
            self.target.pk,
            actor=actor,
            value=self.cleaned_data["secret"],
            reason=self.cleaned_data["reason"],
        )


class WithdrawSecretForm(ReasonForm):
    def perform(self, *, actor: Actor) -> None:
        secrets.withdraw_secret(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
