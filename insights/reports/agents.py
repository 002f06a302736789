"""R2 and R3: which agents there are, and what identities, keys and rights they have."""

from collections import Counter

from agents.models import Agent, Halt
from common.charts import Series
from insights.components import Content, Figure, count, listed, most, over_time
from insights.event_data import Facts
from policies.models import RoleMembership, SystemGroupPermission, ToolGroupPermission


def inventory(facts: Facts) -> Content:
    """R2: agents, who answers for them, and how they were stopped."""
    found = count(facts.rows)
    agents = list(Agent.objects.select_related("owner", "sponsor").order_by("slug"))
    overdue = [a for a in agents if a.certified_until and a.certified_until < facts.period.until]
    active = [one for one in agents if one.status == Agent.Status.ACTIVE]
    return Content(
        summary="Every agent has an owner and a sponsor, is confirmed anew in time, and can be "
        "stopped at once.",
        figures=[
            Figure("agents now", str(len(agents))),
            Figure("of them active", str(len(active))),
            Figure("to be confirmed and overdue", str(len(overdue)), "bad" if overdue else ""),
            Figure("registered", str(found["agent.registered"])),
            Figure("halts placed", str(found["halt.placed"])),
            Figure("halts lifted", str(found["halt.lifted"])),
            Figure("runs halted", str(found["run.halted"])),
        ],
        charts=[
            over_time(
                "Halts and suspensions", facts.period,
                ((f.at, f.type) for f in facts.rows),
                (
                    Series("halt.placed", "halts placed", "bad"),
                    Series("run.halted", "runs halted", "doubt"),
                    Series("agent.suspended", "agents suspended", "wait"),
                ),
            ),
        ],
        tables=[
            listed(
                "Agents as they are now",
                ("Agent", "owner", "sponsor", "risk", "status", "confirmed until"),
                ((a.title, a.owner, a.sponsor, a.risk, a.status, a.certified_until or "never")
                 for a in agents),
            ),
            listed(
                "Halts in force now", ("What", "which", "since"),
                ((h.get_kind_display(), h.target or "", h.placed_at)
                 for h in Halt.objects.in_force()),
                empty="None is in force.",
            ),
        ],
    )  # fmt: skip


def access(facts: Facts) -> Content:
    """R3: credentials, delegation, and who holds which rights."""
    found = count(facts.rows)
    rights = _holders()
    return Content(
        summary="Agents prove who they are with keys of their own and act with tokens that live "
        "minutes. What they may call is granted to roles, and every change of it is recorded.",
        figures=[
            Figure("tokens issued", f"{found['credential.issued']:,}"),
            Figure("keys enrolled", str(found["credential.enrolled"])),
            Figure("keys replaced", str(found["credential.rotated"])),
            Figure("keys and tokens revoked",
                   str(found["credential.revoked"] + found["credential.token_revoked"])),
            Figure("superseded keys used", str(found["credential.superseded_key_used"]),
                   "bad" if found["credential.superseded_key_used"] else ""),
            Figure("grants given", str(found["access.granted"])),
            Figure("grants withdrawn", str(found["access.revoked"])),
            Figure("elevations in force at some time", str(found["elevation.given"])),
            Figure("people's sign-ins", f"{found['auth.login_succeeded']:,}"),
            Figure("refused", f"{found['auth.login_failed']:,}",
                   "wait" if found["auth.login_failed"] else ""),
        ],
        charts=[
            over_time(
                "Tokens issued", facts.period,
                ((f.at, f.type) for f in facts.of("credential.issued")),
                (Series("credential.issued", "issued", "good"),),
            ),
            most("Tokens by identity", Counter(
                fact.actor for fact in facts.of("credential.issued")
            )),
        ],
        tables=[
            listed("Who may call what, now", ("Identity", "role", "on", "access"), rights),
            listed(
                "Changes of access", ("When", "what", "role", "on", "access"),
                ((f.at, f.type, f.said.get("role", ""), f.said.get("on", ""),
                  f.said.get("access", "")) for f in facts.of("access.granted", "access.revoked")),
            ),
        ],
    )  # fmt: skip


def _holders() -> list[tuple[str, str, str, str]]:
    members: dict[int, list[tuple[str, str]]] = {}
    for one in RoleMembership.objects.select_related("role", "identity").order_by("pk"):
        named = (one.identity.client_id, one.role.slug)
        members.setdefault(one.role.group_id, []).append(named)
    found = []
    for model in (SystemGroupPermission, ToolGroupPermission):
        for row in model.objects.select_related("content_object", "permission"):
            access = row.permission.codename.removeprefix("call_")
            said = f"{access}{', only by elevation' if row.by_elevation else ''}"
            holders = members.get(row.group_id, [("nobody", "a role without members")])
            found += [(identity, role, str(row.content_object), said) for identity, role in holders]
    return sorted(found)
