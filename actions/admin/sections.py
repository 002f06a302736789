"""Sections that actions add to the pages of an agent and of an elevation: their use."""

from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.db.models.functions import TruncDay
from django.utils import timezone

from actions.models import Action, UsageHour
from agents.models import Agent
from common.admin.sections import Section, contribute
from common.charts import Series, stacked_bars
from common.ids import first_key_at
from policies.models import Elevation

DAYS = 30
SERIES = (
    Series("allowed", "allowed", "good"),
    Series("needs_approval", "needed approval", "wait"),
    Series("denied", "denied", "bad"),
    Series("halted", "halted", "doubt"),
)
MAX_USES = 100


def _use(agent: Agent) -> dict[str, Any]:
    start = (timezone.now() - timedelta(days=DAYS - 1)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    keys = [one.key for one in SERIES]
    rows = (
        UsageHour.objects.filter(identity__agent=agent, hour__gte=start)
        .annotate(day=TruncDay("hour"))
        .values_list("day")
        .annotate(*(Sum(key) for key in keys))
        .order_by()
    )
    found = {day.date(): dict(zip(keys, numbers, strict=True)) for day, *numbers in rows}
    days = [(start + timedelta(days=index)).date() for index in range(DAYS)]
    counts = [found.get(day, {}) for day in days]
    return {
        "plot": stacked_bars("Calls by day", [f"{day:%-d %b}" for day in days], counts, SERIES),
        "series": [(one, sum(row.get(one.key, 0) for row in counts)) for one in SERIES],
        "total": sum(sum(row.values()) for row in counts),
    }


def _uses(elevation: Elevation) -> dict[str, Any]:
    if elevation.starts_at is None:
        return {"uses": []}
    over = elevation.ended_at or elevation.ends_at or timezone.now()
    used = Action.objects.filter(
        run_id=elevation.run_id,
        tool__in=elevation.tools,
        pk__gte=first_key_at(elevation.starts_at),
        pk__lt=first_key_at(over + timedelta(seconds=1)),
    )
    light = used.defer("arguments", "claims", "facts", "result").order_by("pk")
    return {"uses": list(light[:MAX_USES])}


contribute("agents.agent", Section("actions/use.html", "actions.view_action", _use))
contribute("policies.elevation", Section("actions/uses.html", "actions.view_action", _uses))
