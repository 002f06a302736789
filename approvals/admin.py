from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.second_factor import latest_factor, where_to_prove
from approvals.eligibility import is_decidable, refusal_for
from approvals.errors import NotAnApprover
from approvals.forms import AskForFactorForm, VoteForm
from approvals.models import ApprovalRequest, Tier
from common import odd_text
from common.admin.pages import CommandForm, EndlessAdmin, GovernedAdmin, Page
from common.templatetags.blocks import age, badge, left

OPEN = f"status__exact={ApprovalRequest.Status.PENDING.value}"
VOTE = Page(
    name="decide",
    title="Decide",
    form=VoteForm,
    permission="approvals.view_approvalrequest",
    done="Your answer is recorded.",
    available=lambda request: request.status == ApprovalRequest.Status.PENDING,
)


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(EndlessAdmin):
    list_display = ("title", "state", "tier", "waiting_for", "time_left", "asked_by")
    list_filter = ("status", "tier")
    list_select_related = ("tier",)
    search_fields = ("=subject_id", "=requester_id")
    search_help_text = "The identifier of a subject or of a requester"
    detail_template = "approvals/request.html"
    pages = (VOTE,)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The inbox opens on what waits; the filters lead to the rest.
        if not request.GET:
            return HttpResponseRedirect(f"{self.list_url}?{OPEN}")
        return super().changelist_view(request, {"title": "Inbox", **(extra_context or {})})

    @admin.display(description="status")
    def state(self, request: ApprovalRequest) -> SafeString:
        return badge(request.status, request.get_status_display())

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
        """What will be executed, why it was asked, and the form if this person may answer."""
        shown, is_pending = dict(obj.snapshot), obj.status == ApprovalRequest.Status.PENDING
        run = shown.pop("run", {})
        return {
            "shown": shown,
            "run": run,
            "votes": obj.votes.select_related("voter", "tier"),
            "needed": obj.quorum,
            "refusal": self._refusal(request, obj),
            "form": VoteForm(target=obj),
            "decide_url": self.page_url(VOTE, obj),
            "is_odd": odd_text.is_odd([obj.title, obj.snapshot]),
            "is_undecidable": is_pending and not is_decidable(obj),
            "is_pending": is_pending,
            "proof_url": self._proof_url(request, obj) if self._needs_proof(request, obj) else "",
        }

    def _needs_proof(self, request: HttpRequest, obj: ApprovalRequest) -> bool:
        if not obj.tier.fresh_sign_in:
            return False
        factor = latest_factor(request)
        return factor is None or not factor.is_fresh(timezone.now())

    def _proof_url(self, request: HttpRequest, obj: ApprovalRequest) -> str:
        return where_to_prove(request, back_to=self.object_url(obj))

    def form_of(self, request: HttpRequest, page: Page, target: Any) -> CommandForm:
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

    def command_page(self, request: HttpRequest, page: Page, target: Any) -> HttpResponse:
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
        "fresh_sign_in",
    )
    pages = (
        Page(
            "factor",
            "Ask for a second factor",
            AskForFactorForm,
            "approvals.change_tier",
            explains="Who answers shows a passkey or a code of the last five minutes. A session "
            "that was left open, and a sign-in of yesterday, do not sign.",
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
