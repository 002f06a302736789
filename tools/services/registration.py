import json
from collections.abc import Mapping
from copy import copy
from typing import Any

from accounts.models import Environment
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from common.model_validation import validate_fields
from tools import events
from tools.catalog import plain
from tools.data_classes import ensure_acted_on
from tools.definitions import ToolSpec, compile_spec, ensure_output_schema
from tools.errors import InvalidToolDefinition, ToolStateUnchanged
from tools.models import Endpoint, System, Tool
from tools.secret_arguments import ensure_secrets_named


@deciding_command
def register_system(slug: str, *, actor: Actor, title: str, kind: System.Kind) -> System:
    """A system by its slug, made or brought up to date. Raises InvalidInput for a bad slug."""
    if "." in slug or slug in Tool.Access.values:
        message = "A system's slug has no dots and is no kind of access: policies name both."
        raise InvalidInput(message)
    system = System.objects.select_for_update().filter(slug=slug).first() or System(slug=slug)
    system.title, system.kind = title, kind
    validate_fields(system)
    system.save()
    return system


# How often a definition is compiled again because it changed while it was compiled.
MAX_TRIES = 3


@deciding_command
def set_endpoint(
    system: System,
    environment: Environment,
    *,
    actor: Actor,
    base_url: str = "",
    allow_private: bool = False,
) -> Endpoint:
    """Set the address of the system in the environment."""
    endpoint = (
        Endpoint.objects.select_for_update().filter(system=system, environment=environment).first()
    ) or Endpoint(system=system, environment=environment)
    endpoint.base_url, endpoint.allow_private = base_url, allow_private
    endpoint.save()
    return endpoint


def define_tool(system: System, name: str, *, actor: Actor, **attributes: Any) -> Tool:
    """A tool by its name, registered or with a changed definition.

    A changed definition is not served by the live policy release, which was checked against the
    former one, until a new release is published. Raises InvalidDefinition, and ToolStateUnchanged
    if somebody else defines it at the same time.

    It is compiled before the transaction: however long that takes, no decision waits for it.
    """
    for _ in range(MAX_TRIES):
        seen = Tool.objects.filter(system=system, name=name).first()
        wanted = _wanted(seen or Tool(system=system, name=name), attributes)
        spec = compile_spec(plain(wanted))
        ensure_output_schema(spec.output_schema)
        ensure_acted_on(spec.input_schema, spec.output_schema)
        ensure_secrets_named(spec.input_schema)
        defined = _define(wanted, spec, actor=actor, seen=seen)
        if defined is not None:
            return defined
    raise ToolStateUnchanged


def _wanted(tool: Tool, attributes: Mapping[str, Any]) -> Tool:
    """A copy of the tool with these attributes."""
    wanted = copy(tool)
    for attribute, value in attributes.items():
        if attribute not in {field.name for field in Tool._meta.concrete_fields}:
            message = f"A tool has no attribute {attribute}."
            raise InvalidToolDefinition(message)
        setattr(wanted, attribute, value)
    validate_fields(wanted, exclude=("definition_digest",))
    return wanted


@deciding_command
def _define(tool: Tool, spec: ToolSpec, *, actor: Actor, seen: Tool | None) -> Tool | None:
    """The tool as it was compiled, saved; None if it is not what was `seen` any more."""
    rows = Tool.objects.select_for_update(of=("self",)).select_related("system")
    now = rows.filter(system=tool.system, name=tool.name).first()
    if _stored(now) != _stored(seen):
        return None
    previous = now.definition_digest if now else None
    _ensure_sources_exist(tool, [source.tool for source in spec.sources])
    if spec.probe:
        _ensure_sources_exist(tool, [spec.probe])
    tool.definition_digest = spec.digest
    tool.save()
    if previous is None:
        record(events.TOOL_REGISTERED, actor=actor, subject=tool, digest=spec.digest)
    elif previous != spec.digest:
        record(
            events.TOOL_DEFINITION_CHANGED,
            actor=actor,
            subject=tool,
            digest=spec.digest,
            previous=previous,
        )
    return tool


def _stored(tool: Tool | None) -> str | None:
    """The definition as text: to Python, 1 and true are equal."""
    return json.dumps(plain(tool), sort_keys=True, default=str) if tool else None


def _ensure_sources_exist(tool: Tool, names: list[str]) -> None:
    readable = set(
        Tool.objects.filter(system=tool.system, access=Tool.Access.READ).values_list(
            "name", flat=True
        )
    )
    for name in names:
        if name == tool.name:
            message = f"The source {name} is the tool itself: facts come from other read tools."
            raise InvalidToolDefinition(message)
        if name not in readable:
            message = f"The source {name} is not a read tool of {tool.system}."
            raise InvalidToolDefinition(message)


@deciding_command
def withdraw_tool(tool_id: int, *, actor: Actor, reason: str) -> Tool:
    """Out of service: undecided and approved calls are denied from the commit on."""
    return _set_status(tool_id, Tool.Status.WITHDRAWN, actor=actor, reason=reason)


@deciding_command
def reinstate_tool(tool_id: int, *, actor: Actor, reason: str) -> Tool:
    return _set_status(tool_id, Tool.Status.ACTIVE, actor=actor, reason=reason)


def _set_status(tool_id: int, status: Tool.Status, *, actor: Actor, reason: str) -> Tool:
    reason = clean_reason(reason)
    try:
        tool = Tool.objects.select_for_update(of=("self",)).select_related("system").get(pk=tool_id)
    except Tool.DoesNotExist as error:
        raise NotFound from error
    if tool.status == status:
        raise ToolStateUnchanged
    tool.status = status
    tool.save(update_fields=["status"])
    event = events.TOOL_WITHDRAWN if status == Tool.Status.WITHDRAWN else events.TOOL_REINSTATED
    record(event, actor=actor, subject=tool, reason=reason)
    return tool
