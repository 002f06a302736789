from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from actions.api.long_polling import long_poll
from actions.api.serializers import run_body
from actions.api.views import AgentView, idempotency_key
from actions.models import Run
from actions.services.runs import Budget
from common.problems import PROBLEMS
from policies.snapshot import snapshot
from workflows.api import serializers
from workflows.models import Workflow, WorkflowRun
from workflows.services import operator_commands, run_signals, runs
from workflows.services.runs import Start
from workflows.spec_cache import spec_of

_KEY = OpenApiParameter("Idempotency-Key", str, "header", required=True)


class WorkflowView(AgentView):
    def own_workflow_run(self, run_id: UUID) -> WorkflowRun | None:
        runs = WorkflowRun.objects.filter(pk=run_id, run__identity_id=self.caller.identity.pk)
        return runs.select_related("workflow", "version").first()

    def body_of(self, run_id: UUID) -> dict[str, Any]:
        """The run, with its workflow if it is one's. Raises NotFound."""
        found = self.own_workflow_run(run_id)
        workflow = serializers.workflow_body(found) if found else None
        return {**run_body(self.own_run(run_id)), "workflow": workflow}


class WorkflowsView(WorkflowView):
    @extend_schema(
        summary="Workflows that this agent may start",
        operation_id="list_workflows",
        responses={200: serializers.WorkflowSerializer(many=True), **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        roles = snapshot.current().roles(self.caller)
        found = []
        for workflow in Workflow.objects.filter(live__isnull=False, paused=False):
            spec = spec_of(int(workflow.live_id or 0))
            if roles & set(spec.roles):
                found.append(
                    {
                        "slug": workflow.slug,
                        "title": spec.title,
                        "description": spec.description,
                        "inputs": spec.inputs_schema,
                    }
                )
        return Response(found)


class StartView(WorkflowView):
    @extend_schema(
        summary="Start a run of a workflow",
        description=(
            "The same Idempotency-Key gives the same run again (200). The run goes on by itself; "
            "`GET /runs/{id}?wait=30` waits for its end."
        ),
        operation_id="start_workflow",
        parameters=[_KEY],
        request=serializers.StartSerializer,
        responses={
            200: serializers.RunWithStepsSerializer,
            201: serializers.RunWithStepsSerializer,
            **PROBLEMS,
        },
    )
    def post(self, request: Request, slug: str) -> Response:
        key = idempotency_key(request)
        form = serializers.StartSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        budget = given.pop("budget", {})
        asked = Start(
            workflow=slug,
            key=key,
            inputs=given["inputs"],
            initiator_kind=Run.Initiator(given["initiator_kind"]),
            initiator=given["initiator"] or self.caller.identity.client_id,
            purpose=given["purpose"],
            reference=given["reference"],
            labels=tuple(given["labels"]),
            budget=Budget(budget.get("actions"), budget.get("amount")),
        )
        run, is_new = runs.start(self.caller, asked, actor=self.actor)
        return Response(self.body_of(run.pk), status=201 if is_new else 200)


class RunView(WorkflowView):
    @extend_schema(
        summary="A run of this agent, with the steps of its workflow",
        description="With `wait`, answers when the workflow rests or the time is up.",
        operation_id="get_run",
        parameters=[OpenApiParameter("wait", int, description="Seconds, at most 30.")],
        responses={200: serializers.RunWithStepsSerializer, **PROBLEMS},
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        long_poll(self, lambda: self.own_workflow_run(run_id), _rests)
        return Response(self.body_of(run_id))


def _rests(run: WorkflowRun | None) -> bool:
    return run is None or run.status in WorkflowRun.RESTING


class SignalsView(WorkflowView):
    @extend_schema(
        summary="Send a signal to a run",
        description="It is kept until a step waits for it. The same key is one signal (200).",
        operation_id="send_signal",
        parameters=[_KEY],
        request=serializers.SignalSerializer,
        responses={
            200: serializers.SentSignalSerializer,
            201: serializers.SentSignalSerializer,
            **PROBLEMS,
        },
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        key = idempotency_key(request)
        form = serializers.SignalSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        signal, is_new = run_signals.send(
            run_id,
            actor=self.actor,
            key=key,
            identity_id=self.caller.identity.pk,
            **form.validated_data,
        )
        body = {"id": str(signal.pk), "name": signal.name, "consumed_by": signal.consumed_by}
        return Response(body, status=201 if is_new else 200)


class OrderView(WorkflowView):
    def reason(self, request: Request) -> str:
        form = serializers.OrderSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return str(form.validated_data["reason"])


class CancelView(OrderView):
    @extend_schema(
        summary="Cancel a run",
        operation_id="cancel_run",
        request=serializers.OrderSerializer,
        responses={200: serializers.RunWithStepsSerializer, **PROBLEMS},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        reason = self.reason(request)
        identity_id = self.caller.identity.pk
        operator_commands.cancel(run_id, actor=self.actor, reason=reason, identity_id=identity_id)
        return Response(self.body_of(run_id))


class RetryView(OrderView):
    @extend_schema(
        summary="Retry a failed run from its checkpoint",
        description=(
            "What succeeded is not done again. Left to people: a halted run, one whose time limit "
            "has passed, one of a retired version, one that is part of another, and one that was "
            "started with rights which this token does not cover."
        ),
        operation_id="retry_run",
        request=serializers.OrderSerializer,
        responses={200: serializers.RunWithStepsSerializer, **PROBLEMS},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        reason = self.reason(request)
        operator_commands.resume(
            run_id,
            actor=self.actor,
            reason=reason,
            by=self.caller,
            of=frozenset({WorkflowRun.Status.FAILED}),
        )
        return Response(self.body_of(run_id))
