"""Active tokens of an identity, read from the log: the tokens themselves are stored nowhere."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from agents.events import CREDENTIAL_ISSUED
from agents.models import AgentIdentity, RevokedToken
from audit.models import Event
from common.ids import first_key_at

MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class ActiveToken:
    jti: str
    scope: str
    expires_at: datetime
    chain: tuple[str, ...]
    bound: bool


def live_tokens(identities: Sequence[AgentIdentity]) -> dict[int, list[ActiveToken]]:
    """By identity, the latest first: issued in its present epoch, not over, not given back."""
    now = timezone.now()
    epochs = {str(one.pk): one.epoch for one in identities}
    since = min((now.timestamp() - one.TOKEN_SECONDS for one in identities), default=0.0)
    issued = Event.objects.filter(
        subject_kind="agents.agentidentity",
        subject_id__in=epochs,
        type=CREDENTIAL_ISSUED.name,
        uid__gte=first_key_at(datetime.fromtimestamp(since, now.tzinfo)),
    )
    revoked = set(RevokedToken.objects.values_list("jti", flat=True))
    found: dict[int, list[ActiveToken]] = defaultdict(list)
    for event in issued.order_by("-id")[:MAX_SHOWN]:
        details = event.details
        token = ActiveToken(
            details["jti"],
            details["scope"],
            datetime.fromisoformat(details["expires_at"]),
            tuple(details["chain"]),
            details["bound"],
        )
        is_of_now = details.get("epoch") == epochs[event.subject_id]
        if is_of_now and token.expires_at > now and token.jti not in revoked:
            found[int(event.subject_id)].append(token)
    return found
