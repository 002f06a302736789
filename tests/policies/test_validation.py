"""A rule is checked when it is saved, and the line that is wrong is named."""

from typing import Any

import pytest

from policies import validation
from policies.schema import cedar_schema
from policies.validation import PolicyProblem, problems_of
from tests import toolbox as box
from tools.definitions import compile_spec

TIERS = ("supervisor", "dual")
OPTIONAL = {
    "title": "Book",
    "access": "write",
    "idempotent": False,
    "input_schema": {
        "type": "object",
        "properties": {"seats": {"type": "integer"}, "name": {"type": "string"}},
        "required": ["name"],
    },
}


def schema() -> dict[str, Any]:
    usual: dict[str, Any] = {
        "pk": 1,
        "system_pk": 1,
        "system": "toolbox",
        "kind": "in_process",
        "description": "",
        "path": "",
        "timeout_seconds": 10.0,
        "labels": [],
        "sources": [],
        "facts": [],
        "claims": [],
        "amount": "",
        "serves_facts_only": False,
        "withdrawn": False,
    }
    tools = {**box.TOOLS, "book": OPTIONAL}
    return cedar_schema(compile_spec({**usual, "name": n, **tool}) for n, tool in tools.items())


SCHEMA = schema()


def found(text: str, expected_id: str = "r") -> list[PolicyProblem]:
    return problems_of(text, expected_id=expected_id, schema=SCHEMA, tiers=TIERS)


def rule(condition: str = "", tool: str = "pay", kind: str = "when") -> str:
    """A rule whose `when` stands on line 9 and whose condition begins on line 10."""
    clause = f"\n{kind} {{\n{condition}\n}}" if condition else ""
    return f"""@id("r")
@title("Title")
@reason("Because.")
forbid(
  principal,
  action == Action::"toolbox.{tool}",
  resource
){clause};
"""


@pytest.mark.parametrize("text", [*box.POLICIES.values()])
def test_the_rules_of_the_toolbox_are_valid(text: str) -> None:
    assert found(text, expected_id=text.split('"')[1]) == []


@pytest.mark.parametrize(
    "condition",
    [
        "",
        'context.input.account == "a" && context.facts.large',
        'context.input.amount.greaterThan(decimal("10.5"))',
        'context.input.note like "*urgent*"',
        "context.claims.confirmed || context.usage.actions > 3",
        'context.run.labels.contains("pii") && context.time.hour < 7',
        'principal in Role::"keepers" && principal.risk == "high"',
        "context.approval.rank < 20",
    ],
)
def test_a_rule_may_speak_of_what_the_tool_has(condition: str) -> None:
    assert found(rule(condition)) == []


def test_an_optional_argument_is_asked_for_first() -> None:
    assert found(rule("context.input has seats && context.input.seats > 3", "book")) == []
    [problem] = found(rule('context.input.name == "x" &&\ncontext.input.seats > 3', "book"))
    assert problem.line == 11
    assert "optional attribute" in problem.message


@pytest.mark.parametrize(
    ("condition", "line", "words"),
    [
        ('context.input.account == "a" &&\ncontext.input.iban == "b"', 11, "`input.iban`"),
        ('context.input.note == "a" &&\n\ncontext.input.acount == "b"', 12, "`input.acount`"),
        ("context.facts.large &&\ncontext.facts.tiny", 11, "`facts.tiny`"),
        ("context.claims.confirmed &&\n\n\ncontext.claims.sure", 13, "`claims.sure`"),
        ('context.run.labels.contains("x") &&\ncontext.run.price > 1', 11, "`run.price`"),
        ('context.facts.large &&\nprincipal.salary == "x"', 11, "`salary`"),
        ('context.facts.large &&\ndecimal("1.23456") == decimal("1.0")', 11, "decimal"),
    ],
)
def test_a_name_that_does_not_exist_is_found_on_its_line(
    condition: str, line: int, words: str
) -> None:
    [problem] = found(rule(condition))
    assert problem.line == line
    assert words in problem.message
    assert "for policy" not in problem.message


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("context.input.amount > 3", "expected Long but saw decimal"),
        ("context.facts.large == 3", "not compatible"),
        ('context.time.hour > "3"', "expected Long but saw String"),
        ("context.time.hour", "expected Bool but saw Long"),
    ],
)
def test_values_of_different_types_are_not_compared(condition: str, words: str) -> None:
    [problem] = found(rule(condition))
    # Cedar does not say where in the condition: the condition's own line is named.
    assert problem.line == 9
    assert words in problem.message


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("false", "when"),
        ("true", "unless"),
        ("context.facts.large && false", "when"),
        ("principal is Role", "when"),
        ('action == Action::"toolbox.mail"', "when"),
        ('action in Action::"read"', "when"),
        ("!(context has input)", "when"),
        ("context.input has account", "unless"),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(condition: str, kind: str) -> None:
    assert found(rule(condition, kind=kind)) == [PolicyProblem(9, "This condition is never true.")]


def test_conditions_that_only_together_can_never_hold_are_refused() -> None:
    text = rule("context.facts.large").rstrip(";\n") + "\nwhen { principal is Role };"
    assert found(text) == [PolicyProblem(9, "This condition is never true.")]


@pytest.mark.parametrize(
    "scope",
    [
        'principal == Role::"keepers", action, resource',
        "principal is Role, action, resource",
        "principal, action, resource is Agent",
        'principal, action, resource == Agent::"tilda"',
        'principal == Environment::"prod", action, resource',
    ],
)
def test_a_scope_that_no_call_can_have_is_refused(scope: str) -> None:
    text = f'@id("r")\n@reason("Because.")\n\nforbid({scope});'
    [problem] = found(text)
    assert problem.line == 4
    assert "unable to find an applicable action" in problem.message


@pytest.mark.parametrize("name", ["toolbox.pai", "tolbox", "nowhere.pay", "delete"])
def test_an_unknown_tool_is_found_on_its_line(name: str) -> None:
    scope = f'\n  principal,\n  action in Action::"{name}",\n  resource\n'
    text = f'@id("r")\n@reason("Why.")\nforbid({scope});'
    problems = found(text)
    assert PolicyProblem(5, f'unrecognized action `Action::"{name}"`') in problems


def test_an_unknown_kind_of_principal_is_found_on_its_line() -> None:
    text = '@id("r")\n@reason("Why.")\nforbid(\n  principal in Team::"x",\n  action,\n  resource);'
    assert PolicyProblem(4, "unrecognized entity type `Team`") in found(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('@id("r")\n@title("T")\n@reason("x")\nforbid(principal; action, resource);', 4, "`;`"),
        ('@id("r")\n@title("T")\n@reason("x")\nforbit(principal, action, resource);', 4, "forbit"),
        ('@id("r")\n\n\npermit(principal, actions, resource);', 4, "actions"),
        (rule("context.facts.large &&& true"), 10, "invalid token"),
        (rule("context.facts.large and true"), 10, "`and`"),
        ('@id("r")\npermit(principal, action, resource)\nwhen { true', 3, "end of input"),
        ('@id("r")\npermit(principal, action, resource)', 2, "end of input"),
        ('@id("r)\npermit(principal, action, resource);', 1, "invalid token"),
        ("once\nupon a time", 2, "upon"),
    ],
)
def test_text_that_does_not_parse_is_refused_at_the_line_where_it_breaks(
    text: str, line: int, words: str
) -> None:
    [problem] = found(text)
    assert problem.line == line
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (rule() + '@id("s")\npermit(principal, action, resource);', 2),
        ("", 0),
        ("// Only a remark.\n", 0),
    ],
)
def test_a_text_holds_exactly_one_rule(text: str, count: int) -> None:
    assert found(text) == [PolicyProblem(1, f"Write one rule here; this text holds {count}.")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('@id("r")\n@reason("Why.")\nforbid(principal == ?principal, action, resource);', 3),
        ('@id("r")\npermit(principal, action, resource == ?resource);', 2),
        (rule() + "forbid(principal == ?principal, action, resource);", 3),
    ],
)
def test_a_template_is_refused_even_beside_a_rule(text: str, line: int) -> None:
    [problem] = found(text)
    assert problem.line >= line
    assert problem.message == "Templates are not linked here: name who it is."


def test_a_tier_without_a_name_is_refused() -> None:
    text = '@id("r")\n@reason("x")\n@tier\nforbid(principal, action, resource);'
    assert [problem.line for problem in found(text)] == [3]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('@title("T")\n@reason("x")\nforbid(principal, action, resource);', 1, '@id("r")'),
        ('@title("T")\n@id("s")\npermit(principal, action, resource);', 2, '@id("r")'),
        ('@title("T")\n\n@id\npermit(principal, action, resource);', 3, '@id("r")'),
        ('@id("r")\n@title("T")\n@tier("dual")\npermit(principal, action, resource);', 3, "forbid"),
        ('@id("r")\n@halt\npermit(principal, action, resource);', 2, "Only a forbid"),
        ('@id("r")\n@title("T")\nforbid(principal, action, resource);', 1, "@reason"),
        ('@id("r")\n@reason("  ")\nforbid(principal, action, resource);', 1, "@reason"),
        ('@id("r")\n@reason\nforbid(principal, action, resource);', 1, "@reason"),
    ],
)
def test_a_rule_says_what_it_is_and_why(text: str, line: int, words: str) -> None:
    [problem] = found(text)
    assert problem.line == line
    assert words in problem.message


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 4_500 + "true" + ")" * 4_500,
        '"//" == "//" && ' + "(" * 4_500 + "true" + ")" * 4_500,
        '"))))" != "' + ")" * 4_500 + '" && ' + "(" * 4_500 + "true" + ")" * 4_500,
        "true //\r && " + "(" * 4_500 + "true" + ")" * 4_500,
        "true } when { " * 1_300 + "true",
        "// ))))\n" * 1_000 + "(" * 4_500 + "true" + ")" * 4_500,
        "true" + " || true" * 1_500,
        "true" + "&&true" * 3_000,
        "1" + "+1" * 3_000 + " == 2",
        "context" + ".a" * 3_000,
        "context" + '["a"]' * 1_500,
        "context has a" + ".a" * 3_000,
        "if true then true else " * 700 + "true",
    ],
)
def test_what_is_nested_too_deeply_is_not_parsed(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "parsed_rules", lambda text: pytest.fail("it was parsed"))
    text = f'@id("r") @reason("x") forbid(principal, action, resource) when {{ {condition} }};'
    [problem] = found(text)
    assert "at most" in problem.message or "nested deeper" in problem.message


@pytest.mark.parametrize(
    "condition",
    [
        "context.time.hour == 0" + " || context.time.hour == 1" * 40,
        "context.time.hour" + "+1" * 40 + " == 2",
        'context.time.hour == 1 && "// ((((" == "// (((("',
    ],
)
def test_what_is_within_the_bounds_is_read(condition: str) -> None:
    text = f'@id("r") @reason("x") forbid(principal, action, resource) when {{ {condition} }};'
    assert found(text) == []


@pytest.mark.parametrize(
    "condition",
    ["context.time.hour == 0" + " || context.time.hour == 1" * 80, "1" + "+1" * 240 + " == 2"],
)
def test_a_condition_that_cannot_be_looked_into_is_refused(condition: str) -> None:
    text = f'@id("r") @reason("x") forbid(principal, action, resource) when {{ {condition} }};'
    [problem] = found(text)
    assert "too many parts" in problem.message


@pytest.mark.parametrize("tier", ["boss", "Dual", ""])
def test_a_tier_that_does_not_exist_is_refused(tier: str) -> None:
    text = f'@id("r")\n@reason("Why.")\n@tier("{tier}")\nforbid(principal, action, resource);'
    assert found(text) == [PolicyProblem(3, f'There is no tier "{tier}".')]


def test_a_rule_is_a_gate_or_a_halt_and_not_both() -> None:
    text = '@id("r")\n@reason("x")\n@tier("dual")\n@halt\nforbid(principal, action, resource);'
    assert found(text) == [PolicyProblem(4, "A rule is a gate or a halt, not both.")]
    both = '@id("r")\n@tier("dual")\n@halt\npermit(principal, action, resource);'
    assert [problem.line for problem in found(both)] == [2, 3]


def test_every_problem_is_named_at_once() -> None:
    text = (
        '@title("T")\n@tier("boss")\nforbid(principal, action == Action::"toolbox.pay", resource)\n'
        "when {\n  context.input.iban == 1 };"
    )
    assert [(problem.line, problem.message.split()[0]) for problem in found(text)] == [
        (1, "The"),
        (2, "There"),
        (1, "A"),
        (5, "attribute"),
    ]
    assert found(text)[0].plain() == {"line": 1, "message": 'The rule needs @id("r").'}
