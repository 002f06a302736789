import json
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.second_factor import latest_factor, where_to_prove
from approvals.eligibility import is_decidable, refusal_for
from approvals.errors import NotAnApprover
from approvals.forms import AskForFactorForm, VoteForm
from approvals.handlers import obstacles
from approvals.models import ApprovalRequest, Tier
from approvals.visible_values import APART, shown_to
from audit.queue_lag import waiting_for_second_person
from audit.services.access_log import search_words
from common import unusual_text
from common.admin.keyset import KeysetChangeList
from common.admin.pages import CommandForm, CommandPage, GovernedAdmin, KeysetAdmin
from common.ids import first_key_at, is_identifier
from common.templatetags.blocks import age, badge, left

OPEN = f"status__exact={ApprovalRequest.Status.PENDING.value}"
VOTE = CommandPage(
    name="decide",
    title="Decide",
    form=VoteForm,
    permission="approvals.view_approvalrequest",
    done="Your answer is recorded.",
    available=lambda request: request.status == ApprovalRequest.Status.PENDING,
)


# Titles have no index of their words.
SEARCHED_BY_TEXT = timedelta(days=90)
MAX_SHOWN_SEARCHED = 200
# Set on the rows of a list: why what they ask for would not be done now.
OBSTACLE = "_obstacle"


class InboxList(KeysetChangeList):
    """With what stands in the way of each request, found for all rows of the page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        known = obstacles([one for one in self.result_list if one.status == "pending"])
        for one in self.result_list:
            setattr(one, OBSTACLE, known.get(one.pk, ""))


def _has(shown: Any, term: str) -> bool:
    return term.casefold() in json.dumps(shown, ensure_ascii=False).casefold()


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(KeysetAdmin):
    list_display = ("title", "state", "tier", "waiting_for", "time_left", "asked_by")
    list_filter = ("status", "tier")
    list_select_related = ("tier",)
    search_fields = ("title",)
    search_help_text = (
        "what a request that waits for your tiers shows; the title, agent or tool of a request of "
        "the last 90 days; an identifier; words of arguments and answers, with the right to see "
        "values"
    )
    detail_template = "approvals/request.html"
    change_list_template = "approvals/inbox.html"
    pages = (VOTE,)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The inbox opens on what waits; the filters lead to the rest.
        if not request.GET:
            return HttpResponseRedirect(f"{self.list_url}?{OPEN}")
        found = {"title": "Inbox", "elsewhere": waiting_for_second_person(request.user)}
        return super().changelist_view(request, {**found, **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return InboxList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApprovalRequest], search_term: str
    ) -> tuple[QuerySet[ApprovalRequest], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        named = search_words(term, user=request.user).subjects
        wanted = Q(requester_id=term) | Q(subject_id__in=[term, *named])
        if is_identifier(term):
            wanted |= Q(pk=term) | Q(run_id=term)
        recent = Q(pk__gte=first_key_at(timezone.now() - SEARCHED_BY_TEXT))
        for column in ("title", "subject_label", "requester_label"):
            wanted |= recent & Q(**{f"{column}__icontains": term})
        # What waits for this person's tiers is shown to them: they find it by what it shows.
        if not request.user.is_anonymous:
            waiting = ApprovalRequest.objects.pending().for_approver(request.user)
            waiting = waiting.alias(shown=Cast("snapshot", TextField())).select_related("tier")
            having = Q(shown__icontains=term) | Q(shown__icontains=json.dumps(term)[1:-1])
            wanted |= Q(
                pk__in=[
                    one.pk
                    for one in waiting.filter(having).order_by("-pk")[:MAX_SHOWN_SEARCHED]
                    if _has(shown_to(request.user, one), term)
                ]
            )
        return queryset.filter(wanted), False

    @admin.display(description="status")
    def state(self, request: ApprovalRequest) -> SafeString:
        status = badge(request.status, request.get_status_display())
        obstacle = getattr(request, OBSTACLE, "")
        return format_html("{} {}", status, badge("halted", "blocked")) if obstacle else status

    @admin.display(description="asked")
    def waiting_for(self, request: ApprovalRequest) -> str:
        return f"{age(request.opened_at)} ago"

    @admin.display(description="asked by")
    def asked_by(self, request: ApprovalRequest) -> str:
        return request.requester_label

    @admin.display(description="time left")
    def time_left(self, request: ApprovalRequest) -> str:
        return left(request.expires_at) if request.status == "pending" else "—"

    def links(self, request: HttpRequest, obj: Any) -> list[Any]:
        return []  # the form stands on the page itself

    def detail(self, request: HttpRequest, obj: ApprovalRequest) -> dict[str, Any]:
        """Return the call, the reasons for the request, and the form if this user may decide."""
        is_pending = obj.status == ApprovalRequest.Status.PENDING
        shown = shown_to(request.user, obj)
        shown.pop(APART, None)
        run = shown.pop("run", {})
        return {
            "shown": shown,
            "run": run,
            "votes": obj.votes.select_related("voter", "tier"),
            "needed": obj.quorum,
            "refusal": self._refusal(request, obj),
            "form": VoteForm(target=obj),
            "decide_url": self.page_url(VOTE, obj),
            "is_odd": unusual_text.is_odd([obj.title, obj.snapshot]),
            "is_undecidable": is_pending and not is_decidable(obj),
            "is_pending": is_pending,
            "obstacle": obstacles([obj]).get(obj.pk, "") if is_pending else "",
            "proof_url": self._proof_url(request, obj) if self._needs_proof(request, obj) else "",
        }

    def _needs_proof(self, request: HttpRequest, obj: ApprovalRequest) -> bool:
        if not obj.tier.requires_step_up:
            return False
        factor = latest_factor(request)
        return factor is None or not factor.is_fresh(timezone.now())

    def _proof_url(self, request: HttpRequest, obj: ApprovalRequest) -> str:
        return where_to_prove(request, back_to=self.object_url(obj))

    def form_of(self, request: HttpRequest, page: CommandPage, target: Any) -> CommandForm:
        form = super().form_of(request, page, target)
        if isinstance(form, VoteForm):
            form.factor = latest_factor(request)
        return form

    def _refusal(self, request: HttpRequest, obj: ApprovalRequest) -> str:
        """Why this person cannot answer; empty if they can."""
        person = request.user
        if person.is_anonymous:
            return NotAnApprover.sentence
        refusal = refusal_for(obj, person)
        if refusal is not None:
            return str(refusal)
        if obj.votes.standing().filter(voter=person, tier=obj.tier_id).exists():
            return "You have answered this request."
        return ""

    def command_page(self, request: HttpRequest, page: CommandPage, target: Any) -> HttpResponse:
        """The decide page is the request's own page, with the form's errors on it."""
        if request.method != "POST":
            return self.change_view(request, str(target.pk))
        if self._needs_proof(request, target):
            return HttpResponseRedirect(self._proof_url(request, target))
        return super().command_page(request, page, target)


@admin.register(Tier)
class TierAdmin(GovernedAdmin):
    list_display = ("title", "rank", "quorum", "asked", "hours", "on_timeout")
    detail_fields = (
        "title",
        "rank",
        "quorum",
        "asked",
        "hours",
        "on_timeout",
        "escalate_to",
        "owner_may_sign",
        "requires_step_up",
    )
    pages = (
        CommandPage(
            "factor",
            "Require step-up authentication",
            AskForFactorForm,
            "approvals.change_tier",
            explains="Approvers must confirm with a passkey or a one-time code within the last "
            "five minutes. An open session, or an earlier sign-in, is not enough.",
            submit="Save",
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tier]:
        tiers: QuerySet[Tier] = super().get_queryset(request)
        return tiers.prefetch_related("groups")

    @admin.display(description="who is asked")
    def asked(self, tier: Tier) -> str:
        return ", ".join(group.name for group in tier.groups.all())

    @admin.display(description="time limit")
    def hours(self, tier: Tier) -> str:
        return f"{tier.time_limit_seconds / 3600:g} h"
