"""The secret arguments of a call, sealed between its decision and its execution."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from actions.models import Action, SealedArguments
from common.canonical import canonical_json
from common.encryption import CannotUnseal, decrypt, encrypt, key_id_of, sealing_key_id
from common.redaction import holds_mark
from common.sql import Row
from tools.connectors.base import NotPermitted
from tools.credentials import Credential
from tools.data_classes import secret_mark
from tools.definitions import ToolSpec
from tools.errors import SecretUnusable
from tools.secret_arguments import credentials_of, with_secrets

BATCH = 200


def row_of(action_id: UUID, secrets: Mapping[str, Any]) -> Row:
    """The secrets of an action, by their places, as the row that keeps them."""
    marks = {where: secret_mark(secret) for where, secret in secrets.items()}
    kept = canonical_json({"secrets": secrets, "marks": marks}).encode()
    return {"action_id": action_id, "sealed": _sealed(action_id, kept)}


def opened(action: Action, spec: ToolSpec) -> tuple[Mapping[str, Any], tuple[Credential, ...]]:
    """The arguments as they are sent, and what is to be masked in the answer.

    Raises NotPermitted: a call is not made without a secret that it was decided with.
    """
    kept = SealedArguments.objects.filter(pk=action.pk).first() if spec.takes_secrets else None
    if kept is None:
        if holds_mark(action.arguments):
            message = "Its secret arguments are no longer kept: it has to be requested again."
            raise NotPermitted(message)
        return action.arguments, ()
    try:
        found = json.loads(_opened(kept))
        secrets, marks = found["secrets"], found["marks"]
        return with_secrets(action.arguments, secrets, marks), credentials_of(secrets)
    except (CannotUnseal, SecretUnusable) as error:
        message = "Its secret arguments cannot be opened with this portal's key."
        raise NotPermitted(message) from error


def reseal_all() -> int:
    """Seal what is kept with the ring's present key; how many. Raises CannotUnseal."""
    number, last = 0, None
    while True:
        rows = SealedArguments.objects.order_by("pk")
        batch = list((rows.filter(pk__gt=last) if last else rows)[:BATCH])
        if not batch:
            return number
        number += sum(_reencrypt(row.pk) for row in batch)
        last = batch[-1].pk


@transaction.atomic
def _reencrypt(action_id: UUID) -> bool:
    row = SealedArguments.objects.select_for_update().filter(pk=action_id).first()
    if row is None or key_id_of(base64.b64decode(row.sealed)) == sealing_key_id():
        return False
    row.sealed = _sealed(action_id, _opened(row))
    row.save(update_fields=["sealed"])
    return True


def _sealed(action_id: UUID, value: bytes) -> str:
    return base64.b64encode(encrypt(value, bound_to=_place(action_id))).decode()


def _opened(row: SealedArguments) -> bytes:
    return decrypt(base64.b64decode(row.sealed), bound_to=_place(row.pk))


def _place(action_id: UUID) -> str:
    return f"arguments of action {action_id}"
