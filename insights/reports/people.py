"""R5: what people were asked, how long they took, and where they overrode."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from accounts.models import User
from common.charts import Series, stacked_bars
from insights.components import (
    WIDTH,
    Chart,
    Content,
    Figure,
    count,
    duration,
    listed,
    middle,
    most,
    over_time,
)
from insights.event_data import Facts

_ENDS = ("approval.approved", "approval.rejected", "approval.expired", "approval.withdrawn")
_STEPS = (
    ("1 min", 60), ("5 min", 300), ("15 min", 900), ("1 h", 3600), ("4 h", 4 * 3600),
    ("1 day", 86_400), ("longer", float("inf")),
)  # fmt: skip
_OVERRIDES = {
    "tool.call.resolved": "said what a call had done",
    "run.reopened": "opened a run again",
    "workflow.run.operator_command": "gave an order for a run",
    "elevation.given": "more rights for a while",
}


@dataclass(frozen=True, slots=True)
class _Answered:
    tier: str
    end: str
    at: datetime
    seconds: float


def approvals(facts: Facts) -> Content:
    """R5: questions, answers, latency, overrides."""
    found = count(facts.rows)
    answered = _answered(facts)
    took = [one.seconds for one in answered if one.end in {"approved", "rejected"}]
    voters = Counter(fact.actor for fact in facts.of("approval.voted"))
    names = {str(pk): name for pk, name in User.objects.values_list("pk", "username")}
    return Content(
        summary="What a rule sends to people waits until enough of the right ones have answered; "
        "they see what would be done, and an approval counts for exactly that.",
        figures=[
            Figure("questions", f"{found['approval.requested']:,}"),
            Figure("approved", f"{found['approval.approved']:,}"),
            Figure("rejected", f"{found['approval.rejected']:,}"),
            Figure("not answered in time", f"{found['approval.expired']:,}",
                   "wait" if found["approval.expired"] else ""),
            Figure("passed on to a higher tier", f"{found['approval.escalated']:,}"),
            Figure("until decided, median", duration(middle(took)) if took else "none"),
            Figure("95 of 100 within", duration(middle(took, 0.95)) if took else "none"),
        ],
        charts=[
            over_time(
                "How questions ended", facts.period,
                ((one.at, one.end) for one in answered),
                (Series("approved", "approved", "good"), Series("rejected", "rejected", "bad"),
                 Series("expired", "not in time", "doubt"),
                 Series("withdrawn", "withdrawn", "wait")),
            ),
            _latency(answered),
            most("Answers by person", Counter(
                {names.get(key, key): number for key, number in voters.items()}
            ), note="One who answers everything within seconds may not read what is asked."),
        ],
        tables=[
            listed("By tier", ("Tier", "questions", "approved", "rejected", "not in time",
                               "median", "95 of 100 within"), _by_tier(facts, answered)),
            listed(
                "Overrides", ("When", "what", "by", "run"),
                ((f.at, _OVERRIDES[f.type], names.get(f.actor, f.actor), f.run)
                 for f in facts.of(*_OVERRIDES)),
            ),
        ],
    )  # fmt: skip


def _answered(facts: Facts) -> list[_Answered]:
    """Each question that ended, with the time from its beginning; one about the same subject at a
    time.
    """
    waiting: dict[tuple[str, str], tuple[str, datetime]] = {}
    found = []
    for fact in facts.rows:
        subject = (fact.subject_kind, fact.subject)
        if fact.type == "approval.requested":
            waiting[subject] = (str(fact.said.get("tier", "")), fact.at)
        elif fact.type in _ENDS and subject in waiting:
            tier, since = waiting.pop(subject)
            end = fact.type.removeprefix("approval.")
            found.append(_Answered(tier, end, fact.at, (fact.at - since).total_seconds()))
    return found


def _latency(answered: list[_Answered]) -> Chart:
    counts: list[Counter[str]] = [Counter() for _ in _STEPS]
    for one in answered:
        if one.end in {"approved", "rejected"}:
            place = next(n for n, (_, most_) in enumerate(_STEPS) if one.seconds <= most_)
            counts[place][one.end] += 1
    series = (Series("approved", "approved", "good"), Series("rejected", "rejected", "bad"))
    title = "How long people took"
    plot = stacked_bars(title, [f"≤ {label}" if label != "longer" else label
                                for label, _ in _STEPS], counts, series, width=WIDTH)  # fmt: skip
    return Chart(title, plot, series)


def _by_tier(facts: Facts, answered: list[_Answered]) -> list[tuple[object, ...]]:
    asked = Counter(str(f.said.get("tier", "")) for f in facts.of("approval.requested"))
    rows: list[tuple[object, ...]] = []
    for tier, number in sorted(asked.items()):
        mine = [one for one in answered if one.tier == tier]
        ends = Counter(one.end for one in mine)
        took = [one.seconds for one in mine if one.end in {"approved", "rejected"}]
        times = (duration(middle(took)), duration(middle(took, 0.95))) if took else ("", "")
        rows.append((tier, number, ends["approved"], ends["rejected"], ends["expired"], *times))
    return rows
