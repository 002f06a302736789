"""All tools and endpoints, compiled, as one frozen value per generation."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.generation_cache import PerGeneration
from tools.connectors.base import EndpointSpec, SecretSpec
from tools.definitions import ToolSpec, compile_spec, linked
from tools.models import Endpoint, Secret, Tool


@dataclass(frozen=True)
class Catalog:
    tools: Mapping[str, ToolSpec]
    endpoints: Mapping[tuple[str, str], EndpointSpec]

    def address_of(self, spec: ToolSpec, environment: str) -> str:
        """Return the address of the tool's calls in the environment; empty if there is none or it
        is in this process.
        """
        endpoint = self.endpoints.get((spec.system, environment))
        return endpoint.base_url if endpoint is not None else ""

    def tool_of(self, system: str, name: str) -> ToolSpec | None:
        return self.tools.get(f"{system}.{name}")


def plain(tool: Tool) -> dict[str, Any]:
    """A tool's attributes as `compile_spec` takes them."""
    return {
        "pk": tool.pk,
        "system_pk": tool.system_id,
        "system": tool.system.slug,
        "kind": tool.system.kind,
        "withdrawn": tool.status == Tool.Status.WITHDRAWN,
        **{
            name: getattr(tool, name)
            for name in (
                "name",
                "title",
                "description",
                "path",
                "access",
                "idempotent",
                "timeout_seconds",
                "input_schema",
                "output_schema",
                "labels",
                "sources",
                "facts",
                "claims",
                "amount",
                "probe",
                "exclusive_by",
                "serves_facts_only",
            )
        },
    }


# What was compiled last, by tool: most changes of generation change no tool at all.
_compiled: dict[int, tuple[str, ToolSpec]] = {}


def _spec(tool: Tool) -> ToolSpec:
    row = plain(tool)
    # As text: to Python 1, 1.0 and True are equal, to a schema they are not.
    written = json.dumps(row, sort_keys=True)
    held = _compiled.get(tool.pk)
    if held is None or held[0] != written:
        held = _compiled[tool.pk] = (written, compile_spec(row))
    return held[1]


def _secret(row: Secret) -> SecretSpec:
    return SecretSpec(
        pk=row.pk,
        name=row.name,
        placement=row.placement,
        parameter=row.parameter,
        prefix=row.prefix,
        username=row.username,
        origin=row.origin,
    )


def _build() -> Catalog:
    specs = {one.full_name: one for one in map(_spec, Tool.objects.select_related("system"))}
    secrets: dict[int, list[SecretSpec]] = defaultdict(list)
    for row in Secret.objects.in_force().order_by("pk"):
        secrets[row.endpoint_id].append(_secret(row))
    endpoints = [
        EndpointSpec(
            system=row.system.slug,
            environment=row.environment_id,
            base_url=row.base_url,
            allow_private=row.allow_private,
            max_response_bytes=row.max_response_bytes,
            secrets=tuple(secrets[row.pk]),
        )
        for row in Endpoint.objects.select_related("system")
    ]
    return Catalog(
        tools={name: linked(spec, specs) for name, spec in specs.items()},
        endpoints={(row.system, row.environment): row for row in endpoints},
    )


catalog = PerGeneration(_build)
