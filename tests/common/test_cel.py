from typing import Any

import pytest

from common import cel_work
from common.cel import (
    MAX_EXPRESSION_LENGTH,
    ExpressionFailed,
    InvalidExpression,
    WorkBudget,
    compiled,
)
from common.cel_work import Work


def value_of(text: str, **args: Any) -> Any:
    return compiled(text, ("args",)).evaluate({"args": args})


@pytest.mark.parametrize(
    ("text", "args", "value"),
    [
        ("args.amount > 100", {"amount": 101}, True),
        ("double(args.amount) > 100.0", {"amount": 100}, False),
        ("args.name + '!'", {"name": "Olga"}, "Olga!"),
        ("size(args.items)", {"items": [1, 2, 3]}, 3),
        ("args.items.map(x, x.id)", {"items": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ("args.items.exists(x, x == 'b')", {"items": ["a", "b"]}, True),
        ("has(args.note)", {}, False),
        ("args.nothing == null", {"nothing": None}, True),
        ("args.a in ['x', 'y']", {"a": "y"}, True),
        ("{'a': args.n}", {"n": 1}, {"a": 1}),
        ("args.word.matches('^[a-z]+$')", {"word": "abc"}, True),
        ("'é' == args.e", {"e": "é"}, True),
    ],
)
def test_an_expression_gives_plain_values(text: str, args: dict[str, Any], value: Any) -> None:
    result = value_of(text, **args)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("numbers", "total"), [([1, 2.5], 3.5), ([], 0.0), ([3], 3.0), ([0.5, -0.5], 0.0)]
)
def test_sum_adds_numbers_up(numbers: list[float], total: float) -> None:
    result = value_of("sum(args.prices)", prices=numbers)
    assert result == total
    assert isinstance(result, float)


def test_sum_goes_together_with_map() -> None:
    assert value_of("sum(args.items.map(x, x.price))", items=[{"price": 1}, {"price": 2}]) == 3


@pytest.mark.parametrize(
    "text",
    [
        "[args.s]" + ".map(x, x + x)" * 7,
        "[args.s]" + ".map(x, [x, x])" * 7,
        "[args.s].map(x, " + "+".join("x" * 50) + ").map(y, " + "+".join("y" * 50) + ")",
        "[args.s]" + ".map(x, x)" * 13,
        "[args.s].map(x, [args.s].map(y, " + "x+y+" * 40 + "x))",
        "[args.s]" + ". map(x, x + x)" * 7,
        "[args.s]" + ".//\nmap(x, x + x)" * 7,
        "[args.s]" + ".map//)\n(x, x + x)" * 7,
        "[args.s]" + ".map(x, ')' == '' ? x : x + x)" * 7,
        "[args.s]" + '.map(x, """)""" == r"\\" ? x : x + x)' * 7,
        "[args.s]" + ".map(x, '\\')' == '' ? x : x + x)" * 7,
    ],
)
def test_what_makes_values_grow_is_refused(text: str) -> None:
    with pytest.raises(InvalidExpression, match="grow"):
        value_of(text, s="12345678")


@pytest.mark.parametrize(
    "text",
    [
        "args.l.all(x, sum(args.l) > 0.0)",
        "args.l.filter(x, args.s.contains(args.t)).size() == 0",
        "args.l.exists(x, x in args.m)",
        "args.l.exists(x, args.s.matches('a*b'))",
        "args.l.map(x, string(x) + args.s).size() == 0",
        "args.l.map(x, [x] + args.m).size() == 0",
        "args.l.map(x, [args.m, args.m]).size() == 0",
        "args.l.all(x, args.l == args.m)",
        "args.l.all(x, args.s < args.s)",
        "args.l.all(x, args.s.startsWith(args.s))",
        "args.l.all(x, args['s'].endsWith(args['t']))",
        "args.l.map(x, double(args.s)).size() == 0",
        "args.l.all(x, .args.l == args . m)",
        "args.m.map(x, args.l.map(y, x + y)).size() == 0",
        "(args.l + args.l + args.l + args.l).all(x, [1, 2, 3, 4, 5, 6, 7, 8, 9] == args.m)",
    ],
)
def test_what_looks_at_long_values_again_and_again_fails(text: str) -> None:
    long = {"l": [1] * 8_000, "m": [2] * 8_000, "s": "a" * 8_000, "t": "a" * 4_000 + "b"}
    with pytest.raises(ExpressionFailed, match="too much"):
        value_of(text, **long)
    few = {"l": [1] * 10, "m": [1] * 10, "s": "1" * 300, "t": "1" * 100}
    value_of(text, **few)


def test_comprehensions_within_reason_are_evaluated() -> None:
    text = "args.items.filter(x, x.n > 1).map(x, x.n + 1).exists(x, x == 3)"
    assert value_of(text, items=[{"n": 1}, {"n": 2}]) is True


@pytest.mark.parametrize(
    "text",
    [
        "args.lines.all(x, x.amount <= args.limit && x.kind in ['a', 'b'])",
        "args.lines.map(x, x.amount * args.limit).size() == 4000",
        "args.lines.filter(x, x.kind == args.kinds[0]).size() == 4000",
        "args.lines.all(x, x.kind in args.prices && args.prices[x.kind] >= x.amount)",
        "sum(args.lines.map(x, x.amount)) == 4000.0",
    ],
)
def test_a_long_list_of_small_things_is_looked_at(text: str) -> None:
    lines = [{"kind": "a", "amount": 1}] * 4_000
    prices = dict.fromkeys("abcdefgh", 1)
    assert value_of(text, lines=lines, limit=1, kinds=["a", "b"], prices=prices) is True


def test_loops_in_loops_run_over_parts_of_their_elements() -> None:
    lines = [{"sku": f"SKU-{n}", "tags": ["fragile", "heavy"]} for n in range(500)]
    given = {"lines": lines, "allowed": ["fragile", "heavy", "cold"]}
    assert value_of("args.lines.all(l, l.tags.all(t, t in args.allowed))", **given) is True
    assert value_of("args.lines.exists(l, l.tags.exists(t, t == 'banned'))", **given) is False
    prices = {f"SKU-{n}": 1 for n in range(3_400)}
    text = "args.lines.all(l, l.sku in args.prices)"
    assert value_of(text, lines=lines * 3, prices=prices) is True
    order = {"currency": "EUR", "memo": "m" * 2_700}
    text = "args.lines.exists(l, l.currency != args.order['currency'])"
    assert value_of(text, lines=[{"currency": "EUR"}] * 1_900, order=order) is False


@pytest.mark.parametrize(
    "text",
    [
        r"args.names.exists(n, !n.matches('^\\p{Lu}[\\p{L} -]{0,39}$'))",
        r"args.names.exists(n, !n.matches(r'^[\p{L}\p{M} .-]{1,50}$'))",
        r"args.names.exists(n, !matches(n, r'\p{L}{2,9}'))",
        "args.names.exists(n, n.matches(args.pattern))",
        "args.names.exists(n, n.matches('a' + 'b'))",
        r"args.t.matches(r'\pL{150}')",
        r"args.t.matches('a') || args.t.matches('\\pL{50}')",
        "args.t.matches(args.pattern)",
        "matches(args.t, args.p + '')",
        # A comment within brackets is no index by a name, and hides no loop.
        '[0, // [\n"a"].map(s, args.t)' + ".map(s, s + s)" * 24 + ".size() > 0",
        "[0, // [\n'a'].map(s, args.t)" + ".map(s, s + s)" * 24 + ".size() > 0",
        '{"//": 1}.`//` == 1 && [[1]].map(x, x).size() == 1',
    ],
)
def test_what_cannot_be_bounded_is_refused_when_it_is_written(text: str) -> None:
    with pytest.raises(InvalidExpression):
        compiled(text, ("args",))


def test_patterns_in_a_loop_are_compared_within_reason() -> None:
    text = "args.names.exists(n, !n.matches('^[A-Za-z ]{1,60}$'))"
    assert value_of(text, names=["Ann Lee"] * 900) is False
    text = r"args.names.all(n, n.matches(r'^\p{Lu}[\p{L} -]*$') && size(n) <= 40)"
    assert value_of(text, names=["Änne"] * 30) is True
    with pytest.raises(ExpressionFailed, match="too much"):
        value_of(text, names=["Änne"] * 900)


def test_patterns_outside_of_loops_are_counted() -> None:
    text = r"args.t.matches(r'^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$') && args.t.matches(r'\p{Lu}')"
    assert value_of(text, t="DE02120300000000202051") is True
    slow = " || ".join(f"args.t.matches('[ab]*a[ab]{{{500 + n}}}c')" for n in range(60))
    with pytest.raises(ExpressionFailed, match="too much"):
        value_of(slow, t="ab" * 30_000)


def test_what_stands_in_a_comment_is_not_counted_and_hides_nothing() -> None:
    text = "args.l.map(x, x) // ].map(s, s + s)\n.size() == 2 // ["
    assert value_of(text, l=[1, 2]) is True
    assert Work(text).deepest == 1
    assert Work('[0, // [\n"a"].map(x, x).size() > 0').deepest == 1
    assert Work('[0, [ // a\n"a"]].map(x, x).size() > 0').deepest == 1


def test_a_refusal_takes_no_longer_than_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are counted before they are read, and what they run over is looked for nearby."""
    read: list[str] = []
    real = cel_work._range_before

    def counted(code: str, end: int) -> tuple[str, ...]:
        read.append(code)
        return real(code, end)

    monkeypatch.setattr(cel_work, "_range_before", counted)
    many = "a" + " . a" * 500 + ".map(x,x)" * 200
    assert "too many" in Work(many).problem
    assert read == []
    few = "a" + " . a" * 900 + ".map(x, x)" * 12
    assert len(Work(few)._loops) == 12
    assert Work(few)._loops[0].over == ()
    assert Work("args.lines.map(x, x)")._loops[0].over == ("args", "lines")


def test_expressions_share_a_budget() -> None:
    text, values = compiled("args.l.exists(x, x > sum(args.m))", ("args",)), [1] * 400
    budget = WorkBudget()
    given = {"args": {"l": values, "m": values}}
    for _ in range(2):
        assert text.evaluate(given, budget=budget) is False
    budget.left = 100
    with pytest.raises(ExpressionFailed, match="too much"):
        text.evaluate(given, budget=budget)
    assert text.evaluate(given) is False


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("facts.total > 5 && facts . much", {"total", "much"}),
        ("facts['total'] > 5", {"total"}),
        ("facts [ 'total' ] > 5", {"total"}),
        ("facts[args.which] > 5", None),
        ("size(facts) > 1", None),
    ],
)
def test_the_fields_that_are_named_are_known(text: str, named: set[str] | None) -> None:
    assert compiled(text, ("facts", "args")).parts_named("facts") == named


def test_values_that_are_put_together_without_a_loop_are_bounded() -> None:
    def halves(depth: int) -> str:
        return f"({halves(depth - 1)} + {halves(depth - 1)})" if depth else "args.l"

    assert value_of(f"size({halves(3)})", l=[1] * 8_000) == 64_000
    with pytest.raises(ExpressionFailed, match="too much"):
        value_of(f"size({halves(8)})", l=[1] * 30_000)


@pytest.mark.parametrize("numbers", [["1"], [None], [{"a": 1}], [[1]], None, "12", {"a": 1}, 5])
def test_sum_of_what_is_not_a_list_of_numbers_fails(numbers: Any) -> None:
    with pytest.raises(ExpressionFailed):
        value_of("sum(args.prices)", prices=numbers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "args.",
        "1 +",
        "args.a ==",
        "(args.a",
        "argz.a",
        "args.a > other",
        "frob(args.a)",
        "1 + 'a'",
        "'a' > 1",
        "true && 1",
        "import os",
        "args.a; args.b",
        "x = 1",
        "'unfinished",
        pytest.param("(" * 400 + "1" + ")" * 400, id="deep"),
    ],
)
def test_what_does_not_compile_is_refused(text: str) -> None:
    with pytest.raises(InvalidExpression) as refusal:
        compiled(text, ("args",))
    assert refusal.value.code == "invalid_expression"
    assert "\n" not in str(refusal.value)


def test_the_refusal_says_which_name_is_not_declared() -> None:
    with pytest.raises(InvalidExpression, match="account"):
        compiled("account.frozen", ("args",))
    assert compiled("account.frozen", ("args", "account")).type_name == "DYN"


def test_an_overlong_expression_is_refused() -> None:
    fits = "'" + "a" * (MAX_EXPRESSION_LENGTH - 2) + "'"
    assert compiled(fits, ()).evaluate({}) == "a" * (MAX_EXPRESSION_LENGTH - 2)
    with pytest.raises(InvalidExpression, match=str(MAX_EXPRESSION_LENGTH)):
        compiled(fits + " ", ())


@pytest.mark.parametrize(
    ("text", "policy_type"),
    [
        ("args.a == 1", "bool"),
        ("size(args.a)", "int"),
        ("string(args.a)", "string"),
        ("args.a.map(x, string(x))", "strings"),
        ("args.a", None),
        ("1.5", None),
        ("sum(args.a)", None),
        ("[1]", None),
        ("{'a': 1}", None),
        ("1u", None),
        ("null", None),
        ("timestamp('2026-01-01T00:00:00Z')", None),
    ],
)
def test_the_type_is_known_before_evaluation(text: str, policy_type: str | None) -> None:
    assert compiled(text, ("args",)).policy_type == policy_type


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("args.missing", {}),
        ("args.a.b.c", {"a": {}}),
        ("args.a.b", {"a": 1}),
        ("args.list[3]", {"list": [1]}),
        ("1 / args.n", {"n": 0}),
        ("args.n * args.n", {"n": 2**62}),
        ("args.n > 1", {"n": 2**70}),
        ("args.n > 1", {"n": "text"}),
        ("int(args.t)", {"t": "text"}),
        ("timestamp(args.t) == timestamp(args.t)", {"t": "yesterday"}),
        ("args.t.matches('(')", {"t": "a"}),
        ("args.t == 'a'", {"t": "\ud800"}),
    ],
)
def test_what_cannot_be_evaluated_fails_in_one_way(text: str, args: dict[str, Any]) -> None:
    with pytest.raises(ExpressionFailed):
        value_of(text, **args)


def test_a_value_that_was_not_given_fails() -> None:
    with pytest.raises(ExpressionFailed):
        compiled("args.a + account.b", ("args", "account")).evaluate({"args": {"a": 1}})


@pytest.mark.parametrize(
    "text",
    [
        "args.n.all(x, args.n.all(y, args.n.all(z, x + y + z >= 0)))",
        "args.n.map(x, args.n.map(y, x * y)).size() > 0",
        "args.n.exists(x, args.n.exists(y, x + y < 0))",
        "sum(args.n.map(x, sum(args.n.map(y, x * y)))) > 0.0",
    ],
)
def test_an_endless_expression_runs_out_of_its_budget(text: str) -> None:
    with pytest.raises(ExpressionFailed, match=r"budget|too much"):
        value_of(text, n=list(range(2000)))


def test_an_expression_cannot_change_what_it_is_given() -> None:
    args = {"items": [1, 2], "map": {"a": 1}}
    value_of("args.items + [3] == [1, 2, 3]", **args)
    assert args == {"items": [1, 2], "map": {"a": 1}}
