"""Definitions as graphs and sentences, runs as timelines: pure, so no database is needed."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.definitions import VENDOR_CREDIT, WORLD
from workflows.definitions.compiling import compile_text
from workflows.definitions.spec import WorkflowSpec
from workflows.diagrams import (
    Bar,
    Lane,
    Mark,
    graph,
    in_seconds,
    in_short,
    in_words,
    levels,
    timeline,
    tone_of,
)
from workflows.models import StepRun

SPEC, _ = compile_text(VENDOR_CREDIT, WORLD)
SCRIPT = "<script>alert('x')</script>"
NINE = datetime(2026, 5, 4, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def spec_of(steps: str, title: str = "Work") -> WorkflowSpec:
    head = f"workflow: w\ntitle: {title!r}\nschema: 1\nroles: [desk]\nsteps:\n"
    return compile_text(head + steps, WORLD)[0]


def rests(needs: Mapping[str, list[str]], title: str = "") -> WorkflowSpec:
    """A definition whose steps only wait, with these needs."""
    said = f"title: {title!r}, " if title else ""
    return spec_of(
        "".join(
            f"  {name}: {{{said}needs: [{', '.join(wanted)}], wait: {{for: 1h}}}}\n"
            for name, wanted in needs.items()
        )
    )


def drawn(html: str) -> ElementTree.Element:
    """The picture, which must be well-formed."""
    svg = ElementTree.fromstring(html).find("svg")
    assert svg is not None
    return svg


def nodes(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [found for found in svg.iter("g") if found.get("class", "").startswith("node ")]


def texts(node: ElementTree.Element) -> list[str]:
    """What is written in a box: its title and what stands below."""
    return [found.text or "" for found in node.iter("text")]


def size(svg: ElementTree.Element) -> tuple[float, float]:
    return float(svg.get("width", 0)), float(svg.get("height", 0))


def boxes(svg: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each box."""
    found = []
    for box in svg.iter("rect"):
        x, y, width, height = (float(box.get(name, 0)) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


# -- the graph -----------------------------------------------------------------------------------


def test_every_step_is_drawn_once_with_an_edge_for_each_need() -> None:
    svg = drawn(graph(SPEC))
    assert [texts(node)[0] for node in nodes(svg)] == [
        "Invoice",
        "Sign off",
        "Credit",
        "Cool off",
        "Tell",
    ]
    edges = [path for path in svg.iter("path") if path.get("class") == "edge"]
    assert len(edges) == sum(len(step.needs) for step in SPEC.steps.values()) == 5
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "The steps of Credit a vendor"


def test_a_step_stands_below_all_that_it_needs() -> None:
    found = [[step.name for step in row] for row in levels(SPEC)]
    assert found == [["invoice"], ["sign_off"], ["credit"], ["cool_off"], ["tell"]]
    wide = rests({"a": [], "b": [], "c": ["a"], "d": ["a", "b", "c"], "e": ["b"]})
    assert [{step.name for step in row} for row in levels(wide)] == [
        {"a", "b"},
        {"c", "e"},
        {"d"},
    ]


@st.composite
def needs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Steps that need some of those before them."""
    number = draw(st.integers(min_value=1, max_value=12))
    names = [f"s{n}" for n in range(number)]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=4))
        if place
        else []
        for place, name in enumerate(names)
    }


@settings(deadline=None, max_examples=50)
@given(needs=needs())
def test_boxes_are_inside_and_apart_and_edges_lead_down(needs: dict[str, list[str]]) -> None:
    svg = drawn(graph(rests(needs)))
    width, height = size(svg)
    found = boxes(svg)
    assert len(found) == len(needs)
    for number, (left, top, right, bottom) in enumerate(found):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for other in found[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    edges = [re.findall(r"-?[\d.]+", path.get("d", "")) for path in svg.iter("path")]
    assert len(edges) == sum(map(len, needs.values()))
    tops, bottoms = {box[1] for box in found}, {box[3] for box in found}
    for _, begin, *_, end in edges:
        assert float(begin) in bottoms
        assert float(end) in tops
        assert float(begin) < float(end)


def test_long_names_are_cut_and_told_in_full_in_the_boxs_title() -> None:
    long = "A step whose name is very long indeed"
    spec = spec_of(f"  a: {{title: {long}, wait: {{signal: {'s' * 60}, timeout: 1h}}}}\n")
    [node] = nodes(drawn(graph(spec)))
    assert texts(node) == ["A step whose name is very…", f"waits for {'s' * 20}…"]
    assert [len(text) for text in texts(node)] == [26, 31]
    told = node.findtext("title") or ""
    assert long in told
    assert "s" * 60 in told


def test_what_just_fits_is_not_cut() -> None:
    spec = spec_of(f"  a: {{title: {'n' * 26}, wait: {{for: 1h}}}}\n")
    assert texts(nodes(drawn(graph(spec)))[0])[0] == "n" * 26


def test_what_people_wrote_is_escaped() -> None:
    spec = spec_of(
        f'  a:\n    title: "{SCRIPT}"\n    approval: {{tier: dual, question: "{SCRIPT}"}}\n',
        title=SCRIPT.replace("'", ""),
    )
    html = graph(spec, {"a": Mark("failed", SCRIPT)})
    assert "<script" not in html
    [node] = nodes(drawn(html))
    assert texts(node) == [f"■ {SCRIPT[:23]}…", SCRIPT]
    assert SCRIPT in (node.findtext("title") or "")
    html = timeline(
        SCRIPT,
        [Lane(SCRIPT, "failed", [Bar(NINE, NINE + MINUTE, "bad", SCRIPT)])],
        begin=NINE,
        end=NINE + MINUTE,
    )
    assert "<script" not in html
    assert drawn(html).get("aria-label") == SCRIPT


def test_a_box_is_dashed_where_the_step_may_be_skipped() -> None:
    dashed = [
        texts(node)[0]
        for node in nodes(drawn(graph(SPEC)))
        if "conditional" in node.get("class", "")
    ]
    assert dashed == ["Sign off"]


def test_a_run_marks_its_steps_by_shape_word_and_colour() -> None:
    marks = {
        "invoice": Mark("succeeded"),
        "sign_off": Mark("skipped", "skipped"),
        "credit": Mark("unknown", "effect unknown"),
        "cool_off": Mark("denied", "Frozen accounts"),
        "undo:credit": Mark("succeeded"),
    }
    found = {
        texts(node)[0]: (node.get("class", "").split()[1], texts(node)[1])
        for node in nodes(drawn(graph(SPEC, marks)))
    }
    assert found == {
        "● Invoice": ("node-good", "erp.get"),
        "· Sign off": ("node-off", "skipped"),
        "▲ Credit": ("node-doubt", "effect unknown"),
        "■ Cool off": ("node-bad", "Frozen accounts"),
        "Tell": ("node-plain", "for each of up to 50"),
    }


def test_every_status_of_a_step_has_a_tone() -> None:
    tones = {status.value: tone_of(status) for status in StepRun.Status}
    assert "plain" not in tones.values()
    assert tone_of("of another kind") == "plain"
    assert {tones["running"], tones["retry"], tones["waiting"]} == {"wait"}
    assert {tones["failed"], tones["denied"], tones["expired"]} == {"bad"}


# -- in words ------------------------------------------------------------------------------------


def words(text: str) -> str:
    return in_words(spec_of(f"  a: {text}\n").steps["a"])


def test_a_definition_is_told_in_sentences() -> None:
    assert {name: in_words(step) for name, step in SPEC.steps.items()} == {
        "invoice": "Calls erp.get (read); up to 5 attempts.",
        "sign_off": "Asks dual: Credit this vendor; without an answer it fails; only if "
        "inputs.amount > 1000.0 || steps.invoice.output.risk == 'high'.",
        "credit": "Calls erp.credit (write); up to 3 attempts; if it is not known whether it "
        "happened, it is tried again; undone by erp.void.",
        "cool_off": "Waits for the signal vendor.acknowledged, at most 3 days, 0:00:00.",
        "tell": "For each of steps.invoice.output.contacts, 5 at a time: Mail.",
    }
    assert in_words(SPEC.step("tell[3].mail")) == (
        "Calls mail.send (write); up to 3 attempts; if it is not known whether it happened, a "
        "person is asked; cannot be undone (A mail cannot be called back.)."
    )


# What is written, and what people read.
SAID = [
    (
        "{tool: erp.book, with: {id: x}, on_unknown: probe, retry: {max_attempts: 1}}",
        "Calls erp.book (write); if it is not known whether it happened, the system is asked.",
    ),
    ("{wait: {for: 2h}}", "Waits 2:00:00."),
    ('{wait: {until: "${ run.date }"}}', "Waits until a computed moment."),
    (
        "{approval: {tier: dual, question: May it, on_expiry: halt}}",
        "Asks dual: May it; without an answer the run is halted.",
    ),
    (
        "{approval: {tier: dual, question: May it, on_expiry: continue}}",
        "Asks dual: May it; without an answer it goes on.",
    ),
    ("{workflow: {workflow: other}}", "Runs: other."),
    ("{handoff: {agent: bob, workflow: other}}", "Hands over to bob: other."),
]


@pytest.mark.parametrize(("text", "sentence"), SAID)
def test_a_step_is_told_in_a_sentence(text: str, sentence: str) -> None:
    assert words(text) == sentence


def test_a_step_is_told_in_a_few_words() -> None:
    assert [in_short(step) for step in SPEC.steps.values()] == [
        "erp.get",
        "asks: dual",
        "erp.credit ↶",
        "waits for vendor.acknowledged",
        "for each of up to 50",
    ]
    for text, short in (
        ("{wait: {for: 2h}}", "waits for time"),
        ("{workflow: {workflow: other}}", "runs other"),
        ("{handoff: {agent: bob, workflow: other}}", "bob does other"),
    ):
        assert in_short(spec_of(f"  a: {text}\n").steps["a"]) == short


# -- the timeline --------------------------------------------------------------------------------


def lanes(*spans: tuple[float, float]) -> list[Lane]:
    """Lanes of one bar each, in minutes from nine o'clock."""
    return [
        Lane(f"step {number}", "succeeded", [Bar(NINE + a * MINUTE, NINE + b * MINUTE, "good", "")])
        for number, (a, b) in enumerate(spans)
    ]


def test_a_timeline_has_a_row_for_each_step_and_a_bar_for_each_try() -> None:
    step = Bar(NINE, NINE + 4 * MINUTE, "good", "pay: succeeded, 240 s")
    attempts = [
        Bar(NINE, NINE + MINUTE, "bad", "try 1: failed", is_try=True),
        Bar(NINE + 2 * MINUTE, NINE + 4 * MINUTE, "good", "try 2: succeeded", is_try=True),
    ]
    lane = Lane("pay", "succeeded", [step, *attempts])
    svg = drawn(timeline("When", [lane], begin=NINE, end=NINE + 4 * MINUTE))
    bars = list(svg.iter("rect"))
    assert [bar.get("class") for bar in bars] == ["span-good", "bar-bad", "bar-good"]
    assert [bar.findtext("title") for bar in bars] == [step.says, *(one.says for one in attempts)]
    lefts, widths = zip(*((box[0], box[2] - box[0]) for box in boxes(svg)), strict=True)
    assert lefts == (210, 210, 490)
    assert widths == (560, 140, 280)
    said = [text.text for text in svg.iter("text")]
    assert said == ["09:00:00", "09:04:00 (4.0 min)", "● pay"]


@settings(deadline=None)
@given(
    spans=st.lists(
        st.tuples(st.floats(min_value=-60, max_value=60), st.floats(min_value=-60, max_value=60)),
        min_size=1,
        max_size=8,
    ),
    length=st.floats(min_value=0, max_value=30),
)
def test_bars_stay_inside_and_can_be_seen(spans: list[tuple[float, float]], length: float) -> None:
    svg = drawn(timeline("When", lanes(*spans), begin=NINE, end=NINE + length * MINUTE))
    width, height = size(svg)
    found = boxes(svg)
    assert len(found) == len(spans)
    for left, top, right, bottom in found:
        assert 210 <= left < right <= width
        assert right - left >= 2.9
        assert 22 <= top < bottom <= height
    tops = [top for _, top, _, _ in found]
    assert tops == sorted(set(tops))


def test_a_run_of_no_length_and_no_lanes_is_drawn() -> None:
    svg = drawn(timeline("When", [], begin=NINE, end=NINE))
    assert boxes(svg) == []
    assert drawn(timeline("When", lanes((0, 0)), begin=NINE, end=NINE)) is not None


def test_long_names_of_lanes_are_cut() -> None:
    lane = Lane("each[999]." + "n" * 50, "waiting", [])
    svg = drawn(timeline("When", [lane], begin=NINE, end=NINE + MINUTE))
    [label] = [text.text for text in svg.iter("text") if text.get("class") == "lane-label"]
    assert label == f"◆ each[999].{'n' * 19}…"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.00 s"),
        (0.004, "0.00 s"),
        (9.994, "9.99 s"),
        (10, "10 s"),
        (119, "119 s"),
        (120, "2.0 min"),
        (7_199, "120.0 min"),
        (7_200, "2.0 h"),
        (172_799, "48.0 h"),
        (172_800, "2.0 d"),
        (30 * 86_400, "30.0 d"),
    ],
)
def test_a_length_of_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert in_seconds(seconds) == said
