"""A tool's definition, compiled once: validator, facts, claims, amount, digest.

Pure: made from a tool's plain attributes, without a query.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema_rs

from common.canonical import (
    NotCanonical,
    canonical_json,
    composed,
    digest,
    digest_of_text,
    normalise,
)
from common.cel import Expression
from common.errors import InvalidInput
from common.redaction import holds_mark
from tools.broken_rules import broken_rule
from tools.classes import PUBLIC, SECRET, apart_class
from tools.data_classes import (
    declared_classes,
    ensure_no_secret_argument,
    names_things,
    vouched,
)
from tools.declarations import (
    CLAIM_TYPES,
    Claim,
    Fact,
    Source,
    parsed_claims,
    parsed_expression,
    parsed_facts,
    parsed_labels,
    parsed_sources,
)
from tools.errors import InvalidArguments, InvalidClaims, InvalidToolDefinition
from tools.json_schema import MAX_ENUMERATED_PARTS, enumerated_parts, with_defaults
from tools.secret_arguments import (
    ensure_few,
    ensure_secrets_unused,
    secrets_set_apart,
    without_secret_arguments,
)

MAX_ARGUMENT_BYTES = 64_000
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class GovernedArguments:
    """Arguments as they are decided on, shown and stored, their digest, and apart from them what
    is secret by its place (RFC 6901).
    """

    shown: dict[str, Any]
    digest: str
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ToolSpec:
    pk: int
    system_pk: int
    system: str
    kind: str
    name: str
    title: str
    description: str
    path: str
    access: str
    idempotent: bool
    timeout_seconds: float
    labels: tuple[str, ...]
    serves_facts_only: bool
    withdrawn: bool
    input_schema: Mapping[str, Any]
    validator: jsonschema_rs.Validator
    sources: tuple[Source, ...]
    facts: tuple[Fact, ...]
    claims: tuple[Claim, ...]
    amount: Expression | None
    digest: str
    probe: str = ""
    exclusive_by: str = ""
    output_schema: Mapping[str, Any] | None = None
    data_classes: tuple[str, ...] = ()
    names_things: bool = False
    has_defaults: bool = True
    # Facts and claims that the log keeps apart, with their classes.
    facts_apart: Mapping[str, str] = field(default_factory=dict)
    claims_apart: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.system}.{self.name}"

    @property
    def linked_names(self) -> list[str]:
        """The names of the tools of its system that its facts come from and its outcome is read
        with.
        """
        probe = {self.probe} if self.probe else set()
        return sorted({source.tool for source in self.sources} | probe)

    def facts_behind(self, names: Collection[str]) -> set[str]:
        """These facts, and those that they are computed from."""
        wanted, known = set(names), {fact.name for fact in self.facts}
        # A fact is computed from those before it.
        for fact in reversed(self.facts):
            if fact.name in wanted and "facts" in fact.expression.names:
                named = fact.expression.parts_named("facts")
                wanted |= known if named is None else named
        return wanted & known

    @property
    def takes_secrets(self) -> bool:
        """Whether some argument or part of an answer is declared to be a secret."""
        return SECRET in self.data_classes

    def canonical_arguments(self, arguments: Any) -> tuple[dict[str, Any], str]:
        """The arguments with defaults put in, and their digest.

        Raises InvalidArguments, and SecretFound for what the schema declares to be a secret.
        """
        filled, text = self._filled(arguments)
        if self.takes_secrets:
            ensure_no_secret_argument(filled, self.input_schema)
        return filled, digest_of_text(text)

    def governed_arguments(self, arguments: Any) -> GovernedArguments:
        """As `canonical_arguments`, but with what is declared to be a secret set apart."""
        filled, text = self._filled(arguments)
        if not self.takes_secrets:
            return GovernedArguments(filled, digest_of_text(text))
        shown, secrets = secrets_set_apart(filled, self.input_schema)
        if not isinstance(shown, dict):
            message = "The arguments have too many parts to find the secrets among them."
            raise InvalidArguments(message)
        ensure_few(secrets)
        return GovernedArguments(shown, digest(shown), secrets)

    def open_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments that facts and amounts are computed from: all but secret ones."""
        if not self.takes_secrets:
            return arguments
        return without_secret_arguments(arguments, self.input_schema)

    def vouched_arguments(self, arguments: Any) -> frozenset[str]:
        """See `tools.data_classes.vouched`."""
        return vouched(arguments, self.input_schema) if self._vouches else frozenset()

    def vouched_answer(self, answer: Any) -> frozenset[str]:
        return vouched(answer, self.output_schema) if self._vouches else frozenset()

    @property
    def _vouches(self) -> bool:
        return self.names_things or PUBLIC in self.data_classes

    def _filled(self, arguments: Any) -> tuple[dict[str, Any], str]:
        """Return the arguments with defaults put in, and their canonical text."""
        try:
            plain = composed(normalise(arguments))
        except InvalidInput as error:
            raise InvalidArguments(str(error)) from error
        if not isinstance(plain, dict):
            raise InvalidArguments
        if holds_mark(plain):
            message = "An argument holds the mark of a redacted value: the value itself is needed."
            raise InvalidArguments(message)
        filled: dict[str, Any] = plain
        if self.has_defaults:
            filled = normalise(with_defaults(plain, self.input_schema, self.input_schema))
        text = canonical_json(filled)
        if len(text.encode()) > MAX_ARGUMENT_BYTES:
            message = f"The arguments are larger than {MAX_ARGUMENT_BYTES} bytes."
            raise InvalidArguments(message)
        broken = broken_rule(self.validator, self.input_schema, filled)
        if broken is not None:
            raise InvalidArguments(broken.said_of("the arguments"), at=broken.where)
        return filled, text

    def canonical_claims(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Every declared claim, by default where not made. Raises InvalidClaims."""
        declared = {claim.name: claim for claim in self.claims}
        unknown = sorted(set(claims) - set(declared))
        if unknown:
            message = f"{self.full_name} declares no claim {unknown[0]}."
            raise InvalidClaims(message)
        values = {name: claims.get(name, claim.default) for name, claim in declared.items()}
        for name, value in values.items():
            if type(value) is not CLAIM_TYPES[declared[name].policy_type]:
                message = f"The claim {name} must be of type {declared[name].policy_type}."
                raise InvalidClaims(message)
        try:
            return dict(composed(normalise(values)))
        except NotCanonical as error:
            raise InvalidClaims(str(error)) from error


def _nothing_fetched(uri: str) -> Any:
    """A schema stands for itself: fetching would let whoever writes one make the portal call out,
    and leave the definition's digest without what was fetched.
    """
    message = "A schema may only refer to itself."
    raise ValueError(message)


def compile_spec(row: Mapping[str, Any]) -> ToolSpec:
    """A tool's attributes compiled. Raises InvalidDefinition, naming the part that is wrong."""
    schema = row["input_schema"]
    if not isinstance(schema, dict) or schema.get("type") != "object":
        message = "The input schema must describe an object."
        raise InvalidToolDefinition(message)
    validator = _validator("input", schema)
    sources = parsed_sources(row["sources"])
    facts = parsed_facts(row["facts"], ("args", "claims", *(s.name for s in sources)))
    claims = parsed_claims(row["claims"])
    amount = parsed_expression("the amount", row["amount"], ("args",)) if row["amount"] else None
    ensure_secrets_unused(schema, expressions=_looking_at_arguments(sources, facts, amount))
    return ToolSpec(
        pk=row["pk"],
        system_pk=row["system_pk"],
        system=row["system"],
        kind=row["kind"],
        name=row["name"],
        title=row["title"],
        description=row["description"],
        path=row["path"],
        access=row["access"],
        idempotent=row["idempotent"],
        timeout_seconds=row["timeout_seconds"],
        labels=parsed_labels(row["labels"]),
        serves_facts_only=row["serves_facts_only"],
        withdrawn=row["withdrawn"],
        input_schema=schema,
        validator=validator,
        sources=sources,
        facts=facts,
        claims=claims,
        amount=amount,
        digest=_digest(row),
        probe=row.get("probe", ""),
        exclusive_by=_exclusive_by(row.get("exclusive_by", ""), schema),
        output_schema=row.get("output_schema"),
        data_classes=declared_classes(schema, row.get("output_schema")),
        names_things=names_things(schema, row.get("output_schema")),
        has_defaults='"default":' in canonical_json(schema),
        claims_apart=_apart({claim.name: claim.data_class for claim in claims}),
    )


def _looking_at_arguments(
    sources: Collection[Source], facts: Collection[Fact], amount: Expression | None
) -> Mapping[str, str]:
    """The texts of all expressions, by what they are of."""
    texts = {f"fact {fact.name}": fact.expression.text for fact in facts}
    for source in sources:
        for name, expression in source.arguments.items():
            texts[f"source {source.name}, argument {name}"] = expression.text
    return texts | ({"the amount": amount.text} if amount else {})


def ensure_output_schema(schema: Any) -> None:
    """Raises InvalidDefinition: what is recorded of an answer goes by its schema, so whether that
    is one must not show only when the effect is done.
    """
    if schema is None:
        return
    if not isinstance(schema, dict):
        message = "The output schema is not valid: it must be an object."
        raise InvalidToolDefinition(message)
    _validator("output", schema)


def _validator(which: str, schema: dict[str, Any]) -> jsonschema_rs.Validator:
    if enumerated_parts(schema) > MAX_ENUMERATED_PARTS:
        message = f"The {which} schema enumerates lists and objects of too many parts."
        raise InvalidToolDefinition(message)
    if schema.get("$schema", _DIALECT) != _DIALECT:
        message = f"The {which} schema is not valid: its $schema must be {_DIALECT}."
        raise InvalidToolDefinition(message)
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=True,
            retriever=_nothing_fetched,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        message = f"The {which} schema is not valid: {str(error).splitlines()[0]}"
        raise InvalidToolDefinition(message) from error


def linked(spec: ToolSpec, tools: Mapping[str, ToolSpec]) -> ToolSpec:
    """The tool with what it takes from others of its system: the classes of its facts, and in its
    digest the definitions of the tools that its facts come from and its outcome is read with.
    A change of one of these tools changes the basis of decisions.
    """
    if not spec.linked_names:
        return with_facts_apart(spec, tools)
    found = {name: tools.get(f"{spec.system}.{name}") for name in spec.linked_names}
    digests = {name: tool.digest if tool else "" for name, tool in found.items()}
    whole = digest({"definition": spec.digest, "sources": digests})
    return replace(with_facts_apart(spec, tools), digest=whole)


def with_facts_apart(spec: ToolSpec, tools: Mapping[str, ToolSpec]) -> ToolSpec:
    """The tool with the classes of its facts: as they are declared, or for a text that of what it
    is made from. A number or a yes is in the open unless it is declared to be something else.
    """
    if not spec.facts:
        return spec
    origins = {
        "args": apart_class(declared_classes(spec.input_schema)),
        "claims": apart_class(claim.data_class for claim in spec.claims),
    }
    for source in spec.sources:
        tool = tools.get(f"{spec.system}.{source.tool}")
        origins[source.name] = apart_class(declared_classes(tool.output_schema)) if tool else ""
    found: dict[str, str] = {}
    for fact in spec.facts:
        name = fact.data_class
        if not name and fact.policy_type in {"string", "strings"}:
            others = found.values() if "facts" in fact.expression.names else ()
            name = apart_class([*(origins.get(n, "") for n in fact.expression.names), *others])
        found[fact.name] = name
    return replace(spec, facts_apart=_apart(found))


def _apart(classes: Mapping[str, str]) -> Mapping[str, str]:
    return {name: one for name, one in classes.items() if apart_class([one])}


def _digest(row: Mapping[str, Any]) -> str:
    try:
        return definition_digest(row)
    except NotCanonical as error:
        message = f"The definition cannot be written down: {error}"
        raise InvalidToolDefinition(message) from error


_DEFINING = (
    "system",
    "name",
    "description",
    "path",
    "access",
    "idempotent",
    "input_schema",
    "labels",
    "sources",
    "facts",
    "claims",
    "amount",
)
_DEFINING_IF_SET = ("probe", "exclusive_by", "output_schema", "serves_facts_only")


def definition_digest(row: Mapping[str, Any]) -> str:
    """Over everything that decides what a call means; approvals and releases are bound to it."""
    more = {name: row[name] for name in _DEFINING_IF_SET if row.get(name)}
    return digest({name: row[name] for name in _DEFINING} | more)


def _exclusive_by(name: str, schema: Mapping[str, Any]) -> str:
    if name and name not in (schema.get("properties") or {}):
        message = f"exclusive_by: there is no argument {name}."
        raise InvalidToolDefinition(message)
    if name:
        ensure_secrets_unused(schema, expressions={"exclusive_by": f"args.{name}"})
    return name
