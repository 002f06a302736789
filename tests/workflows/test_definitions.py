"""What a definition may say, and with which line and sentence it is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.workflows.definitions import NUMBER, TEXT, VENDOR_CREDIT, WORLD, pinned
from workflows.definitions.compiling import compile_source, compile_text
from workflows.definitions.source import SourceText
from workflows.errors import InvalidWorkflow


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(InvalidWorkflow) as refused:
        compile_text(text, WORLD)
    return [(found["line"], found["message"]) for found in refused.value.details["problems"]]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_good_definition_is_compiled_in_order_of_its_needs() -> None:
    spec, plain = compile_text(VENDOR_CREDIT, WORLD)
    assert list(spec.steps) == ["invoice", "sign_off", "credit", "cool_off", "tell"]
    assert plain["steps"]["invoice"]["timeout"] == "20s"
    assert spec.step("tell[3].mail").on_unknown == "ask"
    assert spec.steps["credit"].on_unknown == "retry"


def test_what_is_stored_compiles_to_the_same() -> None:
    spec, plain = compile_text(VENDOR_CREDIT, WORLD)
    again = compile_source(SourceText(plain, {}), WORLD)
    assert list(again.steps) == list(spec.steps)
    assert again.steps["credit"] == spec.steps["credit"]


def test_the_example_of_the_documentation_is_accepted() -> None:
    page = Path(__file__).parents[2] / "docs" / "workflows.md"
    text = page.read_text().split("```yaml\n")[1].split("```")[0]
    vendor = {"type": "object", "properties": {"vendor": TEXT}, "required": ["vendor"]}
    credit = {"type": "object", "properties": {"id": TEXT}, "required": ["id"]}
    tools = (
        pinned("erp.get_invoice", {"id": TEXT}, access="read", output=vendor),
        pinned("erp.create_credit", {"invoice": TEXT, "amount": NUMBER}, output=credit),
        pinned("erp.void_credit", {"credit": TEXT}),
    )
    world = replace(
        WORLD, tools={tool.name: tool for tool in tools}, roles=frozenset({"accounts-payable"})
    )
    spec, _ = compile_text(text, world)
    assert list(spec.steps) == ["invoice", "sign_off", "credit", "acknowledged"]


# What is written instead of what, where that is wrong, and what the sentence says.
WRONG = [
    ("needs: [invoice]\n", "needs: [tell]\n", "  sign_off:", "A circle:"),
    ("tool: erp.get", "tool: erp.gett", "tool: erp.gett", "There is no tool erp.gett."),
    ("amount > 1000.0", "amount > 1000", "amount > 1000", "write 5.0 or use double(x)"),
    ("amount > 1000.0", "amount > 'x'", "amount > 'x'", "no matching overload"),
    ("inputs.amount > 1000.0", "inputs.amont > 1.0", "inputs.amont", "Undeclared reference"),
    ("max_items: 50", "max_items: 10000", "max_items", "10000 is greater than the maximum of 1000"),
    (
        "          irreversible: A mail cannot be called back.\n",
        "",
        "        mail:",
        "say how to undo it",
    ),
    ('id: "${ inputs.invoice_id }"', 'id: "${ inputs.amount }"', "inputs.amount }", "DOUBLE"),
    ('id: "${ inputs.invoice_id }"', 'id: "x ${ inputs.invoice_id }"', 'id: "x', "exactly one"),
    (
        'id: "${ inputs.invoice_id }"',
        'id: "${ steps.credit.output.id }"',
        'with: {id: "${ steps',
        "Undeclared",
    ),
    ('with: {id: "${ inputs.invoice_id }"}', "with: {}", "with: {}", "needs the argument id"),
    ('with: {id: "${ inputs', 'with: {no: 1, id: "${ inputs', "with: {no", "no argument no"),
    ("    timeout: 20s\n", "    timeouts: 3s\n", "  invoice:", "has no timeouts"),
    ("    timeout: 20s\n", "    timeout: 31s\n", "timeout: 31s", "given up after 30 s"),
    ("schema: 1\n", "schema: 2\n", "schema: 2", "schema: 1 was expected"),
    ("title: Credit a vendor\n", "", "workflow: vendor", "must say title"),
    ("schema: 1\n", "schema: 1\nschema: 1\n", "schema: 1\nroles", "given twice"),
    ("title: Credit a vendor", "title: &a Credit", "title: &a", "Anchors and aliases"),
    ("title: Credit a vendor", "title: !!python/name:os.system x", "title: !!", "Tags are not"),
    ("roles: [desk]", "roles: [desk", "inputs:", "This is not YAML"),
    ("roles: [desk]", "roles: [desks]", "roles:", "There is no role desks."),
    ("tier: dual", "tier: dula", "tier: dula", "There is no tier dula."),
    ("run.errors >= 5", "run.errors", "run.errors", "of type INT where BOOL is needed"),
    ("on_unknown: ask", "on_unknown: retry", "on_unknown: retry", "is not idempotent"),
    ("needs: [credit]", "needs: [credits]", "needs: [credits]", "There is no step credits."),
    (
        "size(steps.tell.output.items)",
        "[1].map(a, [1].map(b, [1].map(c, c)))",
        "output: {credit",
        "nested deeper than 1",
    ),
    ("type: object\n", "type: objekt\n", "inputs:", "inputs' schema is not valid"),
]


@pytest.mark.parametrize(("before", "after", "at", "sentence"), WRONG, ids=[w[3] for w in WRONG])
def test_what_is_wrong_is_said_with_its_line(
    before: str, after: str, at: str, sentence: str
) -> None:
    text = VENDOR_CREDIT.replace(before, after, 1)
    assert text != VENDOR_CREDIT
    found = problems(text)
    assert any(sentence in message for _, message in found), found
    assert (line_of(text, at)) in [line for line, message in found if sentence in message], found


def test_an_expression_of_several_lines_is_refused_at_its_own_line() -> None:
    text = VENDOR_CREDIT.replace(
        "    when: \"${ inputs.amount > 1000.0 || steps.invoice.output.risk == 'high' }\"",
        "    when: |-\n      ${ inputs.amount > 1000.0 ||\n      inputs.nope }",
    )
    [(line, message)] = problems(text)
    assert "inputs.nope" in message
    assert line == line_of(text, "inputs.nope")


def test_every_problem_is_found_at_once() -> None:
    text = VENDOR_CREDIT.replace("erp.void", "erp.nope").replace("tier: dual", "tier: none")
    assert len(problems(text)) == 2


def test_a_foreach_holds_no_foreach_and_no_children() -> None:
    inner = "{foreach: {in: '${ item.x }', max_items: 2, steps: {a: {wait: {for: 1s}}}}}"
    text = VENDOR_CREDIT.replace(
        "      steps:\n        mail:", f"      steps:\n        x: {inner}\n        mail:"
    )
    assert "foreach cannot stand inside foreach" in problems(text)[0][1]


def test_a_step_is_of_exactly_one_kind() -> None:
    text = VENDOR_CREDIT.replace("    wait: {signal", "    tool: erp.get\n    wait: {signal")
    assert "must be exactly one of" in problems(text)[0][1]


def test_children_must_exist() -> None:
    text = VENDOR_CREDIT.replace(
        "success:",
        "  hand:\n    needs: [tell]\n    handoff: {agent: nobody, workflow: nothing}\nsuccess:",
    )
    assert [message for _, message in problems(text)] == [
        "There is no agent nobody.",
        "There is no published workflow nothing.",
    ]


@pytest.mark.parametrize(
    "text", ["", "- 1", "a: *b", "{" * 2000, "a: " + "x" * 200_000, "\t", "? [a]\n: b", "a: \x00"]
)
def test_what_is_no_definition_is_refused_not_an_error(text: str) -> None:
    assert problems(text)
