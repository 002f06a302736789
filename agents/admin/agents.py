from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from agents import forms
from agents.active_tokens import live_tokens
from agents.models import Agent, AgentIdentity, Finding, Halt, halted
from approvals.models import ApprovalRequest
from common.admin.pages import CommandPage, GovernedAdmin
from common.templatetags.blocks import badge


def _is(*statuses: str) -> Any:
    return lambda target: target.status in statuses


def _badge_of(row: Any) -> SafeString:
    """Active is who may act: not what a halt covers."""
    if row.is_halted and row.status == "active":
        return badge("halted", "halted")
    return badge(row.status, row.get_status_display())


@admin.register(Agent)
class AgentAdmin(GovernedAdmin):
    list_display = ("slug", "title", "state", "risk", "owner", "sponsor")
    list_filter = ("status", "risk")
    list_select_related = ("owner", "sponsor")
    search_fields = ("slug", "title")
    detail_fields = (
        "title",
        "purpose",
        "state",
        "risk",
        "owner",
        "sponsor",
        "certified_until",
        "created_at",
    )
    detail_template = "agents/agent.html"
    pages = (
        CommandPage(
            "register",
            "Register an agent",
            forms.RegisterAgentForm,
            "agents.add_agent",
            explains="A new agent is a draft: it can do nothing until it is activated.",
            on_list=True,
            done="The agent is registered.",
        ),
        CommandPage(
            "activate",
            "Activate",
            forms.ActivateForm,
            "agents.change_agent",
            explains="Its identities may act, within their roles' grants and the live policy. For "
            "those in production other people are asked first.",
            available=_is("draft", "suspended"),
        ),
        CommandPage(
            "add_identity",
            "Add an identity",
            forms.AddIdentityForm,
            "agents.change_agentidentity",
            explains="The agent in one environment, with keys of its own.",
            available=_is("draft", "active", "suspended"),
        ),
        CommandPage(
            "certify",
            "Confirm it",
            forms.CertifyForm,
            "agents.change_agent",
            explains="The agent is still needed, and what it may do is right. Without this it is "
            "suspended when its time is over.",
            available=_is("active"),
        ),
        CommandPage(
            "change_sponsor",
            "Change the sponsor",
            forms.ChangeSponsorForm,
            "agents.change_agent",
            explains="Another person answers for the agent from now on.",
            available=_is("draft", "active", "suspended"),
        ),
        CommandPage(
            "halt",
            "Halt now",
            forms.HaltAgentForm,
            "agents.add_halt",
            explains="From the moment this is recorded, nothing the agent proposes is allowed, "
            "and its runs stop when they try.",
            danger=True,
            available=_is("active"),
        ),
        CommandPage(
            "suspend",
            "Suspend",
            forms.SuspendForm,
            "agents.change_agent",
            explains="Every token of every identity of the agent is dead at once.",
            danger=True,
            available=_is("active"),
        ),
        CommandPage(
            "retire",
            "Retire",
            forms.RetireAgentForm,
            "agents.change_agent",
            explains="The end of the agent's life. Its history stays; this cannot be undone.",
            danger=True,
            available=_is("draft", "active", "suspended"),
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        agents: QuerySet[Agent] = super().get_queryset(request)
        return agents.annotate(is_halted=halted(agent="slug"))

    @admin.display(description="status")
    def state(self, agent: Agent) -> SafeString:
        return _badge_of(agent)

    def detail(self, request: HttpRequest, obj: Agent) -> dict[str, Any]:
        identities = list(obj.identities.select_related("environment").prefetch_related("keys"))
        tokens = live_tokens(identities)
        return {
            "identities": [(one, tokens[one.pk]) for one in identities],
            "findings": Finding.objects.filter(identity__in=identities).select_related("identity")[
                :10
            ],
            "acts_for": obj.acts_for.in_force().select_related("subject"),
            "delegates_to": obj.delegates_to.in_force().select_related("actor"),
            "halts": Halt.objects.over(agent=obj.slug),
        }


@admin.register(AgentIdentity)
class AgentIdentityAdmin(GovernedAdmin):
    list_display = ("client_id", "agent", "environment", "state", "epoch")
    list_filter = ("status", "environment")
    list_select_related = ("agent", "environment")
    search_fields = ("client_id",)
    detail_fields = (
        "agent",
        "environment",
        "client_id",
        "state",
        "epoch",
        "binding",
        "life",
        "use",
        "created_at",
    )
    detail_template = "agents/identity.html"
    pages = (
        CommandPage(
            "enrol",
            "Issue an enrolment code",
            forms.IssueCodeForm,
            "agents.add_enrolmentcode",
            explains="A code for one key, valid for an hour. It is shown once and kept nowhere.",
            submit="Issue the code",
            available=_is("active", "pending"),
        ),
        CommandPage(
            "trust_issuer",
            "Trust another issuer",
            forms.AddIssuerForm,
            "agents.change_agentidentity",
            explains="A CI service or a cluster says who this identity is, with keys that are "
            "pinned here. One issuer and subject is one identity, for ever.",
            available=_is("active", "pending"),
        ),
        CommandPage(
            "require_dpop",
            "Bind its tokens to a key",
            forms.RequireDpopForm,
            "agents.change_agentidentity",
            explains="A stolen token is then of no use without the key (DPoP, RFC 9449).",
            submit="Save",
        ),
        CommandPage(
            "declare_use",
            "Say how it is used",
            forms.DeclareUseForm,
            "agents.change_agentidentity",
            explains="What differs from it is noticed.",
            submit="Save",
        ),
        CommandPage(
            "suspend",
            "Suspend here",
            forms.SuspendIdentityForm,
            "agents.change_agentidentity",
            explains="Stops the agent in this environment; its tokens are dead at once.",
            danger=True,
            available=_is("active", "pending"),
        ),
        CommandPage(
            "resume",
            "Resume",
            forms.ResumeIdentityForm,
            "agents.change_agentidentity",
            explains="Lets the agent act here again; in production other people are asked first. "
            "Tokens from before stay dead.",
            available=_is("suspended"),
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AgentIdentity]:
        identities: QuerySet[AgentIdentity] = super().get_queryset(request)
        return identities.annotate(is_halted=halted(agent="agent__slug", environment="environment"))

    @admin.display(description="status")
    def state(self, identity: AgentIdentity) -> SafeString:
        return _badge_of(identity)

    @admin.display(description="its tokens")
    def life(self, identity: AgentIdentity) -> str:
        return f"live {identity.token_seconds} seconds"

    @admin.display(description="bound to a key")
    def binding(self, identity: AgentIdentity) -> str:
        return "always (DPoP)" if identity.dpop_required else "where the runtime asks for it"

    @admin.display(description="declared use")
    def use(self, identity: AgentIdentity) -> str:
        hours = f"{identity.hours} UTC" if identity.hours else "at any time"
        return f"{identity.replicas} at a time, {hours}"

    def detail(self, request: HttpRequest, obj: AgentIdentity) -> dict[str, Any]:
        asked = ApprovalRequest.objects.pending().about("agents.agentidentity", obj.pk)
        return {
            "keys": obj.keys.all()[:20],
            "issuers": obj.federated_credentials.in_force(),
            "roles": obj.roles.all(),
            "tokens": live_tokens([obj])[obj.pk],
            "findings": obj.findings.all()[:10],
            "halts": Halt.objects.over(agent=obj.agent.slug, environment=obj.environment_id),
            "asked": asked.first(),
        }
