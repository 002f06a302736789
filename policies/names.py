"""The names that a rule uses, and whether there are such things.

Cedar checks actions against its schema, and takes any name of an agent, a role, an environment or a
label: a prohibition that names one which does not exist would be accepted and never apply.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.slices import PolicyRule, context_paths

# Labels that no tool sets, but that runs are opened with, are named in the rule by this annotation.
RUN_LABELS = "run_labels"
_LABELS = ("run", "labels")
_KINDS = {"Agent": "agent", "Role": "role", "Environment": "environment", "Action": "action"}


@dataclass(frozen=True, slots=True)
class Known:
    """Things that exist, by name; `labels` are those that tools set."""

    agents: Collection[str]
    roles: Collection[str]
    environments: Collection[str]
    labels: Collection[str]

    def of(self, kind: str) -> Collection[str] | None:
        return {
            "agent": self.agents,
            "role": self.roles,
            "environment": self.environments,
            "label": self.labels,
        }.get(kind)


@dataclass(frozen=True, slots=True)
class Name:
    """`kind` is agent, role, environment, action or label."""

    kind: str
    id: str


def names_in(rule: PolicyRule) -> set[Name]:
    """Everything that the rule names, in its scope and in its conditions."""
    found = set(_entities(dict(rule.body)))
    return found | {Name("label", label) for label in _labels(rule.body.get("conditions"))}


def unknown_names(rule: PolicyRule, known: Known) -> list[Name]:
    """Those that there are not; actions are checked by Cedar."""
    notes = rule.body.get("annotations") or {}
    declared = {part.strip() for part in str(notes.get(RUN_LABELS) or "").split(",")}
    found = []
    for name in sorted(names_in(rule), key=lambda one: (one.kind, one.id)):
        there_are = known.of(name.kind)
        is_declared = name.kind == "label" and name.id in declared
        if there_are is not None and name.id not in there_are and not is_declared:
            found.append(name)
    return found


def _entities(node: Any) -> Iterator[Name]:
    if isinstance(node, Mapping):
        kind, identifier = node.get("type"), node.get("id")
        if kind in _KINDS and isinstance(identifier, str):
            yield Name(_KINDS[kind], identifier)
        for item in node.values():
            yield from _entities(item)
    elif isinstance(node, list):
        for item in node:
            yield from _entities(item)


def _labels(node: Any) -> Iterator[str]:
    """Texts that are compared with the run's labels, or looked for among them."""
    if isinstance(node, Mapping):
        for operator in ("contains", "containsAll", "containsAny", "==", "!=", "in"):
            sides = node.get(operator)
            if isinstance(sides, Mapping) and any(
                _LABELS in context_paths(side) for side in sides.values()
            ):
                for side in sides.values():
                    yield from _texts(side)
        for item in node.values():
            yield from _labels(item)
    elif isinstance(node, list):
        for item in node:
            yield from _labels(item)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        value = node.get("Value")
        if isinstance(value, str):
            yield value
        for item in node.values():
            yield from _texts(item)
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
