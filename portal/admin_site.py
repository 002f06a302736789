from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from accounts.second_factor import where_to_prove
from audit.admission import is_admitted, is_staff_in_force
from audit.auditor_scope import scope_of
from portal.dashboard import overview

# The sections of the navigation, in the order of a working day, by app and model.
_SECTIONS = (
    ("Approvals", ("approvals.ApprovalRequest", "approvals.Tier")),
    ("Runs and actions", ("actions.Run", "actions.Action")),
    (
        "Workflows",
        (
            "workflows.Workflow",
            "workflows.WorkflowVersion",
            "workflows.WorkflowRun",
            "workflows.Rollout",
            "workflows.Schedule",
            "workflows.ScheduleFire",
        ),
    ),
    (
        "Agents",
        (
            "agents.Agent",
            "agents.AgentIdentity",
            "agents.Finding",
            "policies.Elevation",
            "agents.DelegationRule",
            "agents.PersonDelegation",
            "agents.Halt",
        ),
    ),
    (
        "Keys",
        ("agents.AgentKey", "agents.FederatedCredential", "agents.SigningKey", "tools.Secret"),
    ),
    ("Policies", ("policies.Policy", "policies.PolicyRelease", "policies.Role")),
    (
        "Systems and tools",
        ("tools.System", "tools.Tool", "tools.Endpoint", "tools.Breaker"),
    ),
    (
        "Audit",
        (
            "audit.Event",
            "auditlog.LogEntry",
            "audit.Checkpoint",
            "audit.WitnessState",
            "audit.SinkState",
            "audit.Export",
            "audit.AuditorPass",
            "audit.Hold",
            "audit.Erasure",
            "audit.RetentionRule",
            "audit.Quarantine",
        ),
    ),
    ("People", ("accounts.User", "auth.Group", "accounts.Environment")),
)
_NAMES = {
    "agents.Finding": "Findings",
    "agents.DelegationRule": "Agent delegations",
    "agents.PersonDelegation": "User delegations",
    "agents.FederatedCredential": "Trusted issuers",
    "auditlog.LogEntry": "Change log",
    "audit.WitnessState": "Witnesses",
    "audit.SinkState": "Log delivery",
    "audit.Export": "Evidence exports",
    "audit.RetentionRule": "Retention",
    "audit.Quarantine": "Quarantine",
    "approvals.ApprovalRequest": "Inbox",
    "workflows.WorkflowVersion": "Versions",
    "workflows.WorkflowRun": "Workflow runs",
    "workflows.ScheduleFire": "Scheduled times",
}

# In the navigation without being a model: whoever sees events may see them.
_REPORTS: dict[str, Any] = {
    "name": "Reports",
    "object_name": "Reports",
    "perms": {},
    "add_url": None,
}

# Libraries whose own pages are replaced by ours or not needed.
_WITHOUT_PAGES = {
    "auditlog",
    "django_celery_beat",
    "guardian",
    "account",
    "socialaccount",
    "mfa",
    "axes",
}


class ChanceryAdminSite(AdminSite):
    site_title = "Chancery"
    site_header = "Chancery"
    index_title = "Home"
    index_template = "admin/home.html"
    enable_nav_sidebar = True

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # Bulk deletion goes round every rule.
        self.disable_action("delete_selected")

    def has_permission(self, request: HttpRequest) -> bool:
        """Staff who have shown a second factor in this session."""
        return is_admitted(request)

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseRedirect:
        """Sign in on the page for it; with a session that lacks a second factor, show one."""
        given = request.GET.get(REDIRECT_FIELD_NAME, "")
        is_ours = url_has_allowed_host_and_scheme(given, allowed_hosts={request.get_host()})
        back_to = given if is_ours else reverse("admin:index")
        if not request.user.is_authenticated:
            query = urlencode({REDIRECT_FIELD_NAME: back_to})
            return HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?{query}")
        if not is_staff_in_force(request.user):
            raise PermissionDenied
        if self.has_permission(request):
            return HttpResponseRedirect(back_to)
        return HttpResponseRedirect(where_to_prove(request, back_to=back_to))

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        is_many = isinstance(model_or_iterable, Iterable)
        models = model_or_iterable if is_many else [model_or_iterable]
        ours = [
            model
            for model in models
            if model._meta.app_label not in _WITHOUT_PAGES
            or (admin_class is not None and admin_class.__module__.startswith("audit."))
        ]
        if ours:
            super().register(ours, admin_class, **options)

    def get_app_list(
        self, request: HttpRequest, app_label: str | None = None
    ) -> list[dict[str, Any]]:
        """Our sections, with the models that this person may see."""
        apps = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        seen = {
            f"{app['app_label']}.{model['object_name']}": (app, model)
            for app in apps
            for model in app["models"]
        }
        sections = []
        for title, labels in _SECTIONS:
            present = [label for label in labels if label in seen]
            if not present:
                continue
            app, _ = seen[present[0]]
            models = [
                {**seen[label][1], "name": _NAMES.get(label, seen[label][1]["name"])}
                for label in present
            ]
            if title == "Audit" and scope_of(request.user) is None:
                models.insert(0, _REPORTS | {"admin_url": reverse("reports")})
            sections.append({**app, "name": title, "models": models})
        return sections

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return super().index(request, {**overview(request.user), **(extra_context or {})})
