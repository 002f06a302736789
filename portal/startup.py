"""Checks before a process serves: does it hold the keys it needs?

A process with a wrong or missing sealing key would refuse one call after the other, and could
not sign a token. It does not start instead.
"""

from django.core.exceptions import ImproperlyConfigured

from accounts.services import unopened_factors
from agents.keys import opened_signing_key
from agents.models import SigningKey
from common.encryption import CannotUnseal
from portal import environment
from tools import envelope
from tools.models import SecretVersion
from tools.services.secrets import place_of


def problems() -> list[str]:
    """Sealed values that the ring does not open: all signing keys, and one data key per key id."""
    found = []
    try:
        for row in SigningKey.objects.exclude(status=SigningKey.Status.REVOKED):
            opened_signing_key(row.environment_id, row.kid, bytes(row.sealed_private))
        for version in _one_of_each():
            envelope.rewrapped(version.wrapped_key, place_of(version))
    except CannotUnseal as error:
        found.append(f"CHANCERY_ENCRYPTION_KEYS does not open what is in the database: {error}.")
    closed = unopened_factors()
    return found + [
        f"CHANCERY_ENCRYPTION_KEYS does not open a person's factor ({one})." for one in closed
    ]


def ensure_keys() -> None:
    """Raises ImproperlyConfigured."""
    found = environment.problems or problems()
    if found:
        raise ImproperlyConfigured(found[0])


def _one_of_each() -> list[SecretVersion]:
    kept = SecretVersion.objects.exclude(status=SecretVersion.Status.DESTROYED)
    ids = kept.order_by().values_list("key_id", flat=True).distinct()
    some = kept.select_related("secret__endpoint").order_by("pk")
    return [found for key_id in ids if (found := some.filter(key_id=key_id).first())]
