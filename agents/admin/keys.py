from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString

from agents import forms
from agents.models import (
    AgentKey,
    DelegationRule,
    FederatedCredential,
    PersonDelegation,
    SigningKey,
)
from common.admin.pages import CommandPage, GovernedAdmin, KeysetAdmin
from common.templatetags.blocks import badge


@admin.register(AgentKey)
class AgentKeyAdmin(KeysetAdmin):
    list_display = ("thumbprint", "identity", "algorithm", "state", "enrolled_at", "last_used_at")
    list_filter = ("status", "algorithm")
    list_select_related = ("identity",)
    search_fields = ("=thumbprint",)
    detail_fields = (
        "thumbprint",
        "identity",
        "algorithm",
        "state",
        "public_jwk",
        "enrolled_at",
        "last_used_at",
        "retires_at",
    )
    pages = (
        CommandPage(
            "revoke",
            "Revoke",
            forms.RevokeKeyForm,
            "agents.change_agentidentity",
            explains="The key proves nobody any more, and every token of the identity is dead.",
            danger=True,
            available=lambda key: key.status in AgentKey.ACCEPTED,
        ),
    )

    @admin.display(description="status")
    def state(self, key: AgentKey) -> SafeString:
        return badge(key.status, key.get_status_display())


@admin.register(FederatedCredential)
class FederatedCredentialAdmin(GovernedAdmin):
    list_display = ("subject", "issuer", "identity", "state", "created_at")
    list_select_related = ("identity",)
    search_fields = ("issuer", "subject", "identity__client_id")
    detail_fields = (
        "issuer",
        "subject",
        "identity",
        "state",
        "jwks_uri",
        "fetched_at",
        "trouble",
        "jwks",
        "created_at",
        "withdrawn_at",
    )
    pages = (
        CommandPage(
            "replace_keys",
            "Replace its keys",
            forms.ReplaceIssuerKeysForm,
            "agents.change_agentidentity",
            explains="Assertions signed with a key that is not among the new ones prove nothing.",
            submit="Replace the keys",
            done="The keys are replaced.",
            available=lambda row: row.withdrawn_at is None,
        ),
        CommandPage(
            "withdraw",
            "Trust it no more",
            forms.RemoveIssuerForm,
            "agents.change_agentidentity",
            explains="The issuer is no longer trusted, and all tokens of the identity are revoked.",
            danger=True,
            available=lambda row: row.withdrawn_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, row: FederatedCredential) -> SafeString:
        return badge("withdrawn" if row.withdrawn_at else "active")


@admin.register(DelegationRule)
class DelegationRuleAdmin(GovernedAdmin):
    list_display = ("__str__", "scope", "max_depth", "state", "made_by", "made_at")
    list_select_related = ("subject", "actor")
    search_fields = ("subject__slug", "actor__slug")
    detail_fields = (
        "subject",
        "actor",
        "scope",
        "max_depth",
        "state",
        "reason",
        "made_by",
        "made_at",
        "ended_at",
    )
    pages = (
        CommandPage(
            "allow",
            "Let an agent act for another",
            forms.AllowDelegationForm,
            "agents.add_delegationrule",
            explains="What it does then is decided for both, and the stricter decision holds. Who "
            "answers for the agent that is acted for decides this.",
            on_list=True,
            done="The rule is in force.",
        ),
        CommandPage(
            "end",
            "End the rule",
            forms.EndDelegationForm,
            "agents.change_delegationrule",
            explains="Tokens of the agent that is acted for are dead, and those lent by it.",
            danger=True,
            available=lambda rule: rule.ended_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, rule: DelegationRule) -> SafeString:
        return badge("ended" if rule.ended_at else "active")


@admin.register(PersonDelegation)
class PersonDelegationAdmin(KeysetAdmin):
    list_display = ("made_at", "person", "identity", "scope", "state", "ends_at")
    list_display_links = ("made_at", "person")
    list_select_related = ("person", "identity")
    search_fields = ("=identity__client_id", "=person__username")
    detail_fields = (
        "person",
        "identity",
        "scope",
        "state",
        "reason",
        "made_at",
        "ends_at",
        "ended_at",
    )
    pages = (
        CommandPage(
            "let",
            "Let an agent act for you",
            forms.GrantDelegationForm,
            "agents.add_persondelegation",
            explains="What it does with your word is done in your name, within its own rights and "
            "no more than you say, until the time is over or you take it back. You approve nothing "
            "of it yourself.",
            submit="Give my word",
            on_list=True,
        ),
        CommandPage(
            "end",
            "Take it back",
            forms.RevokeDelegationForm,
            "agents.add_persondelegation",
            explains="Every token that was got by it is dead.",
            danger=True,
            available=lambda row: row.ended_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, row: PersonDelegation) -> SafeString:
        is_over = row.ended_at is not None or row.ends_at <= timezone.now()
        return badge("ended" if is_over else "active")


@admin.register(SigningKey)
class SigningKeyAdmin(GovernedAdmin):
    list_display = ("kid", "environment", "state", "created_at", "activated_at", "retired_at")
    list_filter = ("environment", "status")
    list_select_related = ("environment",)
    detail_fields = (
        "kid",
        "environment",
        "state",
        "public_jwk",
        "created_at",
        "activated_at",
        "retired_at",
    )
    pages = (
        CommandPage(
            "prepare",
            "Publish the next key",
            forms.PrepareSigningKeyForm,
            "agents.change_signingkey",
            explains="Verifiers learn of it before it is used; after six minutes it can be.",
            on_list=True,
            done="The next key is published.",
        ),
        CommandPage(
            "activate",
            "Use the next key",
            forms.ActivateSigningKeyForm,
            "agents.change_signingkey",
            explains="New tokens are signed with it. What the former one signed is valid until it "
            "is over.",
            available=lambda key: key.status == SigningKey.Status.NEXT,
            done="The key is in use.",
        ),
        CommandPage(
            "revoke",
            "Revoke",
            forms.RevokeSigningKeyForm,
            "agents.change_signingkey",
            explains="Every token that it signed is dead at once; if it was in use, another takes "
            "its place in the same moment.",
            danger=True,
            available=lambda key: key.status != SigningKey.Status.REVOKED,
        ),
    )

    @admin.display(description="status")
    def state(self, key: SigningKey) -> SafeString:
        return badge(key.status, key.get_status_display())
