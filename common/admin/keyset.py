"""Lists that stay fast on a million rows: pages continued from the last key, never counted."""

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest

BEFORE = "before"


class UncountedPage(Paginator):
    """The part of a paginator that Django's templates expect, without a count."""

    def __init__(self, rows: list[Any], per_page: int) -> None:
        super().__init__(rows, per_page)
        self.__dict__["count"] = len(rows)


class KeysetChangeList(ChangeList):
    """Newest first by primary key; `?before=<key>` continues. Keys grow with time."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.before = request.GET.get(BEFORE, "")
        self.older = ""
        super().__init__(request, *args, **kwargs)

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        remaining: dict[str, Any] = super().get_filters_params(params)
        remaining.pop(BEFORE, None)
        return remaining

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return ["-pk"]

    def get_ordering_field_columns(self) -> dict[int, Any]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        rows = self.queryset
        if self.before:
            try:
                rows = rows.filter(pk__lt=self.before)
            except (ValueError, ValidationError):
                rows = rows.none()
        found = list(rows[: self.list_per_page + 1])
        if len(found) > self.list_per_page:
            found.pop()
            self.older = self.get_query_string({BEFORE: str(found[-1].pk)})
        self.newest = self.get_query_string(remove=[BEFORE]) if self.before else ""
        self.result_list = found
        self.result_count = len(found)
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = True
        self.multi_page = False
        self.paginator = UncountedPage(found, self.list_per_page)
