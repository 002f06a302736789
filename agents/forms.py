from django import forms
from django.contrib.auth import get_user_model

from accounts.models import Environment, User
from agents.models import Agent, Halt
from agents.services import certifying, enrolment, halts, lifecycle, sponsors
from common.actors import Actor
from common.admin.pages import CommandForm, Made, ReasonForm, Shown


def _people() -> "forms.ModelChoiceField[User]":
    return forms.ModelChoiceField(get_user_model().objects.filter(is_active=True))


class RegisterAgentForm(CommandForm):
    slug = forms.SlugField(max_length=64, help_text="Its name in policies; it stays.")
    title = forms.CharField(max_length=100)
    purpose = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}))
    risk = forms.ChoiceField(choices=Agent.Risk.choices)
    owner = _people()
    sponsor = _people()

    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.register_agent(
            self.cleaned_data["slug"],
            actor=actor,
            title=self.cleaned_data["title"],
            purpose=self.cleaned_data["purpose"],
            owner=self.cleaned_data["owner"],
            sponsor=self.cleaned_data["sponsor"],
            risk=Agent.Risk(self.cleaned_data["risk"]),
        )
        return None


class ActivateForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.activate(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SuspendForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.suspend(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class RetireForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.retire(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class CertifyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        certifying.certify(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ChangeSponsorForm(ReasonForm):
    sponsor = _people()
    field_order = ("sponsor", "reason")

    def perform(self, *, actor: Actor) -> Shown | None:
        sponsors.change_sponsor(
            self.target.pk,
            actor=actor,
            sponsor=self.cleaned_data["sponsor"],
            reason=self.cleaned_data["reason"],
        )
        return None


class AddIdentityForm(CommandForm):
    environment = forms.ModelChoiceField(Environment.objects.all())

    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.create_identity(
            self.target.pk, actor=actor, environment=self.cleaned_data["environment"]
        )
        return None


class IssueCodeForm(CommandForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        code = enrolment.issue_enrolment_code(self.target.pk, actor=actor)
        minutes = int(enrolment.CODE_LIFETIME.total_seconds() // 60)
        context = {
            "title": "Enrolment code",
            "code": code,
            "minutes": minutes,
            "object": self.target,
        }
        return Shown("agents/enrolment_code.html", context)


class RevokeKeyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        enrolment.revoke_key(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SuspendIdentityForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.suspend_identity(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ResumeIdentityForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        lifecycle.resume_identity(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class StopForm(ReasonForm):
    """A reason, and the button of what to stop."""

    stop = forms.CharField(widget=forms.HiddenInput, error_messages={"required": "Say what."})

    def clean_stop(self) -> tuple[Halt.Kind, str]:
        kind, _, target = self.cleaned_data["stop"].partition(":")
        if kind not in Halt.Kind.values:
            message = "There is nothing of that kind to stop."
            raise forms.ValidationError(message)
        return Halt.Kind(kind), target

    def perform(self, *, actor: Actor) -> Made:
        kind, target = self.cleaned_data["stop"]
        reason = self.cleaned_data["reason"]
        return Made(halts.place_halt(kind, actor=actor, target=target, reason=reason))


class PlaceHaltForm(ReasonForm):
    kind = forms.ChoiceField(choices=Halt.Kind.choices, label="What to stop")
    target_name = forms.CharField(
        required=False,
        label="Which",
        help_text="Slug of the environment, system or agent, or system.tool; empty for everything.",
    )
    field_order = ("kind", "target_name", "reason")

    def perform(self, *, actor: Actor) -> Shown | None:
        kind = Halt.Kind(self.cleaned_data["kind"])
        target = self.cleaned_data["target_name"].strip()
        halts.place_halt(
            kind,
            actor=actor,
            reason=self.cleaned_data["reason"],
            target="" if kind == Halt.Kind.GLOBAL else target,
        )
        return None

    def clean(self) -> dict[str, object] | None:
        cleaned = super().clean()
        if cleaned and cleaned.get("kind") != Halt.Kind.GLOBAL and not cleaned.get("target_name"):
            self.add_error("target_name", "Name what to stop.")
        return cleaned


class HaltAgentForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | None:
        halts.place_halt(
            Halt.Kind.AGENT,
            actor=actor,
            target=self.target.slug,
            reason=self.cleaned_data["reason"],
        )
        return None


class LiftHaltForm(ReasonForm):
    def perform(self, *, actor: Actor) -> Shown | Made | None:
        if self.target.kind == Halt.Kind.GLOBAL:
            reason = self.cleaned_data["reason"]
            return Made(halts.ask_to_lift(self.target.pk, actor=actor, reason=reason))
        halts.lift_halt(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None
