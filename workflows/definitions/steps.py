"""Compiling the steps of a definition."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from common.cel import Declared
from workflows.definitions import type_environment as naming
from workflows.definitions.diagnostics import Problems
from workflows.definitions.durations import duration
from workflows.definitions.schema import INNER_KINDS, STEP_VALIDATORS
from workflows.definitions.source import Path
from workflows.definitions.spec import (
    Approval,
    Child,
    Foreach,
    PinnedTool,
    Retry,
    StepSpec,
    ToolCall,
    Wait,
)

_FITS = {
    "string": {"STRING"},
    "integer": {"INT"},
    "number": {"DOUBLE", "INT"},
    "boolean": {"BOOL"},
    "array": {"LIST"},
    "object": {"MAP"},
}


@dataclass(frozen=True)
class References:
    """Things that a definition may refer to, at the moment it is checked."""

    tools: Mapping[str, PinnedTool]
    tiers: frozenset[str]
    roles: frozenset[str]
    workflows: frozenset[str]
    agents: frozenset[str]


@dataclass(frozen=True)
class StepCompiler:
    """Compiles single steps; what a step may name is handed in."""

    problems: Problems
    world: References
    compensates: bool  # what cannot be undone must say so

    def step(self, name: str, raw: Any, path: Path, names: Declared) -> StepSpec | None:
        """The step, or None if its form is wrong."""
        kind = kind_of(raw)
        if kind is None:
            kinds = ", ".join(STEP_VALIDATORS)
            self.problems.add(path, f"The step {name} must be exactly one of: {kinds}.")
            return None
        if not self.problems.check_form(STEP_VALIDATORS[kind], raw, path, f"The step {name}"):
            return None
        when = None
        if "when" in raw:
            when = self.problems.expression(raw["when"], names, (*path, "when"), of_type="BOOL")
        found: dict[str, Any] = getattr(self, f"_{kind}")(raw, path, names)
        return StepSpec(
            name=name,
            title=raw.get("title", name.replace("_", " ").capitalize()),
            kind=kind,
            needs=tuple(raw.get("needs", ())),
            when=when,
            **found,
        )

    # -- kinds ---------------------------------------------------------------------------------

    def _tool(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        call = self._call(raw, path, names)
        if call is None:
            return {}
        found: dict[str, Any] = {"call": call, "retry": _retry(raw.get("retry", {}))}
        if "timeout" in raw:
            found["timeout"] = self._timeout(raw, call.tool, path)
        found["on_unknown"] = self._on_unknown(raw, call.tool, path)
        if "compensate" in raw:
            own = naming.declared(
                dict(names),
                naming.of_step(StepSpec(str(path[-1]), "", "tool", (), call=call)),
            )
            found["compensate"] = self._call(raw["compensate"], (*path, "compensate"), own)
        found["irreversible"] = raw.get("irreversible", "")
        self._ensure_undoable(raw, call.tool, path)
        return found

    def _ensure_undoable(self, raw: Any, tool: PinnedTool, path: Path) -> None:
        said = "compensate" in raw or "irreversible" in raw
        if self.compensates and tool.access != "read" and not said:
            self.problems.add(
                path,
                f"{tool.name} changes something, and on_failure is compensate: say how to undo it "
                "(compensate), or why that is not possible (irreversible).",
            )

    def _approval(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        asked, inside = raw["approval"], (*path, "approval")
        if asked["tier"] not in self.world.tiers:
            self.problems.add((*inside, "tier"), f"There is no tier {asked['tier']}.")
        show = self.problems.template(asked.get("show", {}), names, (*inside, "show"))
        return {
            "approval": Approval(
                asked["tier"], asked["question"], show, asked.get("on_expiry", "fail")
            )
        }

    def _wait(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        asked, inside = raw["wait"], (*path, "wait")
        if "for" in asked:
            return {"wait": Wait(length=duration(asked["for"]))}
        if "until" in asked:
            until = self.problems.expression(asked["until"], names, (*inside, "until"))
            if until is not None and until.type_name not in {"TIMESTAMP", "STRING", "DYN"}:
                self.problems.add((*inside, "until"), "A moment is a timestamp, or text of one.")
            return {"wait": Wait(until=until)}
        match = None
        if "match" in asked:
            own = naming.declared(dict(names), {"signal": "DYN"})
            match = self.problems.expression(
                asked["match"], own, (*inside, "match"), of_type="BOOL"
            )
        return {
            "wait": Wait(
                signal=asked["signal"],
                match=match,
                timeout=duration(asked["timeout"]),
                on_timeout=asked.get("on_timeout", "fail"),
            )
        }

    def _workflow(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        return {"child": self._child(raw["workflow"], (*path, "workflow"), names)}

    def _handoff(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        agent = raw["handoff"]["agent"]
        if agent not in self.world.agents:
            self.problems.add((*path, "handoff", "agent"), f"There is no agent {agent}.")
        return {"child": self._child(raw["handoff"], (*path, "handoff"), names)}

    def _child(self, asked: Any, path: Path, names: Declared) -> Child:
        slug = asked["workflow"]
        if slug not in self.world.workflows:
            self.problems.add((*path, "workflow"), f"There is no published workflow {slug}.")
        inputs = self.problems.template(asked.get("with", {}), names, (*path, "with"))
        return Child(slug, inputs, asked.get("agent", ""))

    def _foreach(self, raw: Any, path: Path, names: Declared) -> dict[str, Any]:
        asked, inside = raw["foreach"], (*path, "foreach")
        items = self.problems.expression(asked["in"], names, (*inside, "in"))
        if items is not None and not items.type_name.startswith(("LIST", "DYN")):
            self.problems.add((*inside, "in"), f"This is of type {items.type_name}, not a list.")
        known = dict(names) | {"item": "DYN", "index": "INT"}
        steps: dict[str, StepSpec] = {}
        for name, inner in asked["steps"].items():
            place = (*inside, "steps", name)
            if kind_of(inner) not in {*INNER_KINDS, None}:
                self.problems.add(place, f"{kind_of(inner)} cannot stand inside foreach.")
                continue
            if isinstance(inner, dict) and "needs" in inner:
                self.problems.add(place, "Steps inside foreach follow one another: no needs.")
                continue
            found = self.step(name, inner, place, naming.declared(known))
            if found is not None:
                steps[name] = found
                known |= naming.of_step(found)
        if items is None:
            return {}
        return {
            "foreach": Foreach(
                items,
                asked["max_items"],
                asked.get("parallel", 1),
                asked.get("fail", "stop"),
                steps,
            )
        }

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, raw: Any, path: Path, names: Declared) -> ToolCall | None:
        tool = self.world.tools.get(raw["tool"])
        if tool is None:
            self.problems.add((*path, "tool"), f"There is no tool {raw['tool']}.")
            return None
        arguments = self.problems.template(raw.get("with", {}), names, (*path, "with"))
        self._check_arguments(arguments.value, tool, path)
        claims = self.problems.template(raw.get("claims", {}), names, (*path, "claims"))
        return ToolCall(tool, arguments, claims)

    def _check_arguments(self, given: Mapping[str, Any], tool: PinnedTool, path: Path) -> None:
        """Check what is known before the values are: names, and types of expressions."""
        properties = tool.input_schema.get("properties", {})
        for name in tool.input_schema.get("required", ()):
            if name not in given and "default" not in properties.get(name, {}):
                self.problems.add((*path, "with"), f"{tool.name} needs the argument {name}.")
        is_closed = tool.input_schema.get("additionalProperties") is False
        for name, value in given.items():
            place = (*path, "with", name)
            if name not in properties:
                if is_closed:
                    self.problems.add(place, f"{tool.name} takes no argument {name}.")
                continue
            self._check_type(value, properties[name], place)

    def _check_type(self, value: Any, rule: Any, place: Path) -> None:
        kind = getattr(value, "type_name", None)
        wanted = rule.get("type") if isinstance(rule, Mapping) else None
        fits = _FITS.get(wanted) if isinstance(wanted, str) else None
        if kind is None or fits is None or kind == "DYN":
            return
        if kind.split("<", 1)[0] not in fits:
            self.problems.add(place, f"This is of type {kind} where {wanted} is needed.")

    def _timeout(self, raw: Any, tool: PinnedTool, path: Path) -> timedelta:
        asked = duration(raw["timeout"])
        if asked.total_seconds() > tool.timeout_seconds:
            self.problems.add(
                (*path, "timeout"), f"{tool.name} is given up after {tool.timeout_seconds:g} s."
            )
        return asked

    def _on_unknown(self, raw: Any, tool: PinnedTool, path: Path) -> str:
        asked = str(raw.get("on_unknown", tool.classes[0]))
        if asked not in tool.classes:
            why = "is not idempotent" if asked == "retry" else "names no probe"
            self.problems.add(
                (*path, "on_unknown"),
                f"{tool.name} {why}: possible are {', '.join(tool.classes)}.",
            )
        return asked


def kind_of(raw: Any) -> str | None:
    """The one kind that a step names; None if it names none or several."""
    kinds = [kind for kind in STEP_VALIDATORS if isinstance(raw, dict) and kind in raw]
    return kinds[0] if len(kinds) == 1 else None


def _retry(raw: Mapping[str, Any]) -> Retry:
    usual = Retry()
    return Retry(
        max_attempts=raw.get("max_attempts", usual.max_attempts),
        backoff=duration(raw["backoff"]) if "backoff" in raw else usual.backoff,
        factor=float(raw.get("factor", usual.factor)),
        max_backoff=duration(raw["max_backoff"]) if "max_backoff" in raw else usual.max_backoff,
    )
