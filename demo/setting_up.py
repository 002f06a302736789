"""Making the demonstration: the airline as a governed system, its policy, and one agent."""

from pathlib import Path

from django.conf import settings

from accounts.models import Environment, User
from agents.models import Agent, AgentIdentity
from agents.services import lifecycle
from common.actors import SYSTEM
from demo.catalogue import ACCOUNTING, definitions
from policies.models import Policy, PolicyRelease, Role
from policies.services import grants, releases
from tools.catalog import catalog
from tools.models import System, Tool
from tools.services.registration import define_tool, register_system, set_endpoint
from workflows.models import Schedule, Workflow, WorkflowVersion
from workflows.services import schedules, versions
from workflows.services.schedules import Times

AGENT = "airline-assistant"
ENVIRONMENT = "prod"
_POLICIES = Path(__file__).resolve().parent / "policies"
_WORKFLOWS = Path(__file__).resolve().parent / "workflows"


def set_up() -> AgentIdentity:
    """Everything the demonstration needs; repeating it changes nothing. The agent's identity."""
    environment = Environment.objects.get(slug=ENVIRONMENT)
    system = register_system(
        "airline", actor=SYSTEM, title="Airline reservations", kind=System.Kind.IN_PROCESS
    )
    set_endpoint(system, environment, actor=SYSTEM)
    for name, attributes in definitions():
        define_tool(system, name, actor=SYSTEM, **attributes)
    accounting = _accounting(environment)
    identity = _agent(environment)
    role = grants.create_role("airline-service", actor=SYSTEM, title="Airline service desk")
    grants.add_member(role, identity, actor=SYSTEM)
    _grant_tools(role, system)
    _grant_tools(role, accounting)
    _publish_policy()
    _publish_workflows()
    _schedule(identity)
    return identity


def _accounting(environment: Environment) -> System:
    """The accounting service, which runs beside the portal as a program of its own."""
    system = register_system("accounting", actor=SYSTEM, title="Accounting", kind=System.Kind.HTTP)
    set_endpoint(
        system,
        environment,
        actor=SYSTEM,
        base_url=settings.DEMO_ACCOUNTING_URL,
        allow_private=True,
    )
    for name, attributes in ACCOUNTING:
        define_tool(system, name, actor=SYSTEM, timeout_seconds=2, **attributes)
    return system


def _agent(environment: Environment) -> AgentIdentity:
    agent = Agent.objects.filter(slug=AGENT).first()
    if agent is None:
        owner = User.objects.filter(username="desk-owner").first() or User.objects.create_user(
            "desk-owner", first_name="Service", last_name="Desk Owner"
        )
        agent = lifecycle.register_agent(
            AGENT,
            actor=SYSTEM,
            title="Airline assistant",
            purpose="Serve customers of the airline: look up, book, change and cancel.",
            owner=owner,
            sponsor=owner,
            risk=Agent.Risk.HIGH,
        )
    if agent.status == Agent.Status.DRAFT:
        lifecycle.activate(agent.pk, actor=SYSTEM, reason="Set up for the demonstration.")
    found = agent.identities.filter(environment=environment).first()
    return found or lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=environment)


def _grant_tools(role: Role, system: System) -> None:
    """Least privilege: tool by tool, and none of those that serve facts only."""
    for tool in Tool.objects.filter(system=system).callable_by_agents():
        if not role.group.toolgrouppermission_set.filter(content_object=tool).exists():
            grants.grant(role, tool, Tool.Access(tool.access), actor=SYSTEM)


def _publish_policy() -> None:
    changed = False
    for file in sorted(_POLICIES.glob("*.cedar")):
        text = file.read_text()
        saved = Policy.objects.filter(slug=file.stem).first()
        if saved is None or saved.text != text:
            releases.save_policy(file.stem, text, actor=SYSTEM)
            changed = True
    live = PolicyRelease.objects.live().first()
    current = {
        spec.full_name: spec.digest
        for spec in catalog.current().tools.values()
        if not spec.serves_facts_only
    }
    if changed or live is None or live.tools != current:
        release = releases.draft_release(actor=SYSTEM, note="The airline's written policy.")
        releases.publish(release.pk, actor=SYSTEM)


def _publish_workflows() -> None:
    for file in sorted(_WORKFLOWS.glob("*.yaml")):
        text = file.read_text()
        live = WorkflowVersion.objects.filter(workflow__live__isnull=False, text=text).first()
        if live is None:
            version = versions.draft_version(
                text, actor=SYSTEM, note="Set up for the demonstration."
            )
            versions.publish(version.pk, actor=SYSTEM)


def _schedule(identity: AgentIdentity) -> None:
    if Schedule.objects.exists():
        return
    schedules.save_schedule(
        "recertify-on-mondays",
        actor=SYSTEM,
        workflow=Workflow.objects.get(slug="recertify-certificates"),
        identity=identity,
        times=Times("0 6 * * mon", "Europe/Paris"),
        inputs={},
    )
