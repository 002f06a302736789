"""Checking policy text before it is kept, with the line that is wrong."""

import bisect
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from policies.names import RUN_LABELS, Known, unknown_names
from policies.slices import PolicyRule, parsed_rules

MAX_LENGTH = 20_000
MAX_DEPTH = 60
MAX_OPERATORS = 250
_END = "unexpected end of input"
# As in Cedar, a carriage return alone ends a comment too.
_COMMENTS = re.compile(r"//[^\r\n]*")
_NOTES = re.compile(r'@\w+\(\s*"(?:[^"\\]|\\.)*"\s*\)')
# Strings and comments are one token each: brackets in them do not count.
_BOUNDED = re.compile(
    r'//[^\r\n]*|"(?:[^"\\]|\\.)*"|==|!=|<=|>=|&&|\|\||\b(?:if|has|like|in|is|when|unless)\b|[\s\S]'
)
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_WORDS = ("if", "has", "like", "in", "is", "when", "unless")
_OPERATORS = frozenset(("&&", "||", "+", "-", "*", "!", ".", "[", *_WORDS))
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\w+|::|==|!=|<=|>=|&&|\|\||\S')


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Something wrong at a line (counted from 1) of a text."""

    line: int
    message: str

    def plain(self) -> dict[str, Any]:
        return {"line": self.line, "message": self.message}


def problems_of(
    text: str,
    *,
    expected_id: str,
    schema: Mapping[str, Any],
    tiers: Iterable[str],
    known: Known | None = None,
) -> list[PolicyProblem]:
    """Return the problems of one policy's text; empty if there are none.

    Beyond Cedar's strict validation against the schema: exactly one policy, its @id as expected, a
    known tier, a reason for whatever stops an agent, a condition that can be true, and names that
    there are (`known`; not looked at without it).
    """
    too_much = _bound_problem(text)
    if too_much is not None:
        return [too_much]
    try:
        rules = parsed_rules(text)
    except ValueError as error:
        return [PolicyProblem(_line_of_parse_error(text, str(error)), str(error))]
    if _has_templates(text):
        return [
            PolicyProblem(
                _line_of(text, r"\?\w+"), "Templates are not linked here: name who it is."
            )
        ]
    if len(rules) != 1:
        return [PolicyProblem(1, f"Write one rule here; this text holds {len(rules)}.")]
    rule = rules[0]
    found = _annotation_problems(text, rule, expected_id=expected_id, tiers=set(tiers))
    found += _name_problems(text, rule, known) if known is not None else []
    validation = cedarpy.validate_policies(text, dict(schema))
    found += [
        PolicyProblem(_line_of_error(text, broken.error), _readable(broken.error))
        for broken in validation.errors
    ]
    return found or _condition_problems(text, rule, schema)


def _condition_problems(
    text: str, rule: PolicyRule, schema: Mapping[str, Any]
) -> list[PolicyProblem]:
    try:
        message = "This condition is never true." if _can_never_apply(rule, schema) else ""
    except ValueError:  # beyond the depth to which Cedar reads its JSON form
        message = "This condition has too many parts: use a set, as in [1, 2].contains(x)."
    return [PolicyProblem(_line_of(text, r"\b(?:when|unless)\b"), message)] if message else []


def _bound_problem(text: str) -> PolicyProblem | None:
    """Return a problem for a text that is too long or nested too deeply for a parser."""
    if len(text) > MAX_LENGTH:
        return PolicyProblem(1, f"A rule has at most {MAX_LENGTH:,} characters.")
    depth, operators, line = 0, 0, 1
    for found in _BOUNDED.finditer(text):
        token = found.group()
        line += token.count("\n")
        depth += (token in _OPENING) - (token in _CLOSING)
        # Each makes the condition one level deeper.
        operators += token in _OPERATORS
        if depth > MAX_DEPTH:
            return PolicyProblem(line, f"Brackets are nested deeper than {MAX_DEPTH} levels.")
        if operators > MAX_OPERATORS:
            return PolicyProblem(
                line, f"A rule has at most {MAX_OPERATORS} operators and accesses."
            )
    return None


def _has_templates(text: str) -> bool:
    return bool(json.loads(cedarpy.policies_to_json_str(text)).get("templates"))


def _annotation_problems(
    text: str, rule: PolicyRule, *, expected_id: str, tiers: set[str]
) -> list[PolicyProblem]:
    notes = rule.body.get("annotations") or {}
    found = []
    if notes.get("id") != expected_id:
        found.append(
            PolicyProblem(_line_of(text, r"@id\b"), f'The rule needs @id("{expected_id}").')
        )
    if rule.effect == "permit" and (rule.tier is not None or rule.halts):
        found.append(
            PolicyProblem(
                _line_of(text, r"@(?:tier|halt)\b"), "Only a forbid can be a gate or a halt."
            )
        )
    if rule.tier is not None and rule.halts:
        found.append(
            PolicyProblem(_line_of(text, r"@halt\b"), "A rule is a gate or a halt, not both.")
        )
    if "tier" in notes and rule.tier not in tiers:
        found.append(
            PolicyProblem(_line_of(text, r"@tier\b"), f'There is no tier "{rule.tier or ""}".')
        )
    if rule.effect == "forbid" and not (notes.get("reason") or "").strip():
        found.append(
            PolicyProblem(1, "A forbid needs @reason: the sentence that people and agents see.")
        )
    return found


def _name_problems(text: str, rule: PolicyRule, known: Known) -> list[PolicyProblem]:
    found = []
    for name in unknown_names(rule, known):
        there_are = list(known.of(name.kind) or ())
        near = difflib.get_close_matches(name.id, there_are, n=1)
        message = f'There is no {name.kind} "{name.id}", so this would never apply.'
        if near:
            message += f' Is "{near[0]}" meant?'
        elif name.kind == "label":
            message += f' If runs are opened with it, write @{RUN_LABELS}("{name.id}").'
        found.append(PolicyProblem(_line_of(text, re.escape(f'"{name.id}"')), message))
    return found


def _can_never_apply(rule: PolicyRule, schema: Mapping[str, Any]) -> bool:
    """Whether the type checker knows the condition to be false.

    Cedar only warns of this. A branch that cannot be reached is not type-checked, so a policy
    that is ill-typed exactly where its condition holds is accepted only if it never holds.
    """
    conditions = [
        body["body"] if body["kind"] == "when" else {"!": {"arg": body["body"]}}
        for body in rule.body["conditions"]
    ]
    if not conditions:
        return False
    together = conditions[0]
    for condition in conditions[1:]:
        together = {"&&": {"left": together, "right": condition}}
    ill_typed = {"<": {"left": {"Value": 1}, "right": {"Value": "x"}}}
    probe = {
        **rule.body,
        "conditions": [
            {
                "kind": "when",
                "body": {
                    "if-then-else": {"if": together, "then": ill_typed, "else": {"Value": True}}
                },
            }
        ],
    }
    document = {"staticPolicies": {"probe": probe}, "templates": {}, "templateLinks": []}
    text = cedarpy.policies_from_json_str(json.dumps(document))
    return cedarpy.validate_policies(text, dict(schema)).validation_passed


def _readable(error: str) -> str:
    return re.sub(r"^for policy `[^`]*`, ", "", error)


def _line_of_parse_error(text: str, message: str) -> int:
    """The first token after which the text is no longer the beginning of a valid one.

    Found by bisection: a prefix either may still become valid (it ends too early) or holds the
    wrong token, and then every longer prefix does.
    """
    tokens = list(_TOKEN.finditer(text))
    if not tokens:
        return 1

    def is_wrong(index: int) -> bool:
        try:
            cedarpy.policies_to_json_str(text[: tokens[index].end()])
        except ValueError as error:
            return str(error) == message and message != _END
        return False

    first = bisect.bisect_left(range(len(tokens)), 1, key=is_wrong)
    return text.count("\n", 0, tokens[min(first, len(tokens) - 1)].start()) + 1


def _line_of_error(text: str, message: str) -> int:
    """The first line that holds one of the names in the message; most precise name first."""
    named = re.findall(r"`([^`]+)`", message)
    for name in sorted(named, key=len, reverse=True):
        parts = name.split(".")
        for count in range(len(parts)):
            wanted = re.escape(".".join(parts[count:])) + r"(?!\w)"
            line = _line_of(_without(_NOTES, text), wanted, missing=0)
            if line:
                return line
    if "scope" in message:
        return _line_of(text, r"\b(?:permit|forbid)\b")
    return _line_of(text, r"\b(?:when|unless)\b")


def _without(pattern: re.Pattern[str], text: str) -> str:
    """The text with matches blanked out, every line where it was."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def _line_of(text: str, pattern: str, *, missing: int = 1) -> int:
    found = re.search(pattern, _without(_COMMENTS, text))
    return text.count("\n", 0, found.start()) + 1 if found else missing
