"""The nine evidence reports: which events each is made from, and how."""

from collections.abc import Callable, Mapping

from insights.components import Content
from insights.event_data import Facts
from insights.reports import agents, calls, changes, log, people

Report = Callable[[Facts], Content]

REPORTS: Mapping[str, Report] = {
    "R1": log.integrity,
    "R2": agents.inventory,
    "R3": agents.access,
    "R4": calls.decisions,
    "R5": people.approvals,
    "R6": calls.data,
    "R7": changes.configuration,
    "R8": calls.incidents,
    "R9": log.keeping,
}
