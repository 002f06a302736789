"""A policy release cut into slices by scope, so that a decision asks only what can apply.

A rule's scope (principal, action, resource) says for which requests it can matter at all. Rules
that cannot match a request cannot change its answer, so the slice's answer is the whole set's; a
property test holds the two equal. Slices are found through an index by action and kept.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cedarpy

MAX_HELD = 5_000


class SliceKey(Protocol):
    """The part of a request that scopes look at, and its context."""

    @property
    def agent(self) -> str: ...
    @property
    def risk(self) -> str: ...
    @property
    def roles(self) -> frozenset[str]: ...
    @property
    def action(self) -> str: ...
    @property
    def system(self) -> str: ...
    @property
    def access(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def context(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One policy with what its annotations say."""

    id: str
    effect: str
    title: str
    sentence: str
    tier: str | None
    halts: bool
    control: str
    body: Mapping[str, Any]

    @classmethod
    def from_cedar(cls, body: Mapping[str, Any], *, fallback_id: str) -> "PolicyRule":
        notes = body.get("annotations") or {}
        identifier = notes.get("id") or fallback_id
        return cls(
            id=identifier,
            effect=body["effect"],
            title=notes.get("title") or identifier,
            sentence=notes.get("reason") or notes.get("title") or identifier,
            tier=notes.get("tier"),
            halts="halt" in notes,
            control=notes.get("control") or "",
            body=body,
        )


Path = tuple[str, ...]


def context_paths(node: Any) -> set[Path]:
    """Return the parts of the context that a rule's body reads, each as its path:
    `context.facts.price` is ("facts", "price"). A shorter path means everything below it.
    """
    found: set[Path] = set()
    if isinstance(node, Mapping):
        whole = _path_of(node)
        if whole is not None:
            return {whole}
        tested = node.get("has")
        if isinstance(tested, Mapping):
            base = _path_of(tested.get("left"))
            if base is not None:
                return {(*base, str(tested.get("attr")))}
        for item in node.values():
            found |= context_paths(item)
    elif isinstance(node, list):
        for item in node:
            found |= context_paths(item)
    return found


def _path_of(node: Any) -> Path | None:
    """The path of an expression that is nothing but attributes of the context."""
    if not isinstance(node, Mapping):
        return None
    if node.get("Var") == "context":
        return ()
    step = node.get(".")
    if not isinstance(step, Mapping):
        return None
    base = _path_of(step.get("left"))
    return None if base is None else (*base, str(step["attr"]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cedar's answer: the rules that determined it, and whether a permit applies at all."""

    allowed: bool
    permitted: bool
    rules: tuple[PolicyRule, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Slice:
    rules: Mapping[str, PolicyRule]
    everything: cedarpy.PolicySet
    permits: cedarpy.PolicySet
    # What of the context any of them reads.
    paths: frozenset[Path]


def parsed_rules(text: str) -> list[PolicyRule]:
    """The rules of a Cedar text, in order. Raises ValueError if it does not parse."""
    static = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    numbered = sorted(static.items(), key=lambda item: int(item[0].removeprefix("policy")))
    return [PolicyRule.from_cedar(body, fallback_id=name) for name, body in numbered]


class SlicedPolicies:
    """A release's rules, ready to be asked. Safe to share between threads."""

    def __init__(self, number: int, rules: list[PolicyRule], tools: Mapping[str, str]) -> None:
        self.number = number
        self.rules = rules
        self.tools = tools
        self._by_action: dict[str, list[PolicyRule]] = defaultdict(list)
        for rule in rules:
            for action in _action_keys(rule.body["action"]):
                self._by_action[action].append(rule)
        self._slice_of: dict[tuple[Any, ...], _Slice] = {}
        self._shared: dict[tuple[str, ...], _Slice] = {}
        self._paths: dict[str, frozenset[Path]] = {}
        self._entities: dict[tuple[Any, ...], cedarpy.Entities] = {}

    def facts_of(self, ids: Collection[str]) -> set[str] | None:
        """The names of the facts that these rules look at; None if that may be any of them."""
        found: set[str] = set()
        for rule in self.rules:
            if rule.id not in ids:
                continue
            for path in self.paths_of(rule):
                if not path or path == ("facts",):
                    return None
                if path[0] == "facts":
                    found.add(path[1])
        return found

    def looks_at(self, request: SliceKey, paths: Collection[Path]) -> bool:
        """Whether a rule that can apply to the request reads one of these, a part, or the whole."""
        read = self.slice_for(request).paths
        return any(
            one[: len(other)] == other or other[: len(one)] == one
            for one in read
            for other in paths
        )

    def paths_of(self, rule: PolicyRule) -> frozenset[Path]:
        held = self._paths.get(rule.id)
        if held is None:
            held = self._paths[rule.id] = frozenset(context_paths(rule.body.get("conditions")))
        return held

    def ask(self, request: SliceKey) -> Verdict:
        return _verdict(self.slice_for(request), request, self._entities_of(request))

    def ask_everything(self, request: SliceKey) -> Verdict:
        """The same question to the unsliced set; for comparing the two."""
        return _verdict(_built(tuple(self.rules)), request, self._entities_of(request))

    def slice_for(self, request: SliceKey) -> _Slice:
        # All that scopes look at: the slices outlive a tool's change of system or access.
        key = (
            request.action,
            request.system,
            request.access,
            request.environment,
            request.agent,
            request.roles,
        )
        held = self._slice_of.get(key)
        if held is None:
            held = self._cut(request)
            _keep(self._slice_of, key, held)
        return held

    def _cut(self, request: SliceKey) -> _Slice:
        candidates = {
            rule.id: rule
            for action in (request.action, request.system, request.access, "*")
            for rule in self._by_action.get(action, ())
        }
        matching = tuple(
            rule
            for rule in candidates.values()
            if _principal_matches(rule.body["principal"], request)
            and _resource_matches(rule.body["resource"], request)
        )
        ids = tuple(sorted(rule.id for rule in matching))
        shared = self._shared.get(ids)
        if shared is None:
            shared = _built(matching)
            _keep(self._shared, ids, shared)
        return shared

    def _entities_of(self, request: SliceKey) -> cedarpy.Entities:
        key = (
            request.action,
            request.system,
            request.access,
            request.agent,
            request.risk,
            request.roles,
        )
        held = self._entities.get(key)
        if held is None:
            held = _entities(request)
            _keep(self._entities, key, held)
        return held


def _keep(held: dict[Any, Any], key: Any, value: Any) -> None:
    # Names of agents and roles come from our own tables; the bound only guards memory.
    if len(held) >= MAX_HELD:
        held.clear()
    held[key] = value


def _built(rules: tuple[PolicyRule, ...]) -> _Slice:
    return _Slice(
        rules={rule.id: rule for rule in rules},
        everything=_policy_set(rules),
        permits=_policy_set(tuple(rule for rule in rules if rule.effect == "permit")),
        paths=frozenset(
            path for rule in rules for path in context_paths(rule.body.get("conditions"))
        ),
    )


def _policy_set(rules: tuple[PolicyRule, ...]) -> cedarpy.PolicySet:
    document = {
        "staticPolicies": {rule.id: dict(rule.body) for rule in rules},
        "templates": {},
        "templateLinks": [],
    }
    return cedarpy.PolicySet.from_json_str(json.dumps(document))


def _verdict(part: _Slice, request: SliceKey, entities: cedarpy.Entities) -> Verdict:
    question = {
        "principal": {"type": "Agent", "id": request.agent},
        "action": {"type": "Action", "id": request.action},
        "resource": {"type": "Environment", "id": request.environment},
        "context": dict(request.context),
    }
    answer = cedarpy.is_authorized(question, part.everything, entities)
    allowed = answer.allowed
    rules = tuple(part.rules[name] for name in sorted(answer.diagnostics.reasons))
    errors = tuple(sorted(answer.diagnostics.errors))
    permitted = allowed
    if not allowed and rules and not errors and all(rule.tier for rule in rules):
        # Only gates stand in the way: they matter only to somebody who has authority at all.
        permitted = cedarpy.is_authorized(question, part.permits, entities).allowed
    return Verdict(allowed, permitted, rules, errors)


def _entities(request: SliceKey) -> cedarpy.Entities:
    return cedarpy.Entities.from_json_str(
        json.dumps(
            [
                {
                    "uid": {"type": "Agent", "id": request.agent},
                    "attrs": {"risk": request.risk},
                    "parents": [{"type": "Role", "id": role} for role in sorted(request.roles)],
                },
                {
                    "uid": {"type": "Action", "id": request.action},
                    "attrs": {},
                    "parents": [
                        {"type": "Action", "id": request.system},
                        {"type": "Action", "id": request.access},
                    ],
                },
            ]
        )
    )


def _action_keys(scope: Mapping[str, Any]) -> list[str]:
    """The actions or groups of actions that a scope names; `*` for any."""
    if scope["op"] == "All":
        return ["*"]
    entities = scope.get("entities") or [scope["entity"]]
    return [entity["id"] for entity in entities]


def _principal_matches(scope: Mapping[str, Any], request: SliceKey) -> bool:
    operator = scope["op"]
    if operator == "All":
        return True
    if operator == "is":
        within = scope.get("in")
        return scope["entity_type"] == "Agent" and (
            within is None or _principal_in(within["entity"], request)
        )
    if operator == "==":
        return bool(scope["entity"] == {"type": "Agent", "id": request.agent})
    return _principal_in(scope["entity"], request)


def _principal_in(entity: Mapping[str, Any], request: SliceKey) -> bool:
    if entity["type"] == "Agent":
        return bool(entity["id"] == request.agent)
    return entity["type"] == "Role" and entity["id"] in request.roles


def _resource_matches(scope: Mapping[str, Any], request: SliceKey) -> bool:
    operator = scope["op"]
    if operator == "All":
        return True
    if operator == "is":
        within = scope.get("in")
        return scope["entity_type"] == "Environment" and (
            within is None or _is_environment(within["entity"], request)
        )
    return _is_environment(scope["entity"], request)


def _is_environment(entity: Mapping[str, Any], request: SliceKey) -> bool:
    return bool(entity == {"type": "Environment", "id": request.environment})
