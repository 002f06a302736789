"""Roles, their members and their grants."""

from django.contrib.auth.models import Group
from guardian.shortcuts import assign_perm, get_group_perms, remove_perm

from agents.models import AgentIdentity
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor
from common.input_checks import clean_reason
from policies import events
from policies.errors import NotGranted, ReservedRole
from policies.models import Role, RoleMembership, SystemGroupPermission, ToolGroupPermission
from policies.snapshot import ELEVATED
from tools.models import System, Tool


@deciding_command
def create_role(slug: str, *, actor: Actor, title: str) -> Role:
    """A role by its slug, made or found. Raises ReservedRole."""
    if slug == ELEVATED:
        raise ReservedRole
    found = Role.objects.filter(slug=slug).first()
    if found is not None:
        return found
    group, _ = Group.objects.get_or_create(name=f"Role: {slug}")
    return Role.objects.create(slug=slug, title=title, group=group)


@deciding_command
def add_member(role: Role, identity: AgentIdentity, *, actor: Actor) -> None:
    _, created = RoleMembership.objects.get_or_create(role=role, identity=identity)
    if created:
        record(
            events.MEMBER_ADDED,
            actor=actor,
            subject=role,
            role=role.slug,
            identity=identity.client_id,
        )


@deciding_command
def remove_member(role: Role, identity: AgentIdentity, *, actor: Actor) -> None:
    membership = RoleMembership.objects.filter(role=role, identity=identity).first()
    if membership is None:
        return
    membership.delete()
    record(
        events.MEMBER_REMOVED,
        actor=actor,
        subject=role,
        role=role.slug,
        identity=identity.client_id,
    )


@deciding_command
def grant(role: Role, on: System | Tool, access: Tool.Access, *, actor: Actor) -> None:
    """Let the role call tools of this access, of a system or one tool."""
    if f"call_{access}" in get_group_perms(role.group, on):
        return
    assign_perm(f"call_{access}", role.group, on)
    record(
        events.ACCESS_GRANTED,
        actor=actor,
        subject=role,
        role=role.slug,
        on=str(on),
        access=str(access),
    )


@deciding_command
def mark(
    role: Role,
    on: System | Tool,
    access: Tool.Access,
    *,
    actor: Actor,
    by_elevation: bool,
    reason: str,
) -> None:
    """Whether a grant counts by itself, or only while people have approved an elevation.

    Raises NotGranted.
    """
    reason = clean_reason(reason)
    model = SystemGroupPermission if isinstance(on, System) else ToolGroupPermission
    rows = model.objects.select_for_update(of=("self",)).filter(
        group=role.group, content_object=on, permission__codename=f"call_{access}"
    )
    row = rows.first()
    if row is None:
        raise NotGranted
    if row.by_elevation == by_elevation:
        return
    row.by_elevation = by_elevation
    row.save(update_fields=["by_elevation"])
    record(
        events.ACCESS_MARKED,
        actor=actor,
        subject=role,
        role=role.slug,
        on=str(on),
        access=str(access),
        by_elevation=by_elevation,
        reason=reason,
    )


@deciding_command
def revoke(role: Role, on: System | Tool, access: Tool.Access, *, actor: Actor) -> None:
    """Withdraw a grant; undecided and approved calls are denied from the commit on."""
    if f"call_{access}" not in get_group_perms(role.group, on):
        return
    remove_perm(f"call_{access}", role.group, on)
    record(
        events.ACCESS_REVOKED,
        actor=actor,
        subject=role,
        role=role.slug,
        on=str(on),
        access=str(access),
    )


def of_role(role: Role) -> list[SystemGroupPermission | ToolGroupPermission]:
    """All that a role has been granted, systems first."""
    systems = SystemGroupPermission.objects.filter(group=role.group)
    tools = ToolGroupPermission.objects.filter(group=role.group)
    return [
        *systems.select_related("permission", "content_object"),
        *tools.select_related("permission", "content_object__system"),
    ]


def access_of(row: SystemGroupPermission | ToolGroupPermission) -> Tool.Access:
    return Tool.Access(row.permission.codename.removeprefix("call_"))
