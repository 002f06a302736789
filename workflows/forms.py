import json
from typing import Any

from django import forms

from actions.models import Run
from agents.directory import directory
from agents.models import AgentIdentity
from agents.tokens import Caller
from common.actors import Actor
from common.admin.fields import JSONTextField
from common.admin.pages import CommandForm, Created, ReasonForm, ShowOnce
from common.ids import uuid7
from workflows.errors import InvalidWorkflow
from workflows.models import Schedule, Workflow
from workflows.models.definitions import WHOLE
from workflows.services import operator_commands, rollouts, run_signals, runs, schedules, versions
from workflows.services.runs import Start
from workflows.services.schedules import Times

STARTER = """\
workflow: my-workflow
title: What it does, for people
schema: 1
roles: [a-role]
inputs:
  type: object
  required: [id]
  properties: {id: {type: string}}
on_failure: halt
steps:
  first:
    title: Look it up
    tool: system.tool
    with: {id: "${ inputs.id }"}
"""


class WriteVersionForm(CommandForm):
    """A definition's text; what is wrong is listed with its line and marked in the text."""

    text = forms.CharField(
        widget=forms.Textarea(attrs={"class": "code", "rows": 30, "spellcheck": "false"}),
        max_length=100_000,
        label="Definition in YAML",
    )
    note = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 2}),
        required=False,
        max_length=2_000,
        help_text="What changes, and why.",
    )

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        text = target.text if target is not None else STARTER
        super().__init__(*args, target=target, initial={"text": text}, **kwargs)

    def perform(self, *, actor: Actor) -> Created:
        try:
            version = versions.draft_version(
                self.cleaned_data["text"], actor=actor, note=self.cleaned_data["note"]
            )
        except InvalidWorkflow as refusal:
            for problem in refusal.details["problems"]:
                self.add_error("text", f"Line {problem['line']}: {problem['message']}")
            raise
        return Created(version)

    def numbered(self) -> list[tuple[str, bool]]:
        """The submitted lines, each with whether something is wrong there."""
        wrong = {
            int(str(message).split(":", 1)[0].removeprefix("Line "))
            for message in self.errors.get("text", [])
            if str(message).startswith("Line ")
        }
        lines = str(self.data.get("text", "")).splitlines()
        return [(line, number in wrong) for number, line in enumerate(lines, start=1)]


class RequestVersionForm(CommandForm):
    share = forms.FloatField(
        min_value=0.01,
        max_value=100,
        initial=100,
        label="Percent of new runs",
        help_text="Less than 100 rolls it out beside the version that is live, with a guard.",
    )

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        share = round(self.cleaned_data["share"] * WHOLE / 100)
        versions.ask_to_publish(self.target.pk, actor=actor, share=share)
        return None


class RetireVersionForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        versions.retire_version(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class PauseForm(ReasonForm):
    paused = True

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        versions.pause_workflow(
            self.target.pk, actor=actor, paused=self.paused, reason=self.cleaned_data["reason"]
        )
        return None


class UnpauseForm(PauseForm):
    paused = False


class StartForm(CommandForm):
    identity = forms.ModelChoiceField(
        AgentIdentity.objects.none(),
        label="As which agent",
        help_text="Its rights bind every call.",
    )
    inputs = JSONTextField(is_object=True, initial="{}", required=False)
    purpose = forms.CharField(max_length=500, help_text="Why: it is shown wherever the run is.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        identities = AgentIdentity.objects.select_related("agent").filter(status="active")
        self.fields["identity"] = forms.ModelChoiceField(
            identities, label="As which agent", help_text="Its rights bind every call."
        )

    def perform(self, *, actor: Actor) -> Created:
        known = directory.current().identities[self.cleaned_data["identity"].client_id]
        caller = Caller(known, frozenset({"tools"}), jti="", epoch=known.epoch, expires_at=0)
        asked = Start(
            workflow=self.target.slug,
            inputs=self.cleaned_data["inputs"],
            key=f"person:{uuid7()}",
            initiator_kind=Run.Initiator.USER,
            initiator=actor.label,
            purpose=self.cleaned_data["purpose"],
        )
        run, _ = runs.start(caller, asked, actor=actor)
        return Created(run)


class ShareForm(CommandForm):
    share = forms.FloatField(min_value=0.01, max_value=99.99, label="Percent of new runs")

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        share = round(self.cleaned_data["share"] * WHOLE / 100)
        rollouts.change_share(self.target.pk, actor=actor, share=share)
        return None


class CompleteForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        rollouts.complete(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class RollBackForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        rollouts.roll_back(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class CancelForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        operator_commands.cancel(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class ResumeForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        operator_commands.resume(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class UndoForm(ReasonForm):
    def perform(self, *, actor: Actor) -> ShowOnce | None:
        operator_commands.undo(self.target.pk, actor=actor, reason=self.cleaned_data["reason"])
        return None


class SignalForm(CommandForm):
    name = forms.RegexField(r"^[a-z0-9][a-z0-9._-]{0,63}\Z", max_length=64)
    payload = JSONTextField(is_object=True, initial="{}", required=False)

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        run_signals.send(
            self.target.pk,
            actor=actor,
            name=self.cleaned_data["name"],
            payload=self.cleaned_data["payload"],
            key=f"person:{uuid7()}",
        )
        return None


class ScheduleForm(CommandForm):
    slug = forms.SlugField(max_length=64, label="Name")
    workflow = forms.ModelChoiceField(Workflow.objects.none())
    identity = forms.ModelChoiceField(AgentIdentity.objects.none(), label="As which agent")
    cron = forms.CharField(
        max_length=100, help_text="Minute, hour, day of month, month, weekday: 30 7 * * mon-fri"
    )
    timezone = forms.CharField(max_length=64, initial="UTC", help_text="Such as Europe/Paris.")
    inputs = JSONTextField(is_object=True, initial="{}", required=False)
    catch_up = forms.ChoiceField(
        choices=Schedule.CatchUp.choices, label="After a pause", initial="latest"
    )
    overlap = forms.ChoiceField(
        choices=Schedule.Overlap.choices, label="While one is running", initial="skip"
    )

    def __init__(self, *args: Any, target: Any = None, **kwargs: Any) -> None:
        initial = {}
        if target is not None:
            names = ("slug", "workflow", "identity", "cron", "timezone", "catch_up", "overlap")
            initial = {name: getattr(target, name) for name in names}
            initial["inputs"] = json.dumps(target.inputs, indent=1)
        super().__init__(*args, target=target, initial=initial, **kwargs)
        self.fields["slug"].disabled = target is not None
        self.fields["workflow"] = forms.ModelChoiceField(
            Workflow.objects.filter(live__isnull=False)
        )
        self.fields["identity"] = forms.ModelChoiceField(
            AgentIdentity.objects.select_related("agent").filter(status="active"),
            label="As which agent",
        )

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if self.target is None and Schedule.objects.filter(slug=slug).exists():
            message = "There is a schedule of this name; change that one."
            raise forms.ValidationError(message)
        return slug

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        given = self.cleaned_data
        schedules.save_schedule(
            given["slug"],
            actor=actor,
            workflow=given["workflow"],
            identity=given["identity"],
            times=Times(given["cron"], given["timezone"], given["catch_up"], given["overlap"]),
            inputs=given["inputs"],
        )
        return None


class PauseScheduleForm(ReasonForm):
    paused = True

    def perform(self, *, actor: Actor) -> ShowOnce | None:
        schedules.pause_schedule(
            self.target.pk, actor=actor, paused=self.paused, reason=self.cleaned_data["reason"]
        )
        return None


class UnpauseScheduleForm(PauseScheduleForm):
    paused = False
