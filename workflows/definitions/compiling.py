"""From a definition's text to what the engine goes by, or to everything that is wrong with it."""

from collections.abc import Mapping
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import Any

import jsonschema_rs

from common.cel import Declared
from tools.classes import problem_of
from tools.json_schema import MAX_ENUMERATED_PARTS, enumerated_parts
from workflows.definitions import type_environment as naming
from workflows.definitions.diagnostics import Problems
from workflows.definitions.durations import duration
from workflows.definitions.schema import VALIDATOR
from workflows.definitions.source import Diagnostic, SourceText, Unreadable, read
from workflows.definitions.spec import Limits, StepSpec, StopRule, WorkflowSpec
from workflows.definitions.steps import References, StepCompiler
from workflows.definitions.templates import EMPTY
from workflows.errors import InvalidWorkflow

MAX_SCHEMA_NODES = 1_000
MAX_SCHEMA_DEPTH = 20
_NO_INPUTS = {"type": "object", "properties": {}, "additionalProperties": False}


def compile_text(text: str, world: References) -> tuple[WorkflowSpec, Any]:
    """The compiled definition and its plain values, which are what is stored and hashed.

    Raises InvalidDefinition with every problem found.
    """
    try:
        source = read(text)
    except Unreadable as error:
        raise _refused([error.problem]) from error
    return compile_source(source, world), source.value


def compile_source(source: SourceText, world: References) -> WorkflowSpec:
    """Raises InvalidDefinition with every problem found."""
    problems = Problems(source)
    raw = source.value
    if not problems.check_form(VALIDATOR, raw, (), "The definition"):
        raise _refused(problems.sorted())
    spec = _Definition(raw, problems, world).compiled()
    if problems.found:
        raise _refused(problems.sorted())
    return spec


def _refused(problems: list[Diagnostic]) -> InvalidWorkflow:
    first = problems[0]
    message = f"Line {first.line}: {first.message}"
    return InvalidWorkflow(message, problems=[problem.plain() for problem in problems])


class _Definition:
    def __init__(self, raw: Mapping[str, Any], problems: Problems, world: References) -> None:
        self._raw = raw
        self._problems = problems
        self._world = world

    def compiled(self) -> WorkflowSpec:
        raw = self._raw
        schema = self._inputs_schema()
        base = {**naming.of_inputs(schema), **naming.RUN}
        steps = self._steps(base)
        everything = naming.declared(base, *(naming.of_step(step) for step in steps.values()))
        for place, role in enumerate(raw["roles"]):
            if role not in self._world.roles:
                self._problems.add(("roles", place), f"There is no role {role}.")
        return WorkflowSpec(
            slug=raw["workflow"],
            title=raw["title"],
            description=raw.get("description", ""),
            roles=tuple(raw["roles"]),
            inputs_schema=schema,
            inputs_validator=jsonschema_rs.Draft202012Validator(dict(schema)),
            limits=_limits(raw.get("limits", {})),
            stop_when=self._stop_rules(naming.declared(naming.RUN)),
            on_failure=raw.get("on_failure", "fail"),
            on_denied=raw.get("on_denied", "halt"),
            success=self._problems.expression(
                raw["success"], everything, ("success",), of_type="BOOL"
            )
            if "success" in raw
            else None,
            output=self._problems.template(raw["output"], everything, ("output",))
            if "output" in raw
            else EMPTY,
            steps=steps,
        )

    def _inputs_schema(self) -> Mapping[str, Any]:
        schema: dict[str, Any] = {**self._raw.get("inputs", _NO_INPUTS)}
        schema.setdefault("additionalProperties", False)
        try:
            jsonschema_rs.meta.validate(schema)
            jsonschema_rs.Draft202012Validator(schema, retriever=_nothing_fetched)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            first = str(error).splitlines()[0]
            self._problems.add(("inputs",), f"The inputs' schema is not valid: {first}")
            return _NO_INPUTS
        if enumerated_parts(schema) > MAX_ENUMERATED_PARTS:
            message = "The inputs' schema enumerates lists and objects of too many parts."
            self._problems.add(("inputs",), message)
            return _NO_INPUTS
        unbounded = _unbounded(schema)
        if unbounded:
            self._problems.add(("inputs",), unbounded)
            return _NO_INPUTS
        in_vain = problem_of(schema)
        if in_vain:
            self._problems.add(("inputs",), in_vain)
            return _NO_INPUTS
        if schema.get("type") != "object":
            self._problems.add(("inputs",), "The inputs' schema must describe an object.")
            return _NO_INPUTS
        return schema

    # -- steps ---------------------------------------------------------------------------------

    def _steps(self, base: Mapping[str, str]) -> dict[str, StepSpec]:
        """In an order in which everything comes after what it needs."""
        raw = self._raw["steps"]
        needs = {name: self._needs(name, step) for name, step in raw.items()}
        try:
            order = list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            circle = [str(name) for name in error.args[1][:-1]][::-1]
            first = min(circle, key=list(raw).index)
            start = circle.index(first)
            words = " needs ".join([*circle[start:], *circle[:start], first])
            self._problems.add(("steps", first), f"A circle: {words}.")
            # What the steps may name cannot be told: the rest would only be noise.
            raise _refused(self._problems.sorted()) from error
        compensates = self._raw.get("on_failure") == "compensate"
        compiler = StepCompiler(self._problems, self._world, compensates)
        steps: dict[str, StepSpec] = {}
        for name in order:
            visible = self._visible(name, needs, steps, base)
            found = compiler.step(name, raw[name], ("steps", name), visible)
            if found is not None:
                steps[name] = found
        return steps

    def _needs(self, name: str, step: Any) -> tuple[str, ...]:
        asked = step.get("needs", ()) if isinstance(step, dict) else ()
        if not isinstance(asked, list):
            return ()
        known = []
        for place, other in enumerate(asked):
            if isinstance(other, str) and other in self._raw["steps"]:
                known.append(other)
            else:
                self._problems.add(("steps", name, "needs", place), f"There is no step {other}.")
        return tuple(known)

    def _visible(
        self,
        name: str,
        needs: Mapping[str, tuple[str, ...]],
        steps: Mapping[str, StepSpec],
        base: Mapping[str, str],
    ) -> Declared:
        """A step sees the inputs, the run, and every step that must be done before it."""
        seen: set[str] = set()
        waiting = list(needs[name])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting += needs[other]
        return naming.declared(base, *(naming.of_step(steps[one]) for one in seen if one in steps))

    def _stop_rules(self, names: Declared) -> tuple[StopRule, ...]:
        found = []
        for place, rule in enumerate(self._raw.get("stop_when", ())):
            condition = self._problems.expression(
                rule["if"], names, ("stop_when", place, "if"), of_type="BOOL"
            )
            if condition is not None:
                found.append(StopRule(condition, rule["reason"], rule.get("then", "halt")))
        return tuple(found)


def _unbounded(schema: Mapping[str, Any]) -> str:
    """Return the part of a schema that could make the check of an input slow; inputs are checked
    under locks.
    """
    nodes: list[tuple[Any, int]] = [(schema, 0)]
    size = 0
    while nodes:
        node, depth = nodes.pop()
        size += 1
        if depth > MAX_SCHEMA_DEPTH or size > MAX_SCHEMA_NODES:
            return (
                f"The inputs' schema is larger than {MAX_SCHEMA_NODES} parts or nested deeper "
                f"than {MAX_SCHEMA_DEPTH}."
            )
        if isinstance(node, Mapping):
            if {"$ref", "$dynamicRef"} & set(node):
                return "The inputs' schema must not refer to itself ($ref)."
            nodes += ((item, depth + 1) for item in node.values())
        elif isinstance(node, list):
            nodes += ((item, depth + 1) for item in node)
    return ""


def _limits(raw: Mapping[str, Any]) -> Limits:
    usual = Limits()
    return Limits(
        deadline=duration(raw["deadline"]) if "deadline" in raw else usual.deadline,
        max_steps=raw.get("max_steps", usual.max_steps),
        actions=raw.get("actions"),
        amount=Decimal(str(raw["amount"])) if "amount" in raw else None,
    )


def _nothing_fetched(uri: str) -> Any:
    message = "A schema may only refer to itself."
    raise ValueError(message)
