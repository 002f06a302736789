"""A version's definition as the engine goes by it, compiled once per process.

A version never changes, so neither does this.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from agents.models import Agent
from approvals.models import Tier
from policies.models import Role
from tools.catalog import catalog
from tools.classes import apart_class
from tools.definitions import ToolSpec
from workflows.definitions.compiling import compile_text
from workflows.definitions.spec import PinnedTool, WorkflowSpec
from workflows.definitions.steps import References
from workflows.models import Workflow, WorkflowRun, WorkflowVersion


def pinned(spec: ToolSpec) -> PinnedTool:
    return PinnedTool(
        name=spec.full_name,
        digest=spec.digest,
        title=spec.title,
        access=spec.access,
        idempotent=spec.idempotent,
        probe=spec.probe,
        timeout_seconds=spec.timeout_seconds,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
    )


def current_references() -> References:
    """Return the things that a definition may refer to at this moment."""
    tools = catalog.current().tools.values()
    return References(
        tools={spec.full_name: pinned(spec) for spec in tools if not spec.serves_facts_only},
        tiers=frozenset(Tier.objects.values_list("slug", flat=True)),
        roles=frozenset(Role.objects.values_list("slug", flat=True)),
        workflows=frozenset(
            Workflow.objects.filter(live__isnull=False).values_list("slug", flat=True)
        ),
        agents=frozenset(
            Agent.objects.exclude(status=Agent.Status.RETIRED).values_list("slug", flat=True)
        ),
    )


def written_down(world: References, tools: frozenset[str]) -> dict[str, Any]:
    """The part of the world that a definition speaks of, as it is kept with a version."""
    return {
        "tools": {
            name: {field: getattr(tool, field) for field in PinnedTool.__slots__}
            for name, tool in world.tools.items()
            if name in tools
        },
        "tiers": sorted(world.tiers),
        "roles": sorted(world.roles),
        "workflows": sorted(world.workflows),
        "agents": sorted(world.agents),
    }


def read_back(kept: Mapping[str, Any]) -> References:
    return References(
        tools={name: PinnedTool(**fields) for name, fields in kept["tools"].items()},
        tiers=frozenset(kept["tiers"]),
        roles=frozenset(kept["roles"]),
        workflows=frozenset(kept["workflows"]),
        agents=frozenset(kept["agents"]),
    )


@lru_cache(maxsize=512)
def _compiled(version_id: int, digest: str) -> WorkflowSpec:
    version = WorkflowVersion.objects.get(pk=version_id, digest=digest)
    # From the text: what is stored as JSON has lost the order in which the steps were written.
    return compile_text(version.text, read_back(version.world))[0]


_digests: dict[int, str] = {}


def digest_of(version_id: int) -> str:
    """Raises WorkflowVersion.DoesNotExist."""
    digest = _digests.get(version_id)
    if digest is None:
        digest = WorkflowVersion.objects.values_list("digest", flat=True).get(pk=version_id)
        _digests[version_id] = digest
    return digest


def spec_of(version_id: int) -> WorkflowSpec:
    """Raises WorkflowVersion.DoesNotExist."""
    return _compiled(version_id, digest_of(version_id))


def data_class_of(spec: WorkflowSpec, *, parent: UUID | None, run: UUID | None = None) -> str:
    """The class of what a run of it makes, which the log keeps apart: the strictest that it works
    with, or any run that one began for the other, up or down.
    """
    if parent is None and (run is None or not spec.begins_others):
        return spec.data_class
    return apart_class([spec.data_class, *_classes_of_family(parent or run)])


def _classes_of_family(run: UUID | None) -> list[str]:
    """The classes of all runs of which one began the other, as far as they have begun."""
    above, top = run, run
    while above is not None:
        top = above
        above = WorkflowRun.objects.values_list("parent_id", flat=True).get(pk=above)
    classes: list[str] = []
    level = WorkflowRun.objects.filter(pk=top)
    while True:
        # By version: a run may have begun a thousand others that are alike.
        versions = set(level.order_by().values_list("version_id", flat=True).distinct())
        classes += [spec_of(version).data_class for version in versions]
        deeper = [version for version in versions if spec_of(version).begins_others]
        if not deeper:
            return classes
        begun_by = level.filter(version_id__in=deeper).values("pk")
        level = WorkflowRun.objects.filter(parent_id__in=begun_by)


def forget_compiled() -> None:
    """As after a change of database under a living process."""
    _digests.clear()
    _compiled.cache_clear()
