"""Roles, their members and their grants."""

from django.contrib.auth.models import Group
from guardian.shortcuts import assign_perm, get_group_perms, remove_perm

from agents.models import AgentIdentity
from audit.generation import deciding_command
from audit.services import record
from common.actors import Actor
from policies import events
from policies.models import Role, RoleMembership
from tools.models import System, Tool


@deciding_command
def create_role(slug: str, *, actor: Actor, title: str) -> Role:
    """A role by its slug, made or found."""
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
