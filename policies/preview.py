"""A preview of the decision on a call before its arguments are known.

Pure: read off the rules of a slice. `depends` means that a condition decides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from policies.slices import PolicyRule


@dataclass(frozen=True, slots=True)
class DecisionPreview:
    outcome: str
    rules: tuple[PolicyRule, ...]


def expected_outcome(rules: Iterable[PolicyRule]) -> DecisionPreview:
    """`allowed`, `needs_approval`, `denied`, `halted` or `depends`, and the rules that say so."""
    everything = list(rules)
    permits = [rule for rule in everything if rule.effect == "permit"]
    forbids = [rule for rule in everything if rule.effect == "forbid"]
    always = [rule for rule in forbids if not rule.body["conditions"]]
    prohibited = tuple(rule for rule in always if rule.tier is None)
    if prohibited:
        halts = any(rule.halts for rule in prohibited)
        return DecisionPreview("halted" if halts else "denied", prohibited)
    if not permits:
        return DecisionPreview("denied", ())
    conditional = tuple(rule for rule in forbids if rule.body["conditions"])
    if conditional or all(rule.body["conditions"] for rule in permits):
        return DecisionPreview("depends", (*always, *conditional))
    if always:
        return DecisionPreview("needs_approval", tuple(always))
    return DecisionPreview("allowed", ())
