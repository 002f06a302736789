from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.second_factor import latest_factor
from approvals import services
from approvals.eligibility import refusal_for, waiting_for
from approvals.models import ApprovalRequest, Vote
from approvals.visible_values import shown_to
from audit.admission import IsAdmitted
from audit.auditor_scope import scope_of
from audit.services.recorder import Subject
from audit.services.rejected_requests import record_refused_secret
from common.actors import Actor
from common.errors import InvalidInput
from common.input_checks import SecretFound
from common.problems import PROBLEMS
from common.serializers import RequestSerializer, TextField

MAX_LISTED = 100


class ApprovalSerializer(serializers.ModelSerializer[ApprovalRequest]):
    """A request as the person in the context, under `person`, may see it."""

    details = serializers.SerializerMethodField()
    details_digest = serializers.CharField(source="snapshot_digest", read_only=True)

    def get_details(self, request: ApprovalRequest) -> dict[str, Any]:
        return shown_to(self.context["person"], request)

    class Meta:
        model = ApprovalRequest
        fields = (
            "id",
            "kind",
            "title",
            "subject_kind",
            "subject_id",
            "details",
            "details_digest",
            "reasons",
            "requester_label",
            "tier",
            "quorum",
            "status",
            "opened_at",
            "expires_at",
            "decided_at",
        )


class VoteSerializer(RequestSerializer):
    answer = serializers.ChoiceField(choices=Vote.Answer.choices)
    reason = TextField(max_length=2_000)


class IsNotExternalAuditor(BasePermission):
    """Not people with an auditor's pass, whatever groups they are in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return scope_of(request.user) is None


class PersonView(APIView):
    """For people with a session; agents' tokens are not looked at here."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAdmitted, IsNotExternalAuditor)

    @property
    def person(self) -> User:
        user = self.request.user
        assert not isinstance(user, AnonymousUser)  # noqa: S101 - IsAdmitted; for the type
        return user

    def _shown(self, found: Any, *, many: bool = False) -> Any:
        return ApprovalSerializer(found, many=many, context={"person": self.person}).data

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, SecretFound):
            actor = Actor.from_user(self.person)
            record_refused_secret(Subject.of(self.person), exc.details, actor=actor)
        return super().handle_exception(exc)


class ApprovalsView(PersonView):
    @extend_schema(
        summary="Requests that wait for you",
        description=(
            "Pending requests that you may decide and have not voted on, oldest first, at most "
            "100. If there are more, the `Link` header (RFC 8288) names the next page."
        ),
        operation_id="list_approvals",
        parameters=[
            OpenApiParameter("after", UUID, description="The last one of the page before.")
        ],
        responses={200: ApprovalSerializer(many=True), **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        after = _key(request.query_params.get("after", ""))
        found = list(islice(waiting_for(self.person, after=after), MAX_LISTED + 1))
        # Leave out what concerns an agent that this person owns or sponsors since the request.
        rows = [row for row in found[:MAX_LISTED] if refusal_for(row, self.person) is None]
        response = Response(self._shown(rows, many=True))
        if len(found) > MAX_LISTED:
            response["Link"] = f'<{request.path}?after={found[MAX_LISTED - 1].pk}>; rel="next"'
        return response


def _key(text: str) -> str | None:
    """Raises InvalidInput for what is no key of a request."""
    if not text:
        return None
    try:
        return str(UUID(text))
    except ValueError as error:
        message = "after: this is not the key of a request."
        raise InvalidInput(message) from error


class VotesView(PersonView):
    @extend_schema(
        summary="Vote on a request",
        operation_id="cast_vote",
        request=VoteSerializer,
        responses={201: ApprovalSerializer, **PROBLEMS},
    )
    def post(self, request: Request, approval_id: UUID) -> Response:
        form = VoteSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        approval = services.cast_vote(
            approval_id,
            actor=Actor.from_user(self.person),
            answer=Vote.Answer(form.validated_data["answer"]),
            reason=form.validated_data["reason"],
            factor=latest_factor(request),
        )
        return Response(self._shown(approval), status=201)
