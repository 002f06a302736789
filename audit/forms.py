from typing import Any

from django import forms

from accounts.models import User
from audit.auditor_scope import scope_of
from audit.event_types import declared
from audit.models import Erasure, Hold
from audit.permissions import SEE_VALUES
from audit.retention import CLASSES, FLOOR_DAYS
from audit.search import Search, unknown_names
from audit.services import access_log, auditor_passes, erasures, exports, legal_holds, retention
from common.actors import Actor
from common.admin.pages import CommandForm, Created, ReasonForm, ShowOnce
from common.errors import InvalidInput
from common.ids import is_identifier

_WORDS = forms.Textarea(attrs={"rows": 3})
_LONGEST_KEY = 18  # as many digits as fit into a 64 bit key, whatever they are
_MOMENT = forms.DateTimeInput(attrs={"type": "datetime-local"})


def _types() -> list[tuple[str, str]]:
    """From the code that declares them, not by a scan of the log."""
    named = sorted((name, kind.title) for name, kind in declared().items())
    return [("", "Anything"), *((name, f"{name}: {title}") for name, title in named)]


class SearchForm(forms.Form):
    """Criteria for events; see `audit.search`."""

    type = forms.ChoiceField(choices=_types, required=False, label="What happened")
    agent = forms.CharField(required=False, max_length=64)
    tool = forms.CharField(required=False, max_length=200)
    person = forms.CharField(required=False, max_length=64, label="Done by the person")
    subject = forms.CharField(required=False, max_length=200, label="About")
    run = forms.UUIDField(required=False)
    text = forms.CharField(required=False, max_length=200, label="Words in it")
    since = forms.DateTimeField(required=False, widget=_MOMENT, label="From (UTC)")
    until = forms.DateTimeField(required=False, widget=_MOMENT, label="Until (UTC)")

    def __init__(self, *args: Any, person: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.person = person
        if not person.has_perm(SEE_VALUES):
            # To find a word is to learn that it is there.
            del self.fields["text"]

    def clean(self) -> dict[str, Any]:
        """Refuse names that the log has never had: an empty answer would be a false one."""
        super().clean()
        if scope_of(self.person) is None:  # else it would tell what there is beyond a pass
            for name, message in unknown_names(self.search()).items():
                self.add_error(name, message)
        return self.cleaned_data

    def search(self) -> Search:
        return Search(**{name: value for name, value in self.cleaned_data.items() if value})


class ViewValuesForm(CommandForm):
    sensitive = False

    def perform(self, *, actor: Actor) -> ShowOnce:
        values = access_log.view_values(self.target, actor=actor, sensitive=self.sensitive)
        context = {"title": "Values", "object": self.target, "values": values}
        return ShowOnce("audit/values.html", {**context, "erased": self.target.payload.erased})


class ViewSensitiveForm(ViewValuesForm):
    sensitive = True


class AskExportForm(CommandForm):
    purpose = forms.CharField(widget=_WORDS, help_text="What for; it is in the log and the bundle.")
    runs = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Run IDs, one per line. Leave empty for all runs.",
    )  # fmt: skip
    agents = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Agents' client ids, one on a line: what they did, and their runs.",
    )  # fmt: skip
    since = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")
    until = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")
    with_values = forms.BooleanField(
        required=False, help_text="With what lies beside the events, such as people's names."
    )
    with_sensitive = forms.BooleanField(
        required=False,
        label="With sensitive values",
        help_text="With personal and sensitive values, too. It takes the right to see them.",
    )
    previous_checkpoint = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 5, "class": "code-short"}),
        label="The auditor's checkpoint from before", strip=False,
        help_text="The bundle then shows that the log has only grown since.",
    )  # fmt: skip

    def clean_runs(self) -> list[Any]:
        field = forms.UUIDField()
        return [field.clean(line) for line in self.cleaned_data["runs"].split()]

    def clean_held(self) -> str:
        text = str(self.cleaned_data["previous_checkpoint"]).replace("\r\n", "\n")
        return text if text.strip() else ""

    def perform(self, *, actor: Actor) -> Created:
        given = self.cleaned_data
        asked = exports.Wanted(
            runs=given["runs"],
            agents=given["agents"].split(),
            since=given["since"],
            until=given["until"],
            with_values=given["with_values"] or given["with_sensitive"],
            with_sensitive=given["with_sensitive"],
            previous_checkpoint=given["previous_checkpoint"],
        )
        return Created(exports.ask(asked, actor=actor, purpose=given["purpose"]))


class _DecideForm(ReasonForm):
    approve = True


class ApproveExportForm(_DecideForm):
    def perform(self, *, actor: Actor) -> None:
        reason = self.cleaned_data["reason"]
        exports.decide_export(self.target.pk, actor=actor, approve=self.approve, reason=reason)


class RefuseExportForm(ApproveExportForm):
    approve = False


def _key_of(person: str) -> str:
    """People are in the log by their keys, also when they have left. Raises InvalidInput for what
    is neither name nor key, and for what is one person's name and another's key.
    """
    is_key = person.isascii() and person.isdigit() and len(person) <= _LONGEST_KEY
    if not is_key:
        return str(_named(person))
    named = User.objects.filter(username=person).first()
    if named is not None and named.pk != int(person):
        message = "Somebody has that name, and somebody else may have that key: which is meant?"
        raise InvalidInput(message)
    return str(int(person))


def _named(person: str) -> int:
    """The key of who has the name. Raises InvalidInput."""
    found: int | None = User.objects.filter(username=person).values_list("pk", flat=True).first()
    if found is None:
        message = "Nobody has that name."
        raise InvalidInput(message)
    return found


class GrantPassForm(ReasonForm):
    person = forms.CharField(max_length=150, help_text="Their user name.")
    ends_at = forms.DateTimeField(widget=_MOMENT, label="Ends at", help_text="UTC")
    agents = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Client ids, one on a line: what they did, and their runs. Nothing: all agents.",
    )  # fmt: skip
    since = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")
    until = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")
    field_order = ("person", "ends_at", "agents", "since", "until", "reason")

    def perform(self, *, actor: Actor) -> Created:
        given = self.cleaned_data
        bounds = auditor_passes.Bounds(
            given["ends_at"], given["agents"].split(), given["since"], given["until"]
        )
        key = _named(given["person"])
        return Created(auditor_passes.grant(key, bounds, actor=actor, reason=given["reason"]))


class WithdrawPassForm(ReasonForm):
    def perform(self, *, actor: Actor) -> None:
        auditor_passes.withdraw(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])


class RestoreRightsForm(ReasonForm):
    def perform(self, *, actor: Actor) -> None:
        auditor_passes.restore_rights(
            self.target.pk, actor=actor, reason=self.cleaned_data["reason"]
        )


class AskErasureForm(CommandForm):
    about = forms.ChoiceField(choices=Erasure.About.choices)
    about_id = forms.CharField(
        max_length=64, label="Which",
        help_text="A person's name or key, a run's identifier, or an event's.",
    )  # fmt: skip
    fields_named = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}), label="Fields",
        help_text="Such as details.reason, one per line. Leave empty for all fields.",
    )  # fmt: skip
    basis = forms.ChoiceField(choices=list(erasures.BASES.items()))
    purpose = forms.CharField(widget=_WORDS, help_text="Recorded in the audit log with your name.")

    def perform(self, *, actor: Actor) -> Created:
        given = self.cleaned_data
        if given["about"] == Erasure.About.PERSON:
            given["about_id"] = _key_of(given["about_id"])
        elif not is_identifier(given["about_id"]):
            message = "That is not an identifier."
            raise InvalidInput(message)
        return Created(
            erasures.ask(
                given["about"],
                given["about_id"],
                actor=actor,
                basis=given["basis"],
                purpose=given["purpose"],
                fields=given["fields_named"].split(),
            )
        )


class ApproveErasureForm(_DecideForm):
    def perform(self, *, actor: Actor) -> None:
        reason = self.cleaned_data["reason"]
        erasures.decide_erasure(self.target.pk, actor=actor, approve=self.approve, reason=reason)


class RefuseErasureForm(ApproveErasureForm):
    approve = False


class PlaceHoldForm(ReasonForm):
    run_id = forms.UUIDField(required=False, label="Run", help_text="Nothing: all runs.")
    agent = forms.CharField(
        required=False, max_length=64, help_text="A client id. Nothing: all agents."
    )
    since = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")
    until = forms.DateTimeField(required=False, widget=_MOMENT, help_text="UTC")

    def perform(self, *, actor: Actor) -> Created:
        return Created(legal_holds.place(Hold(**self.cleaned_data), actor=actor))


class ReleaseHoldForm(ReasonForm):
    def perform(self, *, actor: Actor) -> None:
        legal_holds.release(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])


class SetRetentionForm(ReasonForm):
    kind = forms.ChoiceField(choices=[(k, c.title) for k, c in CLASSES.items()], label="Of what")
    days = forms.IntegerField(min_value=FLOOR_DAYS, max_value=36_500)
    system = forms.SlugField(
        required=False, max_length=64, help_text="Of this system's calls only. Nothing: of all."
    )
    field_order = ("kind", "days", "system", "reason")

    def perform(self, *, actor: Actor) -> None:
        given = self.cleaned_data
        retention.set_rule(
            given["kind"],
            given["days"],
            actor=actor,
            reason=given["reason"],
            system=given["system"],
        )
