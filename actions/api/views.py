import re
from typing import Any
from uuid import UUID

import jsonschema_rs
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from actions.api import serializers
from actions.api.long_polling import long_poll
from actions.errors import IdempotencyKeyRequired
from actions.models import Action, Run
from actions.services import run_elevations, runs, submission
from actions.services.proposals import Proposal
from agents.api.authentication import AgentAuthentication, IsAgent
from agents.tokens import Caller
from audit.services.recorder import Subject
from audit.services.rejected_requests import record_refused_secret
from common.actors import Actor
from common.errors import InvalidInput, NotFound
from common.input_checks import SecretFound, ensure_no_secret
from common.problems import PROBLEMS
from common.redaction import may_hold_secret
from common.serializers import ensure_empty
from policies.authorization import is_worth_evaluating
from policies.errors import ElevationExpired
from policies.evaluation import Request as PolicyRequest
from policies.models import Elevation
from policies.preview import expected_outcome
from policies.services import elevations
from policies.snapshot import Snapshot, snapshot
from tools.definitions import ToolSpec
from tools.secret_arguments import secrets_set_apart

_KEY = re.compile(r"[\x21-\x7e]{1,100}")
_KEY_PARAMETER = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,100}$", "minLength": 1, "maxLength": 100},
    "header",
    required=True,
)


class AgentView(APIView):
    authentication_classes = (AgentAuthentication,)
    permission_classes = (IsAgent,)

    @property
    def caller(self) -> Caller:
        principal: Any = self.request.user  # an AgentPrincipal: IsAgent has let it in
        caller: Caller = principal.caller
        return caller

    @property
    def actor(self) -> Actor:
        client_id = self.caller.identity.client_id
        return Actor(kind="agent", id=client_id, label=client_id)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, SecretFound):
            # The body is read after the caller has been let in.
            identity = self.caller.identity
            by = Subject("agents.agentidentity", str(identity.pk), identity.client_id)
            record_refused_secret(by, exc.details, actor=self.actor)
        return super().handle_exception(exc)

    def own_run(self, run_id: UUID) -> Run:
        run = Run.objects.filter(pk=run_id, identity_id=self.caller.identity.pk).first()
        if run is None:
            raise NotFound
        return run


class RunsView(AgentView):
    @extend_schema(
        summary="Open a run",
        operation_id="open_run",
        request=serializers.OpenRunSerializer,
        responses={201: serializers.RunSerializer, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        form = serializers.OpenRunSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        budget = given.pop("budget", {})
        kind = Run.Initiator(given.pop("initiator_kind"))
        bounds = runs.Budget(budget.get("actions"), budget.get("amount"))
        opening = runs.NewRun(kind, budget=bounds, **given)
        run = runs.open_run(self.caller, opening, actor=self.actor)
        return Response(serializers.run_body(run), status=201)


class CloseRunView(AgentView):
    @extend_schema(
        summary="Close a run",
        operation_id="close_run",
        request=serializers.CloseRunSerializer,
        responses={200: serializers.RunSerializer, **PROBLEMS},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        form = serializers.CloseRunSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        run = runs.close_run(
            run_id,
            actor=self.actor,
            identity_id=self.caller.identity.pk,
            outcome=form.validated_data["outcome"],
        )
        return Response(serializers.run_body(run))


class ActionsView(AgentView):
    checks_caller_again = True
    checks_secrets = True

    @extend_schema(
        summary="Propose an action",
        description=(
            "Decides on one tool call and, if it is allowed, executes it. A denied action is a "
            "created resource with `status: denied`, not an error. The same Idempotency-Key "
            "gives the same action again (200)."
        ),
        operation_id="propose_action",
        parameters=[_KEY_PARAMETER],
        request=serializers.ProposeSerializer,
        responses={
            200: serializers.ActionSerializer,
            201: serializers.ActionSerializer,
            **PROBLEMS,
        },
    )
    def post(self, request: Request) -> Response:
        key = idempotency_key(request)
        vouched_by = _checked_for_secrets(request.data)
        given = _asked(request.data)
        committed = submission.submit(
            Proposal(
                caller=self.caller,
                run_id=UUID(given["run"]),
                tool=given["tool"],
                arguments=given.get("arguments", {}),
                claims=given.get("claims", {}),
                idempotency_key=key,
                asynchronous=given.get("mode") == "async",
                vouched_by=vouched_by,
            )
        )
        status = 200 if committed.replayed else 201
        response = Response(serializers.action_body(committed.action), status=status)
        response["Server-Timing"] = f"decide;dur={committed.decided_in_ms:.2f}"
        return response


class ActionView(AgentView):
    @extend_schema(
        summary="An action of this agent",
        description="With `wait`, answers when the action is settled or the time is up.",
        operation_id="get_action",
        parameters=[OpenApiParameter("wait", int, description="Seconds, at most 30.")],
        responses={200: serializers.ActionSerializer, **PROBLEMS},
    )
    def get(self, request: Request, action_id: UUID) -> Response:
        action = long_poll(
            self, lambda: self._own_action(action_id), lambda found: found.is_settled
        )
        return Response(serializers.action_body(action))

    def _own_action(self, action_id: UUID) -> Action:
        own = Action.objects.filter(pk=action_id, run__identity_id=self.caller.identity.pk)
        action = own.first()
        if action is None:
            raise NotFound
        return action


def idempotency_key(request: Request) -> str:
    """Raises IdempotencyKeyRequired, SecretFound."""
    key = request.headers.get("Idempotency-Key", "")
    if not _KEY.fullmatch(key):
        raise IdempotencyKeyRequired
    ensure_no_secret(key)
    return key


def _checked_for_secrets(body: Any) -> str:
    """Return the digest of the tool's definition if the body has a secret that it declares.

    Raises SecretFound for a credential that it does not declare. A number of which the schema says
    what it is does not count as a card number.
    """
    if not may_hold_secret(body):
        return ""
    name = body.get("tool") if isinstance(body, dict) else None
    spec = snapshot.cached().catalog.tools.get(name) if isinstance(name, str) else None
    if spec is None:
        ensure_no_secret(body)
        return ""
    arguments = body.get("arguments")
    shown, secrets = secrets_set_apart(arguments, spec.input_schema)
    known = spec.vouched_arguments(arguments)
    ensure_no_secret({**body, "arguments": shown}, vouched=known)
    return spec.digest if secrets else ""


# What ProposeSerializer documents, as a compiled validator: this is the hot path.
_UUID = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
_PROPOSAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["run", "tool"],
    "properties": {
        "run": {"type": "string", "pattern": _UUID},
        "tool": {"type": "string", "minLength": 1, "maxLength": 200},
        "arguments": True,
        "claims": {"type": "object"},
        "mode": {"enum": ["sync", "async"]},
    },
    "additionalProperties": False,
}
_PROPOSAL = jsonschema_rs.Draft202012Validator(_PROPOSAL_SCHEMA)


def _asked(body: Any) -> dict[str, Any]:
    """The proposal's body. Raises InvalidInput, naming the field and never its value."""
    broken = next(_PROPOSAL.iter_errors(body), None)
    if broken is not None:
        path = "/".join(str(part) for part in broken.instance_path)
        missing = getattr(broken.kind, "property", "")
        known = set(_PROPOSAL_SCHEMA["properties"])
        unknown = sorted(set(body) - known) if isinstance(body, dict) else []
        if unknown:
            message = f"There is no such member: {unknown[0][:100]}."
            raise InvalidInput(message)
        message = f"{path or missing or 'The body'} is missing or not as it should be."
        raise InvalidInput(message)
    asked: dict[str, Any] = body
    return asked


class ElevationsView(AgentView):
    @extend_schema(
        summary="Ask for tools that this agent does not hold",
        description="For one run and a while. People answer; meanwhile nothing more is allowed.",
        operation_id="request_elevation",
        request=serializers.AskElevationSerializer,
        responses={201: serializers.ElevationSerializer, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        form = serializers.AskElevationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        elevation = run_elevations.request_elevation(
            self.caller,
            given["run"],
            actor=self.actor,
            tools=given["tools"],
            minutes=given["minutes"],
            reason=given["reason"],
        )
        return Response(serializers.elevation_body(elevation), status=201)


class ElevationView(AgentView):
    @extend_schema(
        summary="An elevation of this agent",
        description="With `wait`, answers when people have decided or the time is up.",
        operation_id="get_elevation",
        parameters=[OpenApiParameter("wait", int, description="Seconds, at most 30.")],
        responses={200: serializers.ElevationSerializer, **PROBLEMS},
    )
    def get(self, request: Request, elevation_id: UUID) -> Response:
        elevation = long_poll(
            self,
            lambda: self.own_elevation(elevation_id),
            lambda found: found.status != Elevation.Status.ASKED,
        )
        return Response(serializers.elevation_body(elevation))

    def own_elevation(self, elevation_id: UUID) -> Elevation:
        own = Elevation.objects.filter(pk=elevation_id, identity_id=self.caller.identity.pk)
        elevation = own.first()
        if elevation is None:
            raise NotFound
        return elevation


class RevokeElevationView(ElevationView):
    http_method_names = ("post", "options")

    @extend_schema(
        summary="End an elevation early",
        operation_id="revoke_elevation",
        request=None,
        responses={200: serializers.ElevationSerializer, **PROBLEMS},
    )
    def post(self, request: Request, elevation_id: UUID) -> Response:
        ensure_empty(request.data)
        own = self.own_elevation(elevation_id)
        if own.status != Elevation.Status.ACTIVE:
            raise ElevationExpired  # without keeping decisions waiting for it
        ended = elevations.end(own.pk, actor=self.actor, reason="Given back.")
        return Response(serializers.elevation_body(ended))


class ToolsView(AgentView):
    @extend_schema(
        summary="Tools that this agent may call",
        description="And how a call would be decided, before its arguments are known.",
        operation_id="list_tools",
        responses={200: serializers.ToolOutlookSerializer(many=True), **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        held = snapshot.current()
        caller = self.caller
        tools = sorted(held.catalog.tools.values(), key=lambda spec: spec.full_name)
        return Response(
            [
                _tool_body(held, caller, spec)
                for spec in tools
                if not spec.serves_facts_only and is_worth_evaluating(held, caller, spec)
            ]
        )


def _tool_body(held: Snapshot, caller: Caller, spec: ToolSpec) -> dict[str, Any]:
    identity = caller.identity
    asked = PolicyRequest(
        agent=identity.agent_slug,
        risk=identity.risk,
        roles=held.roles(caller),
        action=spec.full_name,
        system=spec.system,
        access=spec.access,
        environment=identity.environment,
        context={},
    )
    release = held.policies
    checked = release is not None and release.tools.get(spec.full_name) == spec.digest
    # What the release was not checked against is denied, whatever its rules say.
    found = expected_outcome(release.slice_for(asked).rules.values() if release and checked else ())
    return {
        "tool": spec.full_name,
        "title": spec.title,
        "description": spec.description,
        "access": spec.access,
        "input_schema": spec.input_schema,
        "claims": [
            {"name": claim.name, "title": claim.title, "type": claim.policy_type}
            for claim in spec.claims
        ],
        "expected_outcome": found.outcome,
        "rules": [
            {"rule": rule.id, "title": rule.title, "reason": rule.sentence} for rule in found.rules
        ],
    }
