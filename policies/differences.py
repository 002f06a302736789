"""The difference between two releases: rules by their ids, tools by their digests. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from policies.slices import PolicyRule, parsed_rules


@dataclass(frozen=True)
class Difference:
    """`changed` holds each rule as it was and as it is. Tools are full names."""

    added: tuple[PolicyRule, ...]
    changed: tuple[tuple[PolicyRule, PolicyRule], ...]
    removed: tuple[PolicyRule, ...]
    tools_added: tuple[str, ...]
    tools_changed: tuple[str, ...]
    tools_removed: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        rules = self.added or self.changed or self.removed
        return not (rules or self.tools_added or self.tools_changed or self.tools_removed)

    @property
    def rule_ids(self) -> set[str]:
        """Of every rule that is not the same in both."""
        kept = {new.id for _, new in self.changed}
        return kept | {rule.id for rule in (*self.added, *self.removed)}

    @property
    def tools(self) -> set[str]:
        return {*self.tools_added, *self.tools_changed, *self.tools_removed}


def difference(
    old_text: str, new_text: str, *, old_tools: Mapping[str, str], new_tools: Mapping[str, str]
) -> Difference:
    """From the old release to the new one; an empty text is no release."""
    old, new = _by_id(old_text), _by_id(new_text)
    both = sorted(set(old) & set(new))
    shared = sorted(set(old_tools) & set(new_tools))
    return Difference(
        added=tuple(new[name] for name in sorted(set(new) - set(old))),
        changed=tuple((old[n], new[n]) for n in both if old[n].body != new[n].body),
        removed=tuple(old[name] for name in sorted(set(old) - set(new))),
        tools_added=tuple(sorted(set(new_tools) - set(old_tools))),
        tools_changed=tuple(name for name in shared if old_tools[name] != new_tools[name]),
        tools_removed=tuple(sorted(set(old_tools) - set(new_tools))),
    )


def _by_id(text: str) -> dict[str, PolicyRule]:
    return {rule.id: rule for rule in parsed_rules(text)} if text.strip() else {}


def cedar_of(rule: PolicyRule) -> str:
    """The rule as Cedar text, without its annotations, which are its words."""
    body: dict[str, Any] = {**rule.body, "annotations": {}}
    document = {"staticPolicies": {"policy0": body}, "templates": {}, "templateLinks": []}
    return str(cedarpy.policies_from_json_str(json.dumps(document))).strip()


def plain(found: Difference) -> dict[str, Any]:
    """As people are shown it, and as an approval request keeps it."""
    return {
        "added": [_words(rule) for rule in found.added],
        "changed": [{"was": _words(old), "is": _words(new)} for old, new in found.changed],
        "removed": [_words(rule) for rule in found.removed],
        "tools_added": list(found.tools_added),
        "tools_changed": list(found.tools_changed),
        "tools_removed": list(found.tools_removed),
    }


def _words(rule: PolicyRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "title": rule.title,
        "reason": rule.sentence,
        "effect": effect_of(rule),
        "tier": rule.tier or "",
        "condition": cedar_of(rule),
    }


def effect_of(rule: PolicyRule) -> str:
    """In a word: what the rule does where it applies."""
    if rule.effect == "permit":
        return "permits"
    if rule.halts:
        return "stops the run"
    return "asks people" if rule.tier else "prohibits"
