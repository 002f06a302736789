from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from insights.event_data import Period

DEFAULT_DAYS, MAX_DAYS = 30, 3_660
_FIRST, _LAST = date(1970, 1, 1), date(2999, 12, 31)
_DAY = forms.DateInput(attrs={"type": "date"})


class PeriodForm(forms.Form):
    """Whole days, UTC; without a choice the last DEFAULT_DAYS and today."""

    since = forms.DateField(required=False, widget=_DAY, label="From")
    until = forms.DateField(required=False, widget=_DAY, label="Until and with")

    def clean_since(self) -> Any:
        return _sensible(self.cleaned_data["since"])

    def clean_until(self) -> Any:
        return _sensible(self.cleaned_data["until"])

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        period = self._period(given)
        if not timedelta(0) < period.until - period.since <= timedelta(days=MAX_DAYS):
            message = "The first day has to lie before the last, within ten years."
            raise forms.ValidationError(message)
        return given

    def period(self) -> Period:
        return self._period(self.cleaned_data if self.is_valid() else {})

    @staticmethod
    def saying(period: Period) -> dict[str, str]:
        """Return the form's data for a period of whole days."""
        last = period.until - timedelta(days=1)
        return {"since": f"{period.since:%Y-%m-%d}", "until": f"{last:%Y-%m-%d}"}

    def _period(self, given: dict[str, Any]) -> Period:
        until = given.get("until") or timezone.now().date()
        since = given.get("since") or until - timedelta(days=DEFAULT_DAYS)
        return Period(_begin(since), _begin(until + timedelta(days=1)))


def _sensible(day: Any) -> Any:
    if day is not None and not _FIRST <= day <= _LAST:
        message = "That day is beyond what a log can hold."
        raise forms.ValidationError(message)
    return day


def _begin(day: Any) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_default_timezone())
