import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.tools.definitions import TEXT, compiled_tool
from tests.tools.servers import Answer, say_nothing, serving
from tools import invocation
from tools.catalog import Catalog
from tools.connectors import in_process
from tools.connectors.base import (
    Call,
    ConnectorError,
    EndpointSpec,
    NoResponse,
    NotPermitted,
    NotSent,
    Refused,
    Unavailable,
)
from tools.definitions import ToolSpec
from tools.errors import FactsUnavailable
from tools.invocation import gather_facts

READERS = ("account", "owner", "limits")
ACCOUNT = {"name": "account", "tool": "account", "arguments": {"id": "args.account"}}
OWNER = {"name": "owner", "tool": "owner", "arguments": {"id": "account.owner"}}
LIMITS = {"name": "limits", "tool": "limits", "arguments": {"id": "owner.id + '/' + account.id"}}
RUN = "0190aaaa-0000-7000-8000-000000000000"


class Bank:
    """A system in this process whose read tools answer with what a test lays down."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "account": {"id": "a", "owner": "olga", "frozen": False, "balance": 12},
            "owner": {"id": "o", "tags": ["vip", "staff"]},
            "limits": {"day": 100},
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[Call] = []
        self.delay_seconds = 0.0

    def __call__(self, tool: str, arguments: Mapping[str, Any], call: Call) -> Any:
        self.asked.append((tool, dict(arguments)))
        self.calls.append(call)
        time.sleep(self.delay_seconds)
        answer = self.answers[tool]
        if isinstance(answer, ConnectorError):
            raise answer
        return answer


@pytest.fixture
def bank() -> Iterator[Bank]:
    system = Bank()
    in_process.register("bank", system)
    yield system
    in_process.unregister("bank")


def reader(name: str, **changes: Any) -> ToolSpec:
    schema = {"type": "object", "properties": {"id": TEXT}, "required": ["id"]}
    return compiled_tool(**{"name": name, "access": "read", "input_schema": schema} | changes)


def catalog_of(*tools: ToolSpec, base_url: str = "") -> Catalog:
    endpoint = EndpointSpec("bank", "prod", base_url, allow_private=True, max_response_bytes=1_000)
    return Catalog({tool.full_name: tool for tool in tools}, {("bank", "prod"): endpoint})


def learned(
    facts: Mapping[str, str],
    *,
    sources: Any = (ACCOUNT,),
    catalog: Catalog | None = None,
    arguments: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    environment: str = "prod",
) -> dict[str, Any]:
    """What is found out about a payment whose tool declares these facts and sources."""
    rows = [{"name": n, "title": n, "expression": text} for n, text in facts.items()]
    return gather_facts(
        catalog or catalog_of(*map(reader, READERS)),
        compiled_tool(sources=list(sources), facts=rows),
        arguments or {"account": "a", "amount": 50},
        claims or {},
        environment=environment,
        run_id=RUN,
    )


def test_facts_are_computed_from_arguments_claims_and_sources(bank: Bank) -> None:
    facts = {
        "frozen": "account.frozen == true",
        "balance": "int(account.balance)",
        "large": "args.amount > account.balance",
        "said": "claims.confirmed == true",
        "who": "string(account.owner)",
        "both": "facts.large && facts.said",
        "tags": "[account.owner, account.id].map(x, string(x))",
    }
    assert learned(facts, claims={"confirmed": True}) == {
        "frozen": False,
        "balance": 12,
        "large": True,
        "said": True,
        "who": "olga",
        "both": True,
        "tags": ["olga", "a"],
    }


def test_sources_are_asked_in_order_each_with_what_is_known_by_then(bank: Bank) -> None:
    facts = {"within": "args.amount < limits.day"}
    assert learned(facts, sources=(ACCOUNT, OWNER, LIMITS)) == {"within": True}
    assert bank.asked == [
        ("account", {"id": "a"}),
        ("owner", {"id": "olga"}),
        ("limits", {"id": "o/a"}),
    ]


def test_sources_are_read_for_the_run_and_without_a_key(bank: Bank) -> None:
    learned({"frozen": "account.frozen == true"})
    call = bank.calls[0]
    assert (call.run_id, call.idempotency_key) == (RUN, None)
    assert 0 < call.timeout_seconds <= invocation.FACTS_TIMEOUT_SECONDS


def test_a_tool_without_sources_asks_nobody(bank: Bank) -> None:
    assert learned({"large": "args.amount > 10"}, sources=()) == {"large": True}
    assert bank.asked == []


@pytest.mark.parametrize("error", [NotSent, NotPermitted, NoResponse, Unavailable, Refused])
def test_a_source_that_fails_leaves_no_facts(bank: Bank, error: type[ConnectorError]) -> None:
    bank.answers["account"] = error("Down for a while.")
    with pytest.raises(FactsUnavailable, match="account did not give an answer") as failure:
        learned({"large": "args.amount > 10"})
    assert "Down" not in str(failure.value)


def test_a_refusal_never_quotes_a_value(bank: Bank) -> None:
    bank.answers["account"] = {"id": "alice@example.org", "owner": ["alice@example.org"]}
    for expression in ("int(account.id) > 1", "account['alice'] == 1", "account.id.alice == 1"):
        with pytest.raises(FactsUnavailable) as failure:
            learned({"fact": expression})
        assert str(failure.value) == "The fact fact could not be computed."
    with pytest.raises(FactsUnavailable) as failure:
        learned({"fact": "true"}, sources=(ACCOUNT, OWNER))
    assert str(failure.value) == "The source owner did not give an answer."


def test_after_a_failed_source_the_next_is_not_asked(bank: Bank) -> None:
    bank.answers["account"] = Unavailable("Down.")
    with pytest.raises(FactsUnavailable):
        learned({"large": "args.amount > 10"}, sources=(ACCOUNT, OWNER))
    assert [tool for tool, _ in bank.asked] == ["account"]


@pytest.mark.parametrize("answer", [float("nan"), "\ud800", {1: 2}, object()])
def test_an_answer_that_is_not_json_leaves_no_facts(bank: Bank, answer: Any) -> None:
    bank.answers["account"] = {"frozen": answer}
    with pytest.raises(FactsUnavailable, match="account"):
        learned({"frozen": "account.frozen == true"})


@pytest.mark.parametrize("answer", [None, {}, [], "text", 5, {"Frozen": True}])
def test_a_missing_value_leaves_no_facts(bank: Bank, answer: Any) -> None:
    bank.answers["account"] = answer
    with pytest.raises(FactsUnavailable, match="frozen could not be computed"):
        learned({"frozen": "account.frozen == true"})


@pytest.mark.parametrize(
    ("expression", "frozen"),
    [
        ("account.frozen || false", "yes"),
        ("account.frozen && true", 1),
        ("!account.frozen", None),
        ("account.frozen ? true : false", "true"),
        ("int(account.frozen) > 1", "many"),
        ("string(account.frozen) == ''", {"a": 1}),
        ("size(account.frozen) > 1", 5),
        ("{'a': true, 'b': account.frozen}['b']", "yes"),
        ("{'a': 'text', 'b': account.frozen}['b']", 5),
        ("{'a': 1, 'b': account.frozen}['b']", 1.5),
        ("{'a': ['text'], 'b': account.frozen}['b']", "text"),
        ("{'a': ['text'], 'b': account.frozen}['b']", [1]),
        ("{'a': ['text'], 'b': account.frozen}['b']", ["text", None]),
        ("{'a': ['text'], 'b': account.frozen}['b']", ["text", ["text"]]),
    ],
)
def test_a_value_of_the_wrong_type_leaves_no_facts(
    bank: Bank, expression: str, frozen: Any
) -> None:
    bank.answers["account"] = {"frozen": frozen}
    with pytest.raises(FactsUnavailable, match="fact"):
        learned({"fact": expression})


def test_a_missing_argument_of_a_source_leaves_no_facts(bank: Bank) -> None:
    with pytest.raises(FactsUnavailable, match="account"):
        learned({"large": "args.amount > 10"}, arguments={"amount": 50})
    assert bank.asked == []


def test_a_source_is_asked_only_with_arguments_that_fit_its_schema(bank: Bank) -> None:
    with pytest.raises(FactsUnavailable, match="account"):
        learned({"large": "args.amount > 10"}, arguments={"account": 7, "amount": 50})
    assert bank.asked == []


def test_a_fact_may_use_earlier_facts_only(bank: Bank) -> None:
    with pytest.raises(FactsUnavailable, match="first"):
        learned({"first": "facts.second == true", "second": "args.amount > 10"})


@pytest.mark.parametrize(
    "changes",
    [{"withdrawn": True}, {"access": "write"}, {"access": "execute"}, {"system": "other"}],
)
def test_a_source_must_be_a_read_tool_in_service(bank: Bank, changes: dict[str, Any]) -> None:
    catalog = catalog_of(reader("account", **changes))
    with pytest.raises(FactsUnavailable, match="account is not a read tool in service"):
        learned({"large": "args.amount > 10"}, catalog=catalog)
    assert bank.asked == []


def test_a_source_is_asked_in_the_calls_environment_only(bank: Bank) -> None:
    with pytest.raises(FactsUnavailable, match="account did not give an answer"):
        learned({"large": "args.amount > 10"}, environment="staging")
    assert bank.asked == []


def test_a_system_that_nothing_answers_for_leaves_no_facts() -> None:
    with pytest.raises(FactsUnavailable, match="account"):
        learned({"large": "args.amount > 10"})


def test_all_sources_together_have_one_time_limit(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "FACTS_TIMEOUT_SECONDS", 0.02)
    bank.delay_seconds = 0.05
    with pytest.raises(FactsUnavailable, match="too long"):
        learned({"large": "args.amount > 10"}, sources=(ACCOUNT, OWNER))
    assert [tool for tool, _ in bank.asked] == ["account"]


def test_a_source_over_http_is_given_up_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "FACTS_TIMEOUT_SECONDS", 0.2)
    with serving() as server:
        server.behaviour = say_nothing
        catalog = catalog_of(reader("account", kind="http"), base_url=server.url)
        with pytest.raises(FactsUnavailable, match="account did not give an answer"):
            learned({"frozen": "account.frozen == true"}, catalog=catalog)
        assert len(server.received) == 1


def test_a_source_may_be_asked_over_http() -> None:
    with serving() as server:
        server.answer = Answer(body=b'{"frozen": true}')
        catalog = catalog_of(reader("account", kind="http"), base_url=server.url)
        facts = learned({"frozen": "account.frozen == true"}, catalog=catalog)
        assert facts == {"frozen": True}
        assert server.received[0].body == b'{"id":"a"}'


def test_the_facts_of_a_call_share_one_budget(bank: Bank) -> None:
    text = "args.lines.exists(x, x > sum(args.limits))"
    given = {"lines": [1] * 400, "limits": [1] * 400}
    assert learned({"one": text}, sources=(), arguments=given) == {"one": False}
    with pytest.raises(FactsUnavailable):
        learned({f"fact_{n}": text for n in range(4)}, sources=(), arguments=given)
