import re
from typing import Any

from rest_framework import serializers

from actions.models import Action, Run
from common.amounts import amount_text
from common.serializers import LabelField, RequestSerializer, TextField, WholeField
from policies.models import Elevation

_DECIMAL = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class AmountField(serializers.DecimalField):
    """A decimal number as JSON writes one; an empty text is no amount, and not "unlimited"."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        if isinstance(data, str) and _DECIMAL.fullmatch(data) is None:
            self.fail("invalid")
        return super().validate_empty_values(data)


class BudgetSerializer(RequestSerializer):
    actions = WholeField(min_value=0, max_value=2**31 - 1, required=False, allow_null=True)
    amount = AmountField(
        max_digits=24, decimal_places=10, min_value=0, required=False, allow_null=True
    )


class OpenRunSerializer(RequestSerializer):
    initiator_kind = serializers.ChoiceField(choices=Run.Initiator.choices)
    initiator = TextField(max_length=200)
    purpose = TextField(max_length=4_000)
    reference = TextField(max_length=100, required=False, default="")
    labels = serializers.ListField(
        child=LabelField(max_length=50), required=False, default=list, max_length=20
    )
    budget = BudgetSerializer(required=False)


class CloseRunSerializer(RequestSerializer):
    outcome = TextField(max_length=200)


class ProposeSerializer(RequestSerializer):
    run = serializers.UUIDField()
    tool = TextField(max_length=200)
    arguments = serializers.JSONField(default=dict)
    claims = serializers.DictField(default=dict, help_text="What the runtime declares.")
    mode = serializers.ChoiceField(
        choices=["sync", "async"],
        default="sync",
        help_text="wait: an allowed action is executed in the request. later: by a worker.",
    )


class ReasonSerializer(serializers.Serializer[Any]):
    rule = serializers.CharField()
    title = serializers.CharField()
    reason = serializers.CharField()
    control = serializers.CharField(required=False)


class DecisionSerializer(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(choices=Action.Outcome.choices)
    tier = serializers.CharField(allow_null=True)
    reasons = ReasonSerializer(many=True)
    release = serializers.IntegerField()
    decided_at = serializers.DateTimeField()


class ActionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    run = serializers.UUIDField()
    tool = serializers.CharField()
    arguments_digest = serializers.CharField()
    status = serializers.ChoiceField(choices=Action.Status.choices)
    decision = DecisionSerializer()
    redecision = serializers.JSONField(allow_null=True)
    approval = serializers.UUIDField(allow_null=True)
    attempts = serializers.IntegerField()
    result = serializers.JSONField(allow_null=True)
    error = serializers.DictField(allow_null=True)


class RunSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    agent = serializers.CharField()
    environment = serializers.CharField()
    status = serializers.ChoiceField(choices=Run.Status.choices)
    purpose = serializers.CharField()
    reference = serializers.CharField(allow_blank=True)
    labels = serializers.ListField(child=serializers.CharField())
    actions = serializers.IntegerField()
    denials = serializers.IntegerField()
    amount = serializers.CharField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    outcome = serializers.CharField(allow_blank=True)


class ToolOutlookSerializer(serializers.Serializer[Any]):
    tool = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    access = serializers.CharField()
    input_schema = serializers.JSONField()
    claims = serializers.ListField(child=serializers.DictField())
    expected_outcome = serializers.ChoiceField(
        choices=["allowed", "needs_approval", "denied", "halted", "depends"]
    )
    rules = ReasonSerializer(many=True)


class AskElevationSerializer(RequestSerializer):
    run = serializers.UUIDField()
    tools = serializers.ListField(child=TextField(max_length=200), min_length=1, max_length=20)
    minutes = WholeField(min_value=1, max_value=Elevation.MAX_MINUTES)
    reason = TextField(max_length=1_000)


class ElevationSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    run = serializers.UUIDField()
    tools = serializers.ListField(child=serializers.CharField())
    status = serializers.ChoiceField(choices=Elevation.Status.choices)
    approval = serializers.UUIDField()
    minutes = serializers.IntegerField()
    ends_at = serializers.DateTimeField(allow_null=True)


def action_body(action: Action) -> dict[str, Any]:
    """An action as the API shows it. Written out: it is on the hot path."""
    error = {"code": action.error_code, "message": action.error} if action.error_code else None
    return {
        "id": str(action.pk),
        "run": str(action.run_id),
        "tool": action.tool,
        "arguments_digest": action.arguments_digest,
        "status": str(action.status),
        "decision": {
            "outcome": str(action.outcome),
            "tier": action.tier or None,
            "reasons": action.reasons,
            "release": action.release,
            "decided_at": action.decided_at.isoformat(),
        },
        "redecision": action.redecision,
        "approval": str(action.approval_id) if action.approval_id else None,
        "attempts": action.attempts_count,
        "result": action.result,
        "error": error,
    }


def run_body(run: Run) -> dict[str, Any]:
    return {
        "id": str(run.pk),
        "agent": run.agent,
        "environment": run.environment,
        "status": str(run.status),
        "purpose": run.purpose,
        "reference": run.reference,
        "labels": run.labels,
        "actions": run.actions_count,
        "denials": run.denials_count,
        "amount": amount_text(run.amount),
        "opened_at": run.opened_at.isoformat(),
        "closed_at": run.closed_at.isoformat() if run.closed_at else None,
        "outcome": run.outcome,
    }


def elevation_body(elevation: Elevation) -> dict[str, Any]:
    return {
        "id": str(elevation.pk),
        "run": str(elevation.run_id),
        "tools": elevation.tools,
        "status": str(elevation.status),
        "approval": str(elevation.approval_id),
        "minutes": elevation.minutes,
        "ends_at": elevation.ends_at.isoformat() if elevation.ends_at else None,
    }
