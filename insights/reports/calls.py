"""R4, R6 and R8: decisions on calls, the data they touched, and what went wrong."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from actions.models import Action
from agents.models import Finding
from common.charts import Series
from insights.components import Content, Figure, count, duration, listed, middle, most, over_time
from insights.event_data import EventFact, Facts

OUTCOMES = (
    Series("allowed", "allowed", "good"),
    Series("needs_approval", "needed approval", "wait"),
    Series("denied", "denied", "bad"),
    Series("halted", "halted", "doubt"),
)

_ENDS = (
    "tool.call.completed",
    "tool.call.failed",
    "tool.call.unresolved",
    "tool.call.answered_late",
)


def _attempt(fact: EventFact) -> tuple[str, Any]:
    return fact.subject, fact.said.get("attempt")


def decisions(facts: Facts) -> Content:
    """R4: how calls were decided, by which rules and releases, and what came of them."""
    made = list(facts.of("decision.made"))
    outcomes = Counter(str(fact.said["outcome"]) for fact in made)
    ends = count(facts.rows)
    refusing = [fact for fact in made if fact.said["outcome"] != "allowed"]
    by_rule = Counter(rule for fact in refusing for rule in fact.said.get("rules", ()))
    releases = Counter(f"release {fact.said['release']}" for fact in made)
    # By attempt: one may be of unknown effect first, and answered later.
    begun = {_attempt(fact) for fact in facts.of("tool.call.requested")}
    unaccounted = begun - {_attempt(fact) for fact in facts.of(*_ENDS)}
    return Content(
        summary="Every call is decided before it is made, by the rules of a release that people "
        "approved; the decision, the call and its result are events of their own. A call that "
        "waited for people is decided again before it is made, so there are more decisions than "
        "calls; the home page counts calls, each by its first decision.",
        figures=[
            Figure("decisions", f"{len(made):,}"),
            *(Figure(one.title, f"{outcomes[one.key]:,}") for one in OUTCOMES),
            Figure("calls made", f"{ends['tool.call.requested']:,}"),
            Figure("answered", f"{ends['tool.call.completed']:,}"),
            Figure("failed", f"{ends['tool.call.failed']:,}"),
            Figure("were of unknown effect", f"{ends['tool.call.unresolved']:,}",
                   "wait" if ends["tool.call.unresolved"] else ""),
            Figure("calls without an end yet", f"{len(unaccounted):,}"),
        ],
        charts=[
            over_time("Decisions", facts.period,
                      ((f.at, str(f.said["outcome"])) for f in made), OUTCOMES),
            most("What was not simply allowed, by rule", by_rule, tone="bad"),
            most("Decisions by tool", Counter(str(f.said["tool"]) for f in made)),
            most("Decisions by release of the policies", releases),
        ],
        tables=[
            listed(
                "Decisions by tool and outcome",
                ("Tool", *(one.title for one in OUTCOMES)),
                _by_tool(made),
            ),
        ],
    )  # fmt: skip


def _by_tool(made: list[EventFact]) -> Iterator[tuple[object, ...]]:
    found = Counter((str(f.said["tool"]), str(f.said["outcome"])) for f in made)
    for tool in sorted({tool for tool, _ in found}):
        yield (tool, *(found[tool, one.key] for one in OUTCOMES))


_PERSONAL = frozenset({"personal", "sensitive", "pii"})


def _kinds(fact: EventFact) -> set[str]:
    """The classes and labels of the data that a call touched."""
    return {*fact.said.get("classes", ()), *fact.said.get("labels", ())}


def data(facts: Facts) -> Content:
    """R6: which data was read and written, by class."""
    done = list(facts.of("tool.call.completed"))
    classes = Counter(name for fact in done for name in _kinds(fact))
    access = Counter(str(f.said.get("access", "unknown")) for f in done)
    table = Counter(
        (str(f.said["tool"]), str(f.said.get("access", "")), ", ".join(sorted(_kinds(f))))
        for f in done
    )
    personal = sum(1 for fact in done if _PERSONAL & _kinds(fact))
    return Content(
        summary="Tools declare which classes of data their arguments and answers hold. Runs carry "
        "the labels of what they have read, and rules speak of them.",
        figures=[
            Figure("calls answered", f"{len(done):,}"),
            Figure("that read", f"{access['read']:,}"),
            Figure("that wrote or executed", f"{access['write'] + access['execute']:,}"),
            Figure("with personal data", f"{personal:,}"),
        ],
        charts=[
            over_time(
                "Calls answered", facts.period,
                ((f.at, str(f.said.get("access", ""))) for f in done),
                (Series("read", "read", "good"), Series("write", "write", "wait"),
                 Series("execute", "execute", "doubt")),
            ),
            most("By class and label of the data", classes, tone="wait"),
        ],
        tables=[
            listed(
                "Tools and the data they touched",
                ("Tool", "access", "classes and labels", "calls"),
                ((*row, number) for row, number in sorted(table.items())),
            ),
        ],
    )  # fmt: skip


_WRONG = (
    Series("tool.call.failed", "calls failed", "bad"),
    Series("tool.call.unresolved", "of unknown effect", "doubt"),
    Series("finding.made", "unusual use", "wait"),
)


def incidents(facts: Facts) -> Content:
    """R8: what went wrong, and what was done about it."""
    found = count(facts.rows)
    open_findings = Finding.objects.filter(resolved_at__isnull=True).count()
    unknown = Action.objects.unknown().count()
    asked = {f.subject: f.at for f in facts.of("tool.call.unresolved")}
    took = [
        (f.at - asked[f.subject]).total_seconds()
        for f in facts.of("tool.call.resolved") if f.subject in asked
    ]  # fmt: skip
    rules = Counter(str(f.said.get("rule", "")) for f in facts.of("finding.made"))
    return Content(
        summary="A call whose effect is unknown waits for a probe or a person; unusual use is "
        "noticed, answered in steps and explained.",
        figures=[
            Figure("calls failed", f"{found['tool.call.failed']:,}"),
            Figure("of unknown effect", f"{found['tool.call.unresolved']:,}"),
            Figure("still unknown now", str(unknown), "bad" if unknown else ""),
            Figure("until a person said, median", duration(middle(took)) if took else "none"),
            Figure("unusual use noticed", str(found["finding.made"])),
            Figure("not explained yet", str(open_findings), "wait" if open_findings else ""),
            Figure("runs undone", str(found["workflow.run.compensating"])),
            Figure("that could not be", str(found["workflow.run.compensation_failed"]),
                   "bad" if found["workflow.run.compensation_failed"] else ""),
            Figure("requests with a credential", str(found["request.secret_refused"])),
        ],
        charts=[
            over_time("What went wrong", facts.period,
                      ((f.at, f.type) for f in facts.rows), _WRONG),
            most("Unusual use by rule", rules, tone="wait"),
            most("Failed calls by reason", Counter(
                str(f.said.get("error", "")) for f in facts.of("tool.call.failed")
            ), tone="bad"),
        ],
        tables=[
            listed(
                "Calls of unknown effect", ("When", "tool", "why", "run"),
                ((f.at, f.said.get("tool", ""), f.said.get("error", ""), f.run)
                 for f in facts.of("tool.call.unresolved")),
            ),
            listed(
                "Endpoints whose calls had to wait", ("When", "system", "environment", "failures"),
                ((f.at, f.said.get("system", ""), f.said.get("environment", ""),
                  f.said.get("failures", "")) for f in facts.of("breaker.opened")),
            ),
        ],
    )  # fmt: skip
