"""Admin pages of governed records: read-only lists and details, and one page per command.

A page declares; its form collects; the form calls one service. What a service refuses is shown
on the form, and nothing else has happened then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin, ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.views.decorators.debug import sensitive_post_parameters

from common.actors import Actor
from common.admin.keyset import KeysetChangeList
from common.admin.sections import rendered
from common.errors import GovernanceError


@dataclass(frozen=True)
class ShowOnce:
    """A page to show once instead of going back, such as a one-time code."""

    template: str
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Created:
    """A new record: its page is the next one shown."""

    thing: models.Model

    @property
    def url(self) -> str:
        about = self.thing._meta
        return reverse(f"admin:{about.app_label}_{about.model_name}_change", args=[self.thing.pk])


class CommandForm(forms.Form):
    """Collects what a command needs; `perform` calls one service."""

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        self.target = target
        super().__init__(*args, **kwargs)

    def perform(self, *, actor: Actor) -> ShowOnce | Created | None:
        raise NotImplementedError

    def _post_clean(self) -> None:
        """Refuse what the form does not ask for: a misspelt limit must not be no limit."""
        known, many = {"csrfmiddlewaretoken", "next"}, set[str]()
        for bound in self:
            if isinstance(bound.field, forms.MultipleChoiceField | forms.ModelMultipleChoiceField):
                many.add(bound.html_name)
            known.add(bound.html_name)
            widget = bound.field.widget
            if isinstance(widget, forms.MultiWidget):
                known |= {
                    f"{bound.html_name}{suffix}" for suffix in getattr(widget, "widgets_names", ())
                }
        unknown = sorted(set(self.data) - known)
        if unknown:
            self.add_error(None, f"This form has no field {unknown[0][:60]}.")
        given = self.data.getlist if isinstance(self.data, QueryDict) else None
        twice = [name for name in known - many if given is not None and len(given(name)) > 1]
        if twice:
            self.add_error(None, f"The field {min(twice)} is there twice.")


class ReasonForm(CommandForm):
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Recorded in the audit log with your name.",
    )


def _always(target: Any) -> bool:
    return True


@dataclass(frozen=True)
class CommandPage:
    """One command as a page: of an object, or of the list if `on_list`."""

    name: str
    title: str
    form: type[CommandForm]
    permission: str
    explains: str = ""
    done: str = "Done."
    submit: str = ""
    danger: bool = False
    on_list: bool = False
    template: str = "common/command.html"
    available: Callable[[Any], bool] = _always


@dataclass(frozen=True)
class Link:
    """A page offered to this person on this object."""

    title: str
    url: str
    danger: bool


class GovernedAdmin(ModelAdmin):
    """Read-only list and detail; changes only through `pages`."""

    pages: ClassVar[Sequence[CommandPage]] = ()
    detail_template = "common/detail.html"
    detail_fields: ClassVar[Sequence[str]] = ()
    change_list_template = "common/change_list.html"
    list_per_page = 50
    show_full_result_count = False
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """By what the page offers to filter by, and nothing else: other fields of a row may hold
        what a person has no right to see, and reading all rows for it would be slow.
        """
        offered = [
            one if isinstance(one, str) else str(getattr(one, "parameter_name", ""))
            for one in self.list_filter
        ]
        named = any(lookup == one or lookup.startswith(f"{one}__") for one in offered)
        return named and super().lookup_allowed(lookup, value, request)

    # -- detail --------------------------------------------------------------------------------

    def detail(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the detail template needs beyond the rows."""
        return {}

    def rows(self, obj: Any) -> list[tuple[str, Any]]:
        found = []
        for name in self.detail_fields:
            method = getattr(self, name, None)
            if callable(method):
                label = getattr(method, "short_description", name.replace("_", " "))
                found.append((label, method(obj)))
                continue
            column = self.model._meta.get_field(name)
            display = getattr(obj, f"get_{name}_display", None)
            label = str(getattr(column, "verbose_name", name))
            found.append((label, display() if display else getattr(obj, name)))
        return found

    def detail_object(self, request: HttpRequest, object_id: str) -> Any:
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def ensure_viewable(self, request: HttpRequest) -> None:
        """For pages over all records. Raises PermissionDenied."""
        if not self.has_view_permission(request):
            raise PermissionDenied

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        obj = self.detail_object(request, object_id)
        context = {
            "title": str(obj),
            "object": obj,
            "rows": self.rows(obj),
            "links": self.links(request, obj),
            "sections": rendered(request, self.opts.label_lower, obj),
            **self.detail(request, obj),
        }
        return self.shown(request, self.detail_template, context)

    def shown(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        return TemplateResponse(
            request,
            template,
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )

    # -- pages ---------------------------------------------------------------------------------

    def links(self, request: HttpRequest, obj: Any) -> list[Link]:
        return [
            Link(page.title, self.page_url(page, obj), page.danger)
            for page in self.pages
            if page.on_list == (obj is None)
            and request.user.has_perm(page.permission)
            and page.available(obj)
        ]

    def page_url(self, page: CommandPage, obj: Any) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page.name}"
        return reverse(name, args=[] if obj is None else [obj.pk])

    def get_urls(self) -> list[URLPattern]:
        stem = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [
            path(
                f"{page.name}/" if page.on_list else f"<path:object_id>/{page.name}/",
                self.admin_site.admin_view(self._view_of(page)),
                name=f"{stem}_{page.name}",
            )
            for page in self.pages
        ]
        inherited: list[URLPattern] = super().get_urls()
        return own + inherited

    def _view_of(self, page: CommandPage) -> Callable[..., HttpResponse]:
        @sensitive_post_parameters()  # no report of an error quotes what was typed
        def view(request: HttpRequest, object_id: str | None = None) -> HttpResponse:
            if not request.user.has_perm(page.permission):
                raise PermissionDenied
            target = None if object_id is None else self.detail_object(request, object_id)
            if not page.available(target):
                messages.error(request, f"{page.title}: this is not possible as things are now.")
                return HttpResponseRedirect(self.after(page, target))
            return self.command_page(request, page, target)

        return view

    def command_page(self, request: HttpRequest, page: CommandPage, target: Any) -> HttpResponse:
        form = self.form_of(request, page, target)
        if request.method == "POST" and form.is_valid():
            try:
                shown = form.perform(actor=Actor.from_user(request.user))
            except GovernanceError as refusal:
                form.add_error(None, str(refusal))
            else:
                if isinstance(shown, ShowOnce):
                    return self.shown(request, shown.template, shown.context)
                messages.success(request, page.done)
                return HttpResponseRedirect(shown.url if shown else self.after(page, target))
        back = self.list_url if target is None else self.object_url(target)
        context = {"title": page.title, "page": page, "form": form, "object": target, "back": back}
        more = self.page_context(request, page, target)
        return self.shown(request, page.template, {**context, **more})

    def form_of(self, request: HttpRequest, page: CommandPage, target: Any) -> CommandForm:
        # A form without fields is filled in too when it is sent.
        return page.form(request.POST if request.method == "POST" else None, target=target)

    def page_context(self, request: HttpRequest, page: CommandPage, target: Any) -> dict[str, Any]:
        """Return what a page's own template needs beyond the form."""
        return {}

    def after(self, page: CommandPage, target: Any) -> str:
        return self.list_url if target is None else self.object_url(target)

    @property
    def list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def object_url(self, obj: models.Model) -> str:
        stem = f"{self.opts.app_label}_{self.opts.model_name}"
        return reverse(f"admin:{stem}_change", args=[obj.pk])

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = capfirst(str(self.opts.verbose_name_plural))
        context = {
            "links": self.links(request, None),
            "title": title,
            **(extra_context or {}),
        }
        response: HttpResponse = super().changelist_view(request, context)
        return response


class KeysetAdmin(GovernedAdmin):
    """A governed list that may hold millions of rows."""

    sortable_by = ()
    show_facets = ShowFacets.NEVER  # each facet would be a count

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList
