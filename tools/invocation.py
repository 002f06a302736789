"""Calling a tool, and finding out the facts that a decision about it needs."""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.actors import SYSTEM
from common.canonical import composed, normalise
from common.cel import ExpressionFailed, WorkBudget
from common.errors import InvalidInput
from common.json_text import ensure_shallow
from common.redaction import redact
from tools.catalog import Catalog
from tools.connectors.base import (
    Call,
    Connector,
    ConnectorError,
    EndpointSpec,
    NotPermitted,
    Refused,
    ToolResult,
)
from tools.connectors.http import HttpConnector
from tools.connectors.in_process import InProcessConnector
from tools.credentials import Credential, mask
from tools.data_classes import set_apart, without_secrets
from tools.declarations import Fact, Source
from tools.definitions import ToolSpec
from tools.errors import FactAbsent, FactsUnavailable, SecretUnusable
from tools.models import System
from tools.secret_arguments import credentials_of, without_secret_parts
from tools.services import secret_leases

log = logging.getLogger(__name__)

FACTS_TIMEOUT_SECONDS = 5.0
MAX_REFUSAL = 350

_connectors: Mapping[str, Connector] = {
    System.Kind.HTTP: HttpConnector(),
    System.Kind.IN_PROCESS: InProcessConnector(),
}
# An equality says yes or no to a whole secret. Every other operator finds it out piece by piece.
_VALUE = r"""(?:\w+(?:\.\w+)*|"[^"\\]*"|'[^'\\]*')"""
_EQUALITY = rf"!?\(*\s*{_VALUE}\s*[=!]=\s*{_VALUE}\s*\)*"
_EQUALITIES = re.compile(rf"\s*{_EQUALITY}(?:\s*(?:&&|\|\|)\s*{_EQUALITY})*\s*")
_PYTHON_TYPES: Mapping[str, type] = {"bool": bool, "int": int, "string": str, "strings": list}


def call_tool(
    catalog: Catalog,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    *,
    environment: str,
    call: Call,
) -> ToolResult:
    """The tool's result as plain JSON. Raises ConnectorError."""
    endpoint = catalog.endpoints.get((spec.system, environment))
    if endpoint is None:
        message = f"{spec.system} has no endpoint in {environment}."
        raise NotPermitted(message)
    result = _answer(endpoint, spec, arguments, call)
    if result.unreadable:
        return result
    return ToolResult(
        redact(_classed(result.value, spec), vouched=spec.vouched_answer(result.value))
    )


def _answer(
    endpoint: EndpointSpec, spec: ToolSpec, arguments: Mapping[str, Any], call: Call
) -> ToolResult:
    """Return the system's answer without our credentials for it; other secrets are still in it.

    An answer that cannot be kept is that of a call which was carried out. Raises ConnectorError.
    """
    call = _with_credentials(endpoint, spec, call)
    call.ensure_in_time()
    try:
        result = _connectors[spec.kind].call(endpoint, spec, arguments, call=call)
        if result.unreadable:
            return result
        return ToolResult(normalise(mask(result.value, call.credentials)))
    except Refused as error:
        # What is sensitive of the arguments may be quoted, and the error is shown and searched.
        _, apart = set_apart(arguments, spec.input_schema if spec.data_classes else None)
        message = f"{error}{_words_of(error, (*call.credentials, *credentials_of(apart)))}"
        raise Refused(message, absent=error.is_absence) from error
    except InvalidInput:
        return ToolResult(None, "The system's answer holds what cannot be recorded.")


def _words_of(refusal: Refused, hidden: Sequence[Credential]) -> str:
    """Return the system's reason for its refusal, without secrets, so that an agent can correct the
    call.
    """
    if not refusal.body:
        return ""
    text = refusal.body.decode("utf-8", "replace").replace("\x00", "")
    try:
        ensure_shallow(refusal.body)
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        said = " ".join(text.split())
    cleaned = redact(mask(said, hidden))
    shown = cleaned if isinstance(cleaned, str) else json.dumps(cleaned, ensure_ascii=False)
    encodable = shown.encode("utf-8", "replace").decode()
    return f" It said: {encodable[:MAX_REFUSAL]}" if encodable.strip() else ""


def _classed(answer: Any, spec: ToolSpec) -> Any:
    return without_secrets(answer, spec.output_schema) if spec.data_classes else answer


def _with_credentials(endpoint: EndpointSpec, spec: ToolSpec, call: Call) -> Call:
    """Raises NotPermitted: a call is not made without the secret that its endpoint needs."""
    if not endpoint.secrets:
        return call
    try:
        credentials = secret_leases.open_secrets(endpoint, spec.full_name, call, actor=SYSTEM)
    except SecretUnusable as error:
        log.exception("the secret for %s cannot be used", spec.full_name)
        raise NotPermitted(str(error)) from error
    return replace(call, credentials=(*call.credentials, *credentials))


def gather_facts(
    catalog: Catalog,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    claims: Mapping[str, Any],
    *,
    environment: str,
    run_id: str,
) -> dict[str, Any]:
    """Every declared fact. Raises FactsUnavailable if one cannot be established.

    All sources together have FACTS_TIMEOUT_SECONDS, and all expressions one budget of steps.
    Sources are reads, made by the portal itself.
    """
    deadline = time.monotonic() + FACTS_TIMEOUT_SECONDS
    budget = WorkBudget()
    values: dict[str, Any] = {"args": spec.open_arguments(arguments), "claims": claims}
    shown = dict(values)
    for source in spec.sources:
        values[source.name] = _fetch_source(
            catalog,
            spec,
            source,
            shown,
            environment=environment,
            run_id=run_id,
            until=deadline,
            budget=budget,
        )
        tool = catalog.tool_of(spec.system, source.tool)
        schema = tool.output_schema if tool is not None else None
        shown[source.name] = without_secret_parts(values[source.name], schema)
    facts: dict[str, Any] = {}
    for fact in spec.facts:
        # Facts are recorded and shown. That a secret is the expected one may be; its text may not.
        is_comparison = fact.policy_type == "bool" and _EQUALITIES.fullmatch(fact.expression.text)
        known = values if is_comparison else shown
        facts[fact.name] = _evaluated(fact, {**known, "facts": facts}, budget)
    return facts


def _fetch_source(
    catalog: Catalog,
    spec: ToolSpec,
    source: Source,
    values: Mapping[str, Any],
    *,
    environment: str,
    run_id: str,
    until: float,
    budget: WorkBudget,
) -> Any:
    tool = catalog.tool_of(spec.system, source.tool)
    if tool is None or tool.withdrawn or tool.access != "read":
        message = f"The source {source.name} is not a read tool in service."
        raise FactsUnavailable(message)
    left = until - time.monotonic()
    if left <= 0:
        message = "The fact sources took too long."
        raise FactsUnavailable(message)
    try:
        asked = {
            name: text.evaluate(values, budget=budget) for name, text in source.arguments.items()
        }
        arguments, _ = tool.canonical_arguments(asked)
        call = Call(run_id=run_id, idempotency_key=None, timeout_seconds=left)
        endpoint = catalog.endpoints.get((spec.system, environment))
        if endpoint is None:
            message = f"{spec.system} has no endpoint in {environment}."
            raise NotPermitted(message)
        # With what is secret in it: a fact that compares with it must not be false for a mark.
        result = _answer(endpoint, tool, arguments, call)
    except Refused as error:
        if error.is_absence:
            message = (
                f"{spec.system} knows nothing by what the call names: {source.name} is absent."
            )
            raise FactAbsent(message) from error
        message = f"The source {source.name} did not give an answer: the system refused it."
        raise FactsUnavailable(message) from error
    except (ConnectorError, ExpressionFailed, InvalidInput) as error:
        # The cause may quote a value, and this sentence is stored and shown.
        message = f"The source {source.name} did not give an answer."
        raise FactsUnavailable(message) from error
    if result.unreadable:
        message = f"The answer of the source {source.name} cannot be read."
        raise FactsUnavailable(message)
    return result.value


def _evaluated(fact: Fact, values: Mapping[str, Any], budget: WorkBudget) -> Any:
    try:
        value = fact.expression.evaluate(values, budget=budget)
    except ExpressionFailed as error:
        message = f"The fact {fact.name} could not be computed."
        raise FactsUnavailable(message) from error
    mixed = isinstance(value, list) and not all(isinstance(item, str) for item in value)
    if type(value) is not _PYTHON_TYPES[fact.policy_type] or mixed:
        message = f"The fact {fact.name} is not of type {fact.policy_type}."
        raise FactsUnavailable(message)
    # It is recorded and shown, and compared with what people write.
    return composed(redact(value)) if fact.policy_type in {"string", "strings"} else value
