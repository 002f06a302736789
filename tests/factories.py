"""One maker per thing, with the defaults that most tests want."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group

from accounts.models import Environment, Groups, User
from actions.models import Run
from actions.services import runs, submission
from actions.services.decisions import DecisionResult
from actions.services.proposals import Proposal
from agents import tokens
from agents.directory import directory
from agents.keys import opened_signing_key
from agents.models import AgentIdentity, SigningKey
from agents.services import lifecycle
from agents.tokens import Caller
from approvals.models import Tier
from approvals.services import ensure_tier
from audit.models import Event
from common.actors import SYSTEM, Actor
from policies.errors import ReleaseUnchanged
from policies.models import PolicyRelease, Role
from policies.services import grants, releases
from tests import toolbox as box
from tests.toolbox import ToolboxSystem
from tools.models import System, Tool
from tools.services.registration import define_tool, register_system, set_endpoint


def person(username: str, *groups: str) -> User:
    user = User.objects.create_user(username, f"{username}@example.org", "pw", is_staff=True)
    for name in groups:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    return user


def administrator() -> User:
    user = User.objects.create_superuser("admin", "admin@example.org", "pw")
    for name in Groups.ALL:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    return user


def tiers() -> dict[str, Tier]:
    found = {}
    managers, _ = Group.objects.get_or_create(name=Groups.MANAGERS)
    supervisors, _ = Group.objects.get_or_create(name=Groups.SUPERVISORS)
    compliance, _ = Group.objects.get_or_create(name=Groups.COMPLIANCE)
    for slug, rank, quorum, group in (
        ("dual", 30, 2, managers),
        ("manager", 20, 1, managers),
        ("supervisor", 10, 1, supervisors),
        ("policy", 40, 1, compliance),
    ):
        found[slug] = ensure_tier(
            slug, actor=SYSTEM, title=slug.title(), rank=rank, quorum=quorum, groups=[group]
        )
    return found


def identity(slug: str, *, owner: User, environment: Environment) -> AgentIdentity:
    agent = lifecycle.register_agent(
        slug,
        actor=SYSTEM,
        title=slug.title(),
        purpose="Be tested.",
        owner=owner,
        sponsor=owner,
    )
    lifecycle.activate(agent.pk, actor=SYSTEM, reason="For tests.")
    return lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=environment)


def toolbox_system(environment: Environment) -> System:
    system = register_system("toolbox", actor=SYSTEM, title="Toolbox", kind=System.Kind.IN_PROCESS)
    set_endpoint(system, environment, actor=SYSTEM)
    for name, attributes in box.TOOLS.items():
        define_tool(system, name, actor=SYSTEM, **attributes)
    return system


def publish(*slugs: str, **texts: str) -> PolicyRelease:
    """Make a release of these rules of the toolbox (all if none is named) and texts live."""
    grants.create_role("keepers", actor=SYSTEM, title="Keepers")
    for slug in slugs or (box.POLICIES if not texts else ()):
        releases.save_policy(slug, box.POLICIES[slug], actor=SYSTEM)
    for slug, text in texts.items():
        releases.save_policy(slug.replace("_", "-"), text, actor=SYSTEM)
    try:
        release = releases.draft_release(actor=SYSTEM)
    except ReleaseUnchanged:
        return PolicyRelease.objects.live().get()
    return releases.publish(release.pk, actor=SYSTEM)


def everything_recorded() -> str:
    """All that the event log holds, in the open and beside its leaves, as text."""
    events = Event.objects.with_values()
    return repr([(e.leaf, e.actor_label, e.subject_label, e.details) for e in events])


@dataclass
class Governed:
    """An agent with tools, grants and a live release, ready to act."""

    identity: AgentIdentity
    system: System
    role: Role
    toolbox: ToolboxSystem

    @property
    def caller(self) -> Caller:
        return caller_for(self.identity)

    @property
    def actor(self) -> Actor:
        return Actor("agent", self.identity.client_id, self.identity.client_id)

    def tool(self, name: str) -> Tool:
        return Tool.objects.get(system=self.system, name=name)

    def run(self, **given: Any) -> Run:
        return run(self.caller, **given)

    def propose(self, run: Run, tool: str, arguments: Any, **given: Any) -> DecisionResult:
        return submission.submit(proposal(self.caller, run, tool, arguments, **given))

    def pay(self, run: Run, amount: float = 1, **given: Any) -> DecisionResult:
        return self.propose(run, "toolbox.pay", {"account": "a", "amount": amount}, **given)


def governed(identity: AgentIdentity, toolbox: ToolboxSystem) -> Governed:
    system = toolbox_system(identity.environment)
    role = grants.create_role("keepers", actor=SYSTEM, title="Keepers")
    grants.add_member(role, identity, actor=SYSTEM)
    for access in Tool.Access:
        grants.grant(role, system, access, actor=SYSTEM)
    publish()
    return Governed(identity, system, role, toolbox)


def caller_for(identity: AgentIdentity, *scopes: str) -> Caller:
    known = directory.current().identities[identity.client_id]
    return Caller(known, frozenset(scopes or {"tools"}), "jti", known.epoch, 0)


def run(caller: Caller, **given: Any) -> Run:
    opening = runs.NewRun(
        Run.Initiator.USER, given.pop("initiator", "somebody"), "testing", **given
    )
    actor = Actor("agent", caller.identity.client_id, caller.identity.client_id)
    return runs.open_run(caller, opening, actor=actor)


def proposal(caller: Caller, run: Run, tool: str, arguments: Any, **given: Any) -> Proposal:
    return Proposal(
        caller=caller,
        run_id=run.pk,
        tool=tool,
        arguments=arguments,
        claims=given.pop("claims", {}),
        idempotency_key=given.pop("key", str(uuid4())),
        **given,
    )


def token_for(identity: AgentIdentity, *, scope: str = "tools") -> str:
    """A token as the token service would issue it."""
    known = directory.current().identities[identity.client_id]
    signing = SigningKey.objects.get(environment=identity.environment, status="active")
    private = opened_signing_key(known.environment, signing.kid, bytes(signing.sealed_private))
    return tokens.mint(tokens.TokenSpec(known, scope), kid=signing.kid, key=private)[0]
