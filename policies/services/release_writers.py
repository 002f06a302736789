"""The users who wrote what a release changes: none of them may approve it."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from django.db.models import Q

from audit.models import Event
from policies import events
from policies.differences import Difference, difference
from policies.models import Policy, PolicyRelease
from policies.slices import parsed_rules
from tools import events as tool_events
from tools.catalog import catalog
from tools.definitions import ToolSpec

_RULE_ACTS = [
    one.name for one in (events.POLICY_SAVED, events.POLICY_SWITCHED_ON, events.POLICY_SWITCHED_OFF)
]
_TOOL_ACTS = [
    one.name for one in (tool_events.TOOL_REGISTERED, tool_events.TOOL_DEFINITION_CHANGED)
]


def writers_of(text: str, tools: Mapping[str, str], live: PolicyRelease | None) -> set[int]:
    """Everybody whose act is in the difference to the live release: all who saved one of its rules
    since, switched one on or off, or defined a tool.
    """
    found = difference_from(live, text, tools)
    acts = Event.objects.filter(actor_kind="human").filter(
        _rule_acts(found.rule_ids) | _tool_acts(found.tools)
    )
    return {int(pk) for pk in acts.values_list("actor_id", flat=True).distinct() if pk.isdigit()}


def _rule_acts(rule_ids: Iterable[str]) -> Q:
    """Select the acts on each rule since the drafting of the last release with it that has been
    live; all acts if there is none. A rule that was switched off meanwhile keeps its writers.
    """
    since = _last_drafted(rule_ids, lambda release: {one.id for one in parsed_rules(release.text)})
    found = Q(pk__in=[])
    for pk, slug in Policy.objects.filter(slug__in=rule_ids).values_list("pk", "slug"):
        found |= Q(
            type__in=_RULE_ACTS,
            subject_kind="policies.policy",
            subject_id=str(pk),
            pk__gt=since.get(slug, 0),
        )
    return found


def _tool_acts(names: Iterable[str]) -> Q:
    """Select the acts on each tool, and on those its facts come from, since the drafting of the
    last release with it that has been live; all acts if there is none.
    """
    specs = catalog.current().tools
    listed = {name for name, spec in specs.items() if not spec.serves_facts_only}
    since = _last_drafted({*names, *listed}, lambda release: set(release.tools))
    found = Q(pk__in=[])
    for pk, moment in _linked(names, specs, since):
        found |= Q(
            type__in=_TOOL_ACTS, subject_kind="tools.tool", subject_id=str(pk), pk__gt=moment
        )
    return found


def _linked(
    names: Iterable[str], specs: Mapping[str, ToolSpec], since: Mapping[str, int]
) -> Iterator[tuple[int, int]]:
    """Yield the key of each tool, and of those its facts and its outcome are read with, with the
    event since which its acts count.

    No release lists a tool that serves facts only. One that was linked when a release went live has
    the time of the tool that rests on it. That tool may have changed since, and be linked now with
    what no release has rested on: then every act counts.
    """
    waiting = [(name, since.get(name, 0)) for name in names]
    seen = set[tuple[str, int]]()
    while waiting:
        name, moment = waiting.pop()
        spec = specs.get(name)
        if spec is None or (name, moment) in seen:
            continue
        seen.add((name, moment))
        yield spec.pk, moment
        inherited = 0 if _was_defined_after(spec.pk, moment) else moment
        linked = (f"{spec.system}.{one}" for one in spec.linked_names)
        waiting += [(one, since.get(one, inherited)) for one in linked]


def _was_defined_after(tool_id: int, moment: int) -> bool:
    return Event.objects.filter(
        type__in=_TOOL_ACTS,
        subject_kind="tools.tool",
        subject_id=str(tool_id),
        pk__gt=moment,
    ).exists()


def _last_drafted(
    names: Iterable[str], names_in_release: Callable[[PolicyRelease], set[str]]
) -> dict[str, int]:
    """For each name that a release had that has been live, the event of the last one's drafting."""
    missing, since = set(names), dict[str, int]()
    for release in PolicyRelease.objects.exclude(published_at=None).order_by("-published_at"):
        if not missing:
            break
        there = missing & names_in_release(release)
        since |= dict.fromkeys(there, _drafting_of(release))
        missing -= there
    return since


def _drafting_of(release: PolicyRelease) -> int:
    """The key of the event that says that the release was drafted; 0 if there is none."""
    about = Event.objects.filter(
        type=events.RELEASE_DRAFTED.name,
        subject_kind="policies.policyrelease",
        subject_id=str(release.pk),
    )
    return about.values_list("pk", flat=True).first() or 0


def difference_from(live: PolicyRelease | None, text: str, tools: Mapping[str, str]) -> Difference:
    """Return what this text and these tools would change of the live release."""
    return difference(
        live.text if live else "", text, old_tools=live.tools if live else {}, new_tools=tools
    )
