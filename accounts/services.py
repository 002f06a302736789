from typing import Any

from allauth.mfa.models import Authenticator

from accounts.factors import is_of_present_key, opened_text, sealed_text
from accounts.models import Environment
from common.actors import Actor
from common.commands import command
from common.encryption import CannotUnseal

# Where django-allauth keeps what is sealed: of an app that makes codes, and of recovery codes.
_SEALED = ("secret", "seed")


@command
def ensure_environment(
    slug: str, *, actor: Actor, title: str, is_production: bool = False, position: int = 0
) -> Environment:
    """The environment of that slug, made if there is none."""
    found = Environment.objects.filter(slug=slug).first()
    if found is not None:
        return found
    return Environment.objects.create(
        slug=slug, title=title, is_production=is_production, position=position
    )


@command
def reseal_factors(*, actor: Actor) -> int:
    """Seal the secrets of people's second factors with the ring's present key; how many were done.

    Raises CannotUnseal.
    """
    done = 0
    for row in _with_secrets().select_for_update():
        outdated = {name: text for name, text in _sealed(row) if not is_of_present_key(text)}
        if outdated:
            row.data |= {name: sealed_text(opened_text(text)) for name, text in outdated.items()}
            row.save(update_fields=["data"])
            done += 1
    return done


def unopened_factors() -> list[int]:
    """The first factor whose secret the ring does not open, if there is one."""
    for row in _with_secrets():
        try:
            for _, text in _sealed(row):
                opened_text(text)
        except (CannotUnseal, ValueError):
            return [row.pk]
    return []


def _with_secrets() -> Any:
    return Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk")


def _sealed(row: Authenticator) -> list[tuple[str, str]]:
    return [(name, row.data[name]) for name in _SEALED if isinstance(row.data.get(name), str)]
