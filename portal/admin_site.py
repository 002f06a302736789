from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse

from portal.home import overview

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
    ("Audit", ("audit.Event", "auditlog.LogEntry")),
    ("People", ("accounts.User", "auth.Group", "accounts.Environment")),
)
_NAMES = {
    "agents.Finding": "Unusual use",
    "agents.DelegationRule": "Acting for others",
    "agents.FederatedCredential": "Other issuers",
    "auditlog.LogEntry": "Changes",
    "approvals.ApprovalRequest": "Inbox",
    "workflows.WorkflowVersion": "Versions",
    "workflows.WorkflowRun": "Workflow runs",
    "workflows.ScheduleFire": "Scheduled times",
}

# Libraries whose own pages are replaced by ours or not needed.
_WITHOUT_PAGES = {"auditlog", "django_celery_beat", "guardian"}


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
            sections.append({**app, "name": title, "models": models})
        return sections

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return super().index(request, {**overview(request.user), **(extra_context or {})})
