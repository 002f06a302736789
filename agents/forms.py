from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model

from accounts.models import Environment, User
from agents.models import Agent, AgentIdentity, Halt
from agents.services import (
    enrolment,
    federation,
    findings,
    halts,
    lifecycle,
    recertification,
    signing_keys,
    sponsors,
    user_delegations,
)
from common.actors import Actor
from common.admin.fields import JSONTextField
from common.admin.pages import CommandForm, Created, ReasonForm, ShowOnce


def _people() -> "forms.ModelChoiceField[User]":
    return forms.ModelChoiceField(get_user_model().objects.filter(is_active=True))


class RegisterAgentForm(CommandForm):
    slug = forms.SlugField(max_length=64, help_text="Its name in policies; it stays.")
    title = forms.CharField(max_length=100)
    purpose = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}))
    risk = forms.ChoiceField(
        choices=Agent.Risk.choices,
        help_text="How much harm it could do. Before an agent of high risk acts in production, two "
        "managers approve it; otherwise one does. Rules can look at it.",
    )
    owner = _people()
    sponsor = _people()

    def perform(self, *, actor: Actor) -> ShowOnce | None:
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
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.activate(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SuspendForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.suspend(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class RetireAgentForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.retire(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class CertifyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        recertification.certify(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ChangeSponsorForm(ReasonForm):
    sponsor = _people()
    field_order = ("sponsor", "reason")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        sponsors.change_sponsor(
            self.target.pk,
            actor=actor,
            sponsor=self.cleaned_data["sponsor"],
            reason=self.cleaned_data["reason"],
        )
        return None


class AddIdentityForm(CommandForm):
    environment = forms.ModelChoiceField(Environment.objects.all())

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.create_identity(
            self.target.pk, actor=actor, environment=self.cleaned_data["environment"]
        )
        return None


class DeclareUseForm(ReasonForm):
    replicas = forms.IntegerField(
        min_value=1, max_value=10_000, label="Runtimes at a time", help_text="Each with own tokens."
    )
    hours = forms.CharField(
        required=False, max_length=40, help_text="In UTC: mon-fri 8-18. Empty: at any time."
    )
    field_order = ("replicas", "hours", "reason")

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        known = {"replicas": target.replicas, "hours": target.hours} if target is not None else {}
        super().__init__(*args, target=target, initial=known, **kwargs)

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.declare_use(
            self.target.pk,
            actor=actor,
            replicas=self.cleaned_data["replicas"],
            hours=self.cleaned_data["hours"],
            reason=self.cleaned_data["reason"],
        )
        return None


class ResolveFindingForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        findings.resolve(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class IssueCodeForm(CommandForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        code = enrolment.issue_enrolment_code(self.target.pk, actor=actor)
        minutes = int(enrolment.CODE_LIFETIME.total_seconds() // 60)
        context = {
            "title": "Enrolment code",
            "code": code,
            "minutes": minutes,
            "object": self.target,
            "portal_url": settings.ISSUER,
        }
        return ShowOnce("agents/enrolment_code.html", context)


class RevokeKeyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        enrolment.revoke_key(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SuspendIdentityForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        lifecycle.suspend_identity(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ResumeIdentityForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
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

    def perform(self, *, actor: Actor) -> Created:
        kind, target = self.cleaned_data["stop"]
        reason = self.cleaned_data["reason"]
        return Created(halts.place_halt(kind, actor=actor, target=target, reason=reason))


class PlaceHaltForm(ReasonForm):
    kind = forms.ChoiceField(choices=Halt.Kind.choices, label="What to stop")
    target_name = forms.CharField(
        required=False,
        label="Which",
        help_text="Slug of the environment, system or agent, or system.tool; empty for everything.",
    )
    field_order = ("kind", "target_name", "reason")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
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
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        halts.place_halt(
            Halt.Kind.AGENT,
            actor=actor,
            target=self.target.slug,
            reason=self.cleaned_data["reason"],
        )
        return None


class LiftHaltForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | Created | None:
        if self.target.kind == Halt.Kind.GLOBAL:
            reason = self.cleaned_data["reason"]
            return Created(halts.ask_to_lift(self.target.pk, actor=actor, reason=reason))
        halts.lift_halt(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class IssuerKeysForm(CommandForm):
    """Keys that are pinned, or the address to fetch them from: one of both."""

    jwks_uri = forms.URLField(
        max_length=500,
        assume_scheme="https",
        required=False,
        label="Address of its keys",
        help_text="Fetched now, every ten minutes, and when an unknown key is met.",
    )
    jwks = JSONTextField(
        label="Its public keys",
        required=False,
        help_text="A JWK Set (RFC 7517), if they are to be pinned instead.",
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if bool(given.get("jwks_uri")) == bool(given.get("jwks")):
            message = "Give the address of its keys, or the keys: one of both."
            raise forms.ValidationError(message)
        return given


class AddIssuerForm(IssuerKeysForm):
    issuer = forms.URLField(max_length=300, assume_scheme="https", help_text="Its https address.")
    subject = forms.CharField(max_length=300, help_text="What it calls this identity.")
    field_order = ("issuer", "subject", "jwks_uri", "jwks")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        federation.trust_issuer(
            self.target.pk,
            actor=actor,
            issuer=self.cleaned_data["issuer"],
            subject=self.cleaned_data["subject"],
            jwks=self.cleaned_data["jwks"],
            jwks_uri=self.cleaned_data["jwks_uri"],
        )
        return None


class ReplaceIssuerKeysForm(IssuerKeysForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        federation.replace_issuer_keys(
            self.target.pk,
            actor=actor,
            jwks=self.cleaned_data["jwks"],
            jwks_uri=self.cleaned_data["jwks_uri"],
        )
        return None


class RemoveIssuerForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        federation.trust_issuer_no_more(
            self.target.pk, actor=actor, reason=self.cleaned_data["reason"]
        )
        return None


class RequireDpopForm(CommandForm):
    required = forms.BooleanField(
        required=False, label="Required", help_text="Tokens that are not bound are dead at once."
    )

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        known = {"required": target.dpop_required} if target is not None else {}
        super().__init__(*args, target=target, initial=known, **kwargs)

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        federation.require_dpop(self.target.pk, actor=actor, required=self.cleaned_data["required"])
        return None


class AllowDelegationForm(ReasonForm):
    subject = forms.ModelChoiceField(Agent.objects.all(), label="For which agent")
    acting = forms.ModelChoiceField(Agent.objects.all(), label="Who acts")
    scope = forms.CharField(
        initial="tools", max_length=2_000, help_text="tools, system:crm or tool:crm.read"
    )
    max_depth = forms.IntegerField(
        min_value=1, max_value=3, initial=1, label="Hands", help_text="From whoever began."
    )
    field_order = ("subject", "acting", "scope", "max_depth", "reason")

    def perform(self, *, actor: Actor) -> ShowOnce | Created | None:
        return Created(
            federation.allow_delegation(
                self.cleaned_data["subject"].pk,
                actor=actor,
                acting_agent=self.cleaned_data["acting"],
                scope=self.cleaned_data["scope"],
                max_depth=self.cleaned_data["max_depth"],
                reason=self.cleaned_data["reason"],
            )
        )


class GrantDelegationForm(ReasonForm):
    """The signed-in user lets an agent act for them."""

    identity = forms.ModelChoiceField(AgentIdentity.objects.filter(status="active"))
    scope = forms.CharField(
        initial="tools", max_length=2_000, help_text="tools, system:crm or tool:crm.read"
    )
    minutes = forms.IntegerField(min_value=1, max_value=user_delegations.MAX_MINUTES, initial=60)
    field_order = ("identity", "scope", "minutes", "reason")

    def perform(self, *, actor: Actor) -> ShowOnce:
        delegation, code = user_delegations.grant_delegation(
            self.cleaned_data["identity"].pk,
            actor=actor,
            scope=self.cleaned_data["scope"],
            minutes=self.cleaned_data["minutes"],
            reason=self.cleaned_data["reason"],
        )
        context = {"title": "Code for the agent", "code": code, "delegation": delegation}
        return ShowOnce("agents/delegation_code.html", context)


class RevokeDelegationForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        user_delegations.revoke_delegation(
            self.target.pk, actor=actor, reason=self.cleaned_data["reason"]
        )
        return None


class EndDelegationForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        federation.end_delegation(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class PrepareSigningKeyForm(CommandForm):
    environment = forms.ModelChoiceField(Environment.objects.all())

    def perform(self, *, actor: Actor) -> ShowOnce | Created | None:
        return Created(signing_keys.prepare(self.cleaned_data["environment"].pk, actor=actor))


class ActivateSigningKeyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        signing_keys.activate(
            self.target.environment_id, actor=actor, reason=self.cleaned_data["reason"]
        )
        return None


class RevokeSigningKeyForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        signing_keys.revoke(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None
