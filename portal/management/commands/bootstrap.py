import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from accounts.models import Groups, User
from accounts.services import ensure_environment
from agents.services.signing_keys import ensure_signing_key
from approvals.models import Tier
from approvals.services import ensure_tier, set_step_up
from audit.models import Generation
from common.actors import SYSTEM, acting

ENVIRONMENTS = (
    ("dev", "Development", False),
    ("staging", "Staging", False),
    ("prod", "Production", True),
)
# slug, title, rank, quorum, groups, hours, escalates to
TIERS = (
    ("dual", "Two managers", 30, 2, (Groups.MANAGERS,), 24, None),
    ("manager", "Manager", 20, 1, (Groups.MANAGERS,), 24, None),
    ("supervisor", "Supervisor", 10, 1, (Groups.SUPERVISORS,), 4, "manager"),
    ("policy", "Policy release", 40, 1, (Groups.COMPLIANCE,), 72, None),
    ("security", "Security", 50, 1, (Groups.SECURITY, Groups.COMPLIANCE), 24, None),
)
# Whoever signs for so much shows a second factor again. The demonstration's people have none.
FRESH_FROM_RANK = 30
_EVERYTHING = ("agents", "tools", "policies", "approvals", "actions", "workflows", "audit")
VIEWERS = {
    Groups.COMPLIANCE: (*_EVERYTHING, "accounts", "auditlog"),
    Groups.AUDITORS: (*_EVERYTHING, "accounts", "auditlog"),
    Groups.SECURITY: (*_EVERYTHING, "auditlog"),
    Groups.AGENT_OWNERS: ("agents", "tools", "actions", "workflows"),
    Groups.SUPERVISORS: ("approvals", "actions", "workflows"),
    Groups.MANAGERS: ("approvals", "actions", "workflows"),
}
_WORKFLOWS = (
    "add_workflowversion",
    "change_workflow",
    "add_schedule",
    "change_schedule",
    "operate_workflowrun",
    "start_workflowrun",
)
# What a group may do beyond looking; the admin's action pages ask for these.
DOERS = {
    Groups.COMPLIANCE: (
        (
            "policies",
            (
                "add_policy",
                "change_policy",
                "add_policyrelease",
                "change_role",
                "change_elevation",
            ),
        ),
        ("tools", ("change_tool",)),
        ("agents", ("change_agent", "manage_every_agent", "change_finding")),
        ("actions", ("resolve_action",)),
        ("approvals", ("change_tier",)),
        (
            "audit",
            (
                "ask_export",
                "approve_export",
                "ask_erasure",
                "approve_erasure",
                "place_hold",
                "set_retention",
                "see_sensitive",
                "grant_pass",
            ),
        ),
        ("workflows", _WORKFLOWS),
    ),
    Groups.AUDITORS: (("audit", ("ask_export",)),),
    Groups.SECURITY: (
        ("tools", ("add_secret", "change_secret")),
        ("policies", ("change_elevation",)),
        (
            "agents",
            (
                "add_halt",
                "change_halt",
                "change_finding",
                "change_signingkey",
                "change_delegationrule",
                "change_agent",
                "change_agentidentity",
                "manage_every_agent",
            ),
        ),
        ("actions", ("resolve_action",)),
        ("workflows", ("operate_workflowrun", "change_workflow")),
    ),
    Groups.AGENT_OWNERS: (
        (
            "agents",
            (
                "add_agent",
                "change_agent",
                "change_agentidentity",
                "add_enrolmentcode",
                "add_delegationrule",
                "change_delegationrule",
                "change_finding",
                "add_persondelegation",
            ),
        ),
        ("workflows", ("add_workflowversion", "start_workflowrun")),
    ),
}


class Command(BaseCommand):
    help = "Create environments, groups, tiers and a first administrator. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin")
        parser.add_argument("--email", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic(), acting(SYSTEM):
            Generation.objects.get_or_create(pk=1)
            self._environments()
            self._groups()
            self._tiers()
            password = self._administrator(options["username"], options["email"])
        self.stdout.write("Environments, groups, tiers and signing keys are in place.")
        if password is None:
            self.stdout.write("There is an administrator already.")
        else:
            self.stdout.write(f"Administrator: {options['username']}")
            self.stdout.write(f"Password (shown once): {password}")

    def _environments(self) -> None:
        for position, (slug, title, is_production) in enumerate(ENVIRONMENTS):
            environment = ensure_environment(
                slug, actor=SYSTEM, title=title, is_production=is_production, position=position
            )
            ensure_signing_key(environment, actor=SYSTEM)

    def _groups(self) -> None:
        for name in Groups.ALL:
            group, created = Group.objects.get_or_create(name=name)
            if not created:
                continue
            views = Permission.objects.filter(
                content_type__app_label__in=VIEWERS[name], codename__startswith="view_"
            )
            group.permissions.add(*views)
            for app, names in DOERS.get(name, ()):
                group.permissions.add(
                    *Permission.objects.filter(content_type__app_label=app, codename__in=names)
                )

    def _tiers(self) -> None:
        made: dict[str, Tier] = {}
        for slug, title, rank, quorum, groups, hours, escalates_to in TIERS:
            is_new = not Tier.objects.filter(slug=slug).exists()
            made[slug] = ensure_tier(
                slug,
                actor=SYSTEM,
                title=title,
                rank=rank,
                quorum=quorum,
                groups=list(Group.objects.filter(name__in=groups)),
                time_limit_seconds=hours * 3600,
                escalate_to=made[escalates_to] if escalates_to else None,
            )
            if is_new and rank >= FRESH_FROM_RANK and not settings.DEMO:
                set_step_up(slug, actor=SYSTEM, required=True, reason="It signs for much.")

    def _administrator(self, username: str, email: str) -> str | None:
        """The random password of a new administrator, who is in every group; else None."""
        if User.objects.filter(is_superuser=True).exists():
            return None
        password = secrets.token_urlsafe(15)
        user = User.objects.create_superuser(username, email, password)
        user.groups.set(Group.objects.filter(name__in=Groups.ALL))
        return password
