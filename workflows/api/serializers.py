from typing import Any

from rest_framework import serializers

from actions.api.serializers import BudgetSerializer, RunSerializer
from actions.models import Run
from common.serializers import LabelField, RequestSerializer, TextField
from workflows.models import StepRun, WorkflowRun


class StartSerializer(RequestSerializer):
    inputs = serializers.DictField(default=dict)
    initiator_kind = serializers.ChoiceField(
        choices=Run.Initiator.choices, default=Run.Initiator.AGENT
    )
    initiator = TextField(max_length=200, required=False, default="")
    purpose = TextField(max_length=4_000, required=False, default="")
    reference = TextField(max_length=100, required=False, default="")
    labels = serializers.ListField(
        child=LabelField(max_length=50), required=False, default=list, max_length=20
    )
    budget = BudgetSerializer(required=False)


class SignalSerializer(RequestSerializer):
    name = serializers.RegexField(r"^[a-z0-9][a-z0-9._-]{0,63}$")
    payload = serializers.DictField(default=dict)


class OrderSerializer(RequestSerializer):
    reason = TextField(max_length=500)


class StepSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    kind = serializers.CharField()
    status = serializers.ChoiceField(choices=StepRun.Status.choices)
    waiting_for = serializers.CharField(allow_blank=True)
    compensates = serializers.CharField(allow_blank=True)
    attempts = serializers.IntegerField()
    action = serializers.UUIDField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    error = serializers.DictField(allow_null=True)
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class WorkflowRunSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    version = serializers.IntegerField()
    status = serializers.ChoiceField(choices=WorkflowRun.Status.choices)
    reason = serializers.CharField(allow_blank=True)
    success_condition_met = serializers.BooleanField(allow_null=True)
    unknown_steps = serializers.IntegerField()
    inputs = serializers.JSONField()
    output = serializers.JSONField(allow_null=True)
    parent_run = serializers.UUIDField(allow_null=True)
    deadline_at = serializers.DateTimeField()
    steps = StepSerializer(many=True)


class RunWithStepsSerializer(RunSerializer):
    workflow = WorkflowRunSerializer(allow_null=True)


class WorkflowSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    inputs = serializers.JSONField()


class SentSignalSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    consumed_by = serializers.CharField(allow_blank=True)


MAX_STEPS = 1_000


def workflow_body(run: WorkflowRun) -> dict[str, Any]:
    """A run's workflow with its first MAX_STEPS steps, oldest first."""
    return {
        "slug": run.workflow.slug,
        "version": run.version.number,
        "status": run.status,
        "reason": run.reason,
        "success_condition_met": run.success_condition_met,
        "unknown_steps": run.unknown_count,
        "inputs": run.inputs,
        "output": run.output,
        "parent_run": str(run.parent_id) if run.parent_id else None,
        "deadline_at": run.deadline_at.isoformat(),
        "steps": [_step_body(step) for step in run.steps.order_by("pk")[:MAX_STEPS]],
    }


def _step_body(step: StepRun) -> dict[str, Any]:
    error = {"code": step.error_code, "message": step.error} if step.error_code else None
    return {
        "path": step.path,
        "kind": step.kind,
        "status": step.status,
        "waiting_for": step.waiting_for,
        "compensates": step.compensates,
        "attempts": step.attempts,
        "action": str(step.action_id) if step.action_id else None,
        "due_at": step.due_at.isoformat() if step.due_at else None,
        "output": step.output,
        "error": error,
        "started_at": step.started_at.isoformat(),
        "ended_at": step.ended_at.isoformat() if step.ended_at else None,
    }
