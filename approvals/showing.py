"""What of a request a person sees: values that are personal or sensitive only who needs them."""

from typing import Any

from approvals.eligibility import refusal_for
from approvals.models import ApprovalRequest
from common.json_pointers import replaced

# In a snapshot: the class of each part that is personal or sensitive, by its pointer.
APART = "apart"


def shown_to(user: Any, request: ApprovalRequest) -> dict[str, Any]:
    """Return the snapshot with the class in place of what this person may not see.

    Who may decide sees all of what they decide on while it waits; otherwise it takes the right to
    see sensitive values.
    """
    snapshot = dict(request.snapshot)
    apart = snapshot.get(APART)
    if not apart or user.has_perm("audit.see_sensitive"):
        return snapshot
    is_pending = request.status == ApprovalRequest.Status.PENDING
    if is_pending and refusal_for(request, user) is None:
        return snapshot
    return dict(replaced(snapshot, {where: f"[{name}]" for where, name in apart.items()}))
