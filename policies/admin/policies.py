from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from approvals.models import ApprovalRequest
from common.admin.pages import CommandPage, GovernedAdmin, KeysetAdmin
from common.templatetags.blocks import badge
from policies import forms
from policies.differences import cedar_of, effect_of, plain
from policies.models import Elevation, Policy, PolicyRelease, Role
from policies.services import grants
from policies.services.release_writers import difference_from
from policies.services.releases import subject_of
from policies.slices import parsed_rules


@admin.register(Policy)
class PolicyAdmin(GovernedAdmin):
    list_display = ("slug", "effect", "is_enabled", "updated_at")
    list_filter = ("enabled",)
    search_fields = ("slug", "text")
    detail_template = "policies/policy.html"
    detail_fields = ("slug", "effect", "is_enabled", "updated_at")
    pages = (
        CommandPage(
            "write",
            "Write a rule",
            forms.WritePolicyForm,
            "policies.add_policy",
            explains="The text is checked against the tools as they are now. It takes effect "
            "with the next release.",
            on_list=True,
            submit="Check and save",
            done="The rule is saved. It takes effect when a release with it is live.",
        ),
        CommandPage(
            "edit",
            "Edit",
            forms.EditPolicyForm,
            "policies.change_policy",
            explains="What is enforced does not change until a new release is live.",
            submit="Check and save",
            done="The rule is saved. If it is switched on, it takes effect when a release with it "
            "is live.",
        ),
        CommandPage(
            "switch_off",
            "Leave out of the next release",
            forms.SwitchOffForm,
            "policies.change_policy",
            danger=True,
            available=lambda policy: policy.enabled,
        ),
        CommandPage(
            "switch_on",
            "Take into the next release",
            forms.SwitchOnForm,
            "policies.change_policy",
            available=lambda policy: not policy.enabled,
        ),
    )

    @admin.display(description="effect")
    def effect(self, policy: Policy) -> SafeString:
        [rule] = parsed_rules(policy.text)
        if rule.tier:
            return badge("needs_approval", f"asks {rule.tier}")
        if rule.halts:
            return badge("halted", "halts the run")
        return badge("allowed" if rule.effect == "permit" else "denied", rule.effect)

    @admin.display(description="in the next release")
    def is_enabled(self, policy: Policy) -> str:
        return "yes" if policy.enabled else "no"

    def detail(self, request: HttpRequest, obj: Policy) -> dict[str, Any]:
        [rule] = parsed_rules(obj.text)
        live = PolicyRelease.objects.live().first()
        held = {one.id: one for one in parsed_rules(live.text)} if live else {}
        return {
            "rule": rule,
            "condition": cedar_of(rule),
            "lines": obj.text.splitlines(),
            "is_live": rule.id in held and held[rule.id].body == rule.body,
            "live": held.get(rule.id),
            "live_condition": cedar_of(held[rule.id]) if rule.id in held else "",
        }


def _may_be_asked(release: PolicyRelease) -> bool:
    """A draft about which nobody is asked yet."""
    waiting = ApprovalRequest.objects.pending().about(*subject_of(release))
    return release.status == PolicyRelease.Status.DRAFT and not waiting.exists()


@admin.register(PolicyRelease)
class PolicyReleaseAdmin(GovernedAdmin):
    list_display = ("number", "state", "note", "drafted_by", "drafted_at", "published_by")
    list_filter = ("status",)
    detail_template = "policies/release.html"
    detail_fields = (
        "number",
        "state",
        "note",
        "drafted_by",
        "drafted_at",
        "published_by",
        "published_at",
        "digest",
    )
    pages = (
        CommandPage(
            "draft",
            "Draft a release",
            forms.DraftReleaseForm,
            "policies.add_policyrelease",
            explains="Takes all rules that are switched on, checked together against the tools.",
            on_list=True,
            done="The release is drafted. Ask for it to be made live.",
        ),
        CommandPage(
            "ask",
            "Ask to make it live",
            forms.RequestReleaseForm,
            "policies.add_policyrelease",
            explains="Somebody who wrote none of what changes must approve. When the release is "
            "live, requests that wait for people, and approvals that were not used yet, are "
            "decided again: people are asked once more where the new rules still ask them.",
            submit="Submit for approval",
            done="Submitted for approval.",
            available=_may_be_asked,
        ),
        CommandPage(
            "discard",
            "Discard the draft",
            forms.DiscardDraftForm,
            "policies.add_policyrelease",
            explains="The draft stays in the list as not approved, and people are no longer asked "
            "about it. The rules themselves stay as they are.",
            done="The draft is discarded.",
            danger=True,
            available=lambda release: release.status == PolicyRelease.Status.DRAFT,
        ),
    )

    @admin.display(description="status")
    def state(self, release: PolicyRelease) -> SafeString:
        return badge(release.status, release.get_status_display())

    def detail(self, request: HttpRequest, obj: PolicyRelease) -> dict[str, Any]:
        former = obj.replaced()
        asked = ApprovalRequest.objects.about(*subject_of(obj)).order_by("-id").first()
        return {
            "rules": [(rule, effect_of(rule), cedar_of(rule)) for rule in parsed_rules(obj.text)],
            "former": former,
            "difference": plain(difference_from(former, obj.text, obj.tools)),
            "asked": asked,
            "waiting": _waiting_for_people() if obj.status == PolicyRelease.Status.DRAFT else 0,
            "lines": obj.text.splitlines(),
        }


# The kind of request that asks people about an agent's call.
EXECUTE = "actions.execute"


def _waiting_for_people() -> int:
    """Count the agents' calls that would be decided again, and requested again."""
    return ApprovalRequest.objects.pending().filter(kind=EXECUTE).count()


@admin.register(Role)
class RoleAdmin(GovernedAdmin):
    list_display = ("slug", "title")
    search_fields = ("slug", "title")
    detail_fields = ("slug", "title")
    detail_template = "policies/role.html"

    pages = (
        CommandPage(
            "mark",
            "Set what counts only by elevation",
            forms.MarkGrantForm,
            "policies.change_role",
            explains="For rights that are needed rarely: the role keeps the grant, and people are "
            "asked each time before it counts.",
            submit="Save",
        ),
    )

    def detail(self, request: HttpRequest, obj: Role) -> dict[str, Any]:
        rows = [
            {
                "On": str(row.content_object),
                "Access": str(grants.access_of(row)),
                "Kind": str(row.content_object._meta.verbose_name),
                "Counts": "only by elevation" if row.by_elevation else "always",
            }
            for row in grants.of_role(obj)
        ]
        return {"grants": rows, "members": obj.memberships.select_related("identity")}


@admin.register(Elevation)
class ElevationAdmin(KeysetAdmin):
    list_display = ("asked_at", "identity", "what", "state", "minutes", "ends_at")
    list_display_links = ("asked_at", "identity")
    list_filter = ("status", "identity__environment")
    list_select_related = ("identity",)
    search_fields = ("=identity__client_id",)
    detail_fields = (
        "identity",
        "state",
        "tools",
        "reason",
        "minutes",
        "asked_at",
        "starts_at",
        "ends_at",
        "ended_at",
        "ended_because",
    )
    detail_template = "policies/elevation.html"
    pages = (
        CommandPage(
            "end",
            "End it now",
            forms.EndElevationForm,
            "policies.change_elevation",
            explains="Nothing is allowed by it from the moment that this is recorded.",
            danger=True,
            available=lambda elevation: elevation.status == Elevation.Status.ACTIVE,
        ),
    )

    @admin.display(description="tools")
    def what(self, elevation: Elevation) -> str:
        return ", ".join(elevation.tools)

    @admin.display(description="status")
    def state(self, elevation: Elevation) -> SafeString:
        return badge(elevation.status, elevation.get_status_display())
