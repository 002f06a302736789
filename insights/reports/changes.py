"""R7: what was changed in configuration, policies, tools and workflows."""

from collections import Counter

from accounts.models import User
from common.charts import Series
from insights.components import Content, Figure, count, listed, most, over_time
from insights.event_data import Facts
from policies.models import PolicyRelease

_KINDS = {
    "record.created": "created",
    "record.updated": "changed",
    "record.deleted": "removed",
    "record.related_changed": "changed",
}
_NOTABLE = (
    "policy.published", "policy.switched_off", "policy.switched_on", "tool.definition_changed",
    "tool.withdrawn", "workflow.version.published", "workflow.rollout.rolled_back",
    "record.bypass_detected",
)  # fmt: skip


def configuration(facts: Facts) -> Content:
    """R7: each change, who made it, and what went round the portal."""
    found = count(facts.rows)
    records = [fact for fact in facts.rows if fact.type in _KINDS]
    names = {str(pk): name for pk, name in User.objects.values_list("pk", "username")}
    bypassed = found["record.bypass_detected"]
    by = Counter(
        names.get(f.actor, f.actor) if f.actor_kind == "human" else f"{f.actor_kind} {f.actor}"
        for f in records
    )
    live = PolicyRelease.objects.live().first()
    return Content(
        summary="Governed records are changed by commands, each change with who made it. Policies "
        "and workflows go live by publication, which a second person approves.",
        figures=[
            Figure("changes of records", f"{len(records):,}"),
            Figure("releases of policies published", str(found["policy.published"])),
            Figure("the live one", f"release {live.number}" if live else "none",
                   "" if live else "bad"),
            Figure("tools defined anew", str(found["tool.definition_changed"])),
            Figure("workflow versions published", str(found["workflow.version.published"])),
            Figure("changes that went round the portal", str(bypassed), "bad" if bypassed else ""),
        ],
        charts=[
            over_time(
                "Changes of records", facts.period, ((f.at, _KINDS[f.type]) for f in records),
                (Series("created", "created", "good"), Series("changed", "changed", "wait"),
                 Series("removed", "removed", "bad")),
            ),
            most("By kind of record", Counter(str(f.said.get("model", "")) for f in records)),
            most("By whom", by),
        ],
        tables=[
            listed(
                "Publications, withdrawals and what went round", ("When", "what", "which", "by"),
                ((f.at, f.type, f"{f.subject_kind} {f.subject}", names.get(f.actor, f.actor))
                 for f in facts.of(*_NOTABLE)),
            ),
        ],
    )  # fmt: skip
