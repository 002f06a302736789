import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from common.admin.pages import CommandPage, GovernedAdmin
from common.templatetags.blocks import badge
from tools import forms
from tools.models import Breaker, Endpoint, Secret, SecretLease, System, Tool
from tools.secret_arguments import undeclared_secrets


@admin.register(System)
class SystemAdmin(GovernedAdmin):
    list_display = ("slug", "title", "kind")
    list_filter = ("kind",)
    search_fields = ("slug", "title")
    detail_fields = ("slug", "title", "kind", "description")
    detail_template = "tools/system.html"

    def detail(self, request: HttpRequest, obj: System) -> dict[str, Any]:
        return {
            "tools": obj.tools.all(),
            "endpoints": obj.endpoints.select_related("environment"),
        }


@admin.register(Endpoint)
class EndpointAdmin(GovernedAdmin):
    list_display = ("system", "environment", "base_url", "allow_private")
    list_filter = ("environment",)
    list_select_related = ("system", "environment")
    detail_fields = ("system", "environment", "base_url", "allow_private", "max_response_bytes")
    detail_template = "tools/endpoint.html"
    pages = (
        CommandPage(
            "add_secret",
            "Give it a secret",
            forms.AddSecretForm,
            "tools.add_secret",
            explains="What the system wants to see before it answers. It is sent to the address "
            "that the endpoint has now and to no other: at another address it must be given again.",
            submit="Keep the secret",
            available=lambda endpoint: bool(endpoint.base_url),
        ),
    )

    def detail(self, request: HttpRequest, obj: Endpoint) -> dict[str, Any]:
        return {"secrets": obj.secrets.in_force()}


@admin.register(Secret)
class SecretAdmin(GovernedAdmin):
    list_display = ("name", "endpoint", "placement", "origin", "state", "created_at")
    list_filter = ("placement", "endpoint__environment")
    list_select_related = ("endpoint__system", "endpoint__environment")
    search_fields = ("name", "origin")
    detail_fields = ("name", "endpoint", "placement", "parameter", "prefix", "username", "origin")
    detail_template = "tools/secret.html"
    pages = (
        CommandPage(
            "rotate",
            "Give it a new value",
            forms.RotateSecretForm,
            "tools.change_secret",
            explains="Calls use the new value from now on; the former one is destroyed.",
            available=lambda secret: secret.withdrawn_at is None,
        ),
        CommandPage(
            "withdraw",
            "Withdraw",
            forms.WithdrawSecretForm,
            "tools.change_secret",
            explains="Its value is destroyed. Calls to the endpoint go without it from now on.",
            danger=True,
            available=lambda secret: secret.withdrawn_at is None,
        ),
    )

    @admin.display(description="status")
    def state(self, secret: Secret) -> SafeString:
        return badge("withdrawn" if secret.withdrawn_at else "active")

    def detail(self, request: HttpRequest, obj: Secret) -> dict[str, Any]:
        leases = SecretLease.objects.filter(version__secret=obj).select_related("version")
        return {
            "versions": obj.versions.defer("wrapped_key", "ciphertext")[:20],
            "leases": leases.defer("version__wrapped_key", "version__ciphertext")[:20],
        }


@admin.register(Breaker)
class BreakerAdmin(GovernedAdmin):
    list_display = ("__str__", "is_closed", "failures", "open_until", "probe_until")
    list_filter = ("state", "environment")
    detail_fields = (
        "system",
        "environment",
        "is_closed",
        "failures",
        "window_from",
        "opened_times",
        "open_until",
        "probe_until",
    )

    @admin.display(description="state")
    def is_closed(self, breaker: Breaker) -> SafeString:
        tone = "active" if breaker.state == Breaker.State.CLOSED else "unknown"
        return badge(tone, breaker.get_state_display())


@admin.register(Tool)
class ToolAdmin(GovernedAdmin):
    list_display = ("full_name", "title", "access", "state", "is_idempotent", "offered")
    list_filter = ("system", "access", "status")
    list_select_related = ("system",)
    search_fields = ("name", "title")
    detail_fields = (
        "full_name",
        "title",
        "description",
        "access",
        "state",
        "is_idempotent",
        "timeout_seconds",
        "labels",
        "offered",
        "amount",
        "definition_digest",
    )
    detail_template = "tools/tool.html"
    pages = (
        CommandPage(
            "withdraw",
            "Withdraw",
            forms.WithdrawForm,
            "tools.change_tool",
            explains="Out of service: undecided and approved calls are denied from now on.",
            danger=True,
            available=lambda tool: tool.status == Tool.Status.ACTIVE,
        ),
        CommandPage(
            "reinstate",
            "Reinstate",
            forms.ReinstateForm,
            "tools.change_tool",
            available=lambda tool: tool.status == Tool.Status.WITHDRAWN,
        ),
    )

    @admin.display(description="tool", ordering="name")
    def full_name(self, tool: Tool) -> str:
        return tool.full_name

    @admin.display(description="status")
    def state(self, tool: Tool) -> SafeString:
        return badge(tool.status, tool.get_status_display())

    @admin.display(description="idempotent")
    def is_idempotent(self, tool: Tool) -> str:
        return "yes" if tool.idempotent else "no"

    @admin.display(description="for")
    def offered(self, tool: Tool) -> str:
        return "facts only" if tool.serves_facts_only else "agents"

    def detail(self, request: HttpRequest, obj: Tool) -> dict[str, Any]:
        return {
            "undeclared": ", ".join(undeclared_secrets(obj.input_schema)),
            "schema_lines": json.dumps(obj.input_schema, indent=2).splitlines(),
            "sources": [
                {"source": row["name"], "read tool": row["tool"], "arguments": row["arguments"]}
                for row in obj.sources
            ],
        }
