"""The list of events as a place to search in: criteria above, one page of events below."""

from typing import Any

from django.http import HttpRequest

from audit.forms import SearchForm
from common.admin.keyset import KeysetChangeList


class Explorer(KeysetChangeList):
    """Events that fit every criterion of the form, newest first, continued by key."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.form = SearchForm(request.GET, person=request.user)
        self.search = self.form.search() if self.form.is_valid() else None
        super().__init__(request, *args, **kwargs)

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        remaining = super().get_filters_params(params)
        return {name: value for name, value in remaining.items() if name not in self.form.fields}

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> Any:
        found: Any = super().get_queryset(request, exclude_parameters)
        return found.none() if self.search is None else self.search.found_in(found)

    @property
    def has_criteria(self) -> bool:
        return self.search is not None and bool(self.search.named)
