"""Finding the people whom a text may name."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.db.models import Q

from accounts.models import FormerName, User
from accounts.names import keys_in, mail_key

_KNOWN = "_chancery_names"


def people_named(text: str) -> set[int]:
    """The keys of everybody whom this text may name: by user name, full name, mail address, or the
    subject of their single sign-on, including those of the last 90 days.
    """
    forms = keys_in(text)
    if not forms:
        return set()
    by_account = Q(name_key__in=forms) | Q(full_name_key__in=forms) | Q(mail_key__in=forms)
    found = set(User.objects.filter(by_account).values_list("pk", flat=True))
    formerly = FormerName.still_known().filter(key__in={*forms, text.strip()})
    found |= set(formerly.values_list("person_id", flat=True))
    for mail in (one for one in forms if "@" in one):
        others = EmailAddress.objects.filter(email__iexact=mail, verified=True)
        found |= set(others.values_list("user_id", flat=True))
    signed_on = SocialAccount.objects.filter(uid=text.strip())
    return found | set(signed_on.values_list("user_id", flat=True))


def names_of(user: User) -> frozenset[str]:
    """Every form that a text may have that names this person; found out once for the instance."""
    known: frozenset[str] | None = getattr(user, _KNOWN, None)
    if known is None:
        others = EmailAddress.objects.filter(user=user, verified=True).values_list(
            "email", flat=True
        )
        signed_on = SocialAccount.objects.filter(user=user).values_list("uid", flat=True)
        formerly = FormerName.still_known().filter(person=user).values_list("key", flat=True)
        own = (user.name_key, user.full_name_key, user.mail_key)
        known = frozenset(filter(None, (*own, *map(mail_key, others), *signed_on, *formerly)))
        setattr(user, _KNOWN, known)
    return known


def is_named_by(user: User, text: str) -> bool:
    """Return whether the text may name this person, by a name of today or of the last 90 days."""
    forms = keys_in(text) | {text.strip()} - {""}
    return bool(forms & names_of(user))


def remember_address(instance: EmailAddress, origin: Any, **_: Any) -> None:
    """Record a verified mail address that is removed from an account as a former name."""
    if instance.verified and not _is_account_deletion(origin):
        FormerName.remember(instance.user_id, mail_key(instance.email))


def remember_subject(instance: SocialAccount, origin: Any, **_: Any) -> None:
    """Record the subject of a disconnected single sign-on as a former name."""
    if not _is_account_deletion(origin):
        FormerName.remember(instance.user_id, str(instance.uid))


def _is_account_deletion(origin: Any) -> bool:
    """Return whether the account itself is being deleted, and its names with it."""
    return isinstance(origin, User) or getattr(origin, "model", None) is User
