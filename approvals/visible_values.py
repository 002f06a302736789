"""Hide personal and sensitive values of a request from people who do not decide it."""

from typing import Any

from approvals.eligibility import refusal_for
from approvals.models import ApprovalRequest
from audit.permissions import SEE_SENSITIVE
from common.json_pointers import replaced

# In a snapshot: the class of each part that is personal or sensitive, by its pointer.
APART = "apart"


def shown_to(user: Any, request: ApprovalRequest) -> dict[str, Any]:
    """Return the snapshot, with the name of the class in place of each value that is hidden.

    People who may decide a waiting request see all of it. Everybody else needs the right to see
    sensitive values.
    """
    snapshot = dict(request.snapshot)
    apart = snapshot.get(APART)
    if not apart or user.has_perm(SEE_SENSITIVE):
        return snapshot
    is_pending = request.status == ApprovalRequest.Status.PENDING
    if is_pending and refusal_for(request, user) is None:
        return snapshot
    return dict(replaced(snapshot, {where: f"[{name}]" for where, name in apart.items()}))
