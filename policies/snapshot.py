"""Everything a decision needs, as one frozen value per generation: no query on the hot path."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from agents.directory import Directory, directory
from agents.tokens import Caller
from approvals.services import TierSnapshot, terms_by_slug
from audit.generation_cache import PerGeneration
from policies.models import (
    Elevation,
    PolicyRelease,
    RoleMembership,
    SystemGroupPermission,
    ToolGroupPermission,
)
from policies.schema import Shape, input_shape
from policies.slices import SlicedPolicies, parsed_rules
from tools.catalog import Catalog, catalog
from tools.definitions import ToolSpec

# (role, "system" | "tool", primary key, access)
Grant = tuple[str, str, int, str]
# The role that policies see, beside an agent's own, on a call that an elevation allows.
ELEVATED = "elevated"


@dataclass(frozen=True, slots=True)
class Elevated:
    """An elevation in force."""

    id: UUID
    tools: frozenset[str]
    ends_at: datetime


@dataclass(frozen=True)
class Snapshot:
    directory: Directory
    catalog: Catalog
    roles_of: Mapping[int, frozenset[str]]
    grants: frozenset[Grant]
    tiers: Mapping[str, TierSnapshot]
    ranks: Mapping[str, int]
    policies: SlicedPolicies | None
    # (identity, run): what was given for it
    elevations: Mapping[tuple[int, UUID], tuple[Elevated, ...]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def roles(self, caller: Caller) -> frozenset[str]:
        return self.roles_of.get(caller.identity.pk, frozenset())

    def is_granted(self, roles: frozenset[str], tool: ToolSpec) -> bool:
        """Whether one of the roles holds a grant for the tool's access, on it or on its system."""
        return any(
            (role, "tool", tool.pk, tool.access) in self.grants
            or (role, "system", tool.system_pk, tool.access) in self.grants
            for role in roles
        )

    def elevation(
        self, identity: int, run_id: UUID | None, tool: str, *, now: datetime
    ) -> Elevated | None:
        """Return the elevation that lets the identity call the tool in this run now, beyond its
        grants.
        """
        if run_id is None:
            return None
        given = self.elevations.get((identity, run_id), ())
        return next((one for one in given if tool in one.tools and now < one.ends_at), None)

    def shape(self, tool: ToolSpec) -> Shape:
        found = self.shapes.get(tool.full_name)
        if found is None:
            found = self.shapes[tool.full_name] = input_shape(tool)
        return found


def _grants() -> frozenset[Grant]:
    found: set[Grant] = set()
    for kind, model in (("system", SystemGroupPermission), ("tool", ToolGroupPermission)):
        standing = model.objects.filter(group__role__isnull=False, by_elevation=False)
        rows = standing.values_list(
            "group__role__slug", "content_object_id", "permission__codename"
        )
        found.update((role, kind, pk, name.removeprefix("call_")) for role, pk, name in rows)
    return frozenset(found)


def _elevations() -> dict[tuple[int, UUID], tuple[Elevated, ...]]:
    found: dict[tuple[int, UUID], tuple[Elevated, ...]] = {}
    for row in Elevation.objects.active():
        if row.ends_at is not None:
            given = Elevated(row.pk, frozenset(row.tools), row.ends_at)
            key = (row.identity_id, row.run_id)
            found[key] = (*found.get(key, ()), given)
    return found


@lru_cache(maxsize=2)
def _sliced(pk: int, digest: str) -> SlicedPolicies:
    """A release is immutable, so it is parsed once and keeps its slices over generations."""
    release = PolicyRelease.objects.get(pk=pk, digest=digest)
    return SlicedPolicies(release.number, parsed_rules(release.text), release.tools)


def _live_policies() -> SlicedPolicies | None:
    live = PolicyRelease.objects.live().values_list("pk", "digest").first()
    return _sliced(*live) if live else None


def _build() -> Snapshot:
    roles: dict[int, set[str]] = defaultdict(set)
    for identity, role in RoleMembership.objects.values_list("identity_id", "role__slug"):
        roles[identity].add(role)
    tiers = terms_by_slug()
    return Snapshot(
        directory=directory.current(),
        catalog=catalog.current(),
        roles_of={identity: frozenset(slugs) for identity, slugs in roles.items()},
        grants=_grants(),
        tiers=tiers,
        ranks={slug: terms.rank for slug, terms in tiers.items()},
        policies=_live_policies(),
        elevations=_elevations(),
    )


snapshot = PerGeneration(_build)
