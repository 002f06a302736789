from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from audit import proofs
from audit.admission import IsAdmitted
from audit.auditor_scope import scope_of
from audit.models import Event
from common.errors import NotFound
from common.problems import PROBLEMS


class MayViewEvents(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        person: Any = request.user
        return bool(person.has_perm("audit.view_event"))


class PlainTextRenderer(BaseContentNegotiation):
    """The answer is text whatever the client accepts; refusals are problems as everywhere."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class ReceiptView(APIView):
    """For people with a session who may see events; agents' tokens are not looked at here."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAdmitted, MayViewEvents)
    content_negotiation_class = PlainTextRenderer

    @extend_schema(
        summary="The receipt of an event",
        description=(
            "That the event is in the log, as a [C2SP tlog-proof](https://c2sp.org/tlog-proof): "
            "its place, the path to the root, and the signed checkpoint. The `extra` line is the "
            "event's leaf, whose RFC 6962 hash is what is proved. 409 `not_sealed` for the second "
            "or so before an event is sealed."
        ),
        operation_id="get_event_receipt",
        responses={(200, "text/plain"): OpenApiResponse(str), **PROBLEMS},
    )
    def get(self, request: Request, uid: UUID) -> HttpResponse:
        scope = scope_of(request.user)
        seen = Event.objects.all() if scope is None else scope.of(Event.objects.all())
        event = seen.filter(uid=uid).first()
        if event is None:
            raise NotFound
        text = str(proofs.receipt(event))
        return HttpResponse(text, content_type="text/plain; charset=utf-8")
