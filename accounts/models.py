from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.names import mail_key, name_key


class Groups:
    """Names of the groups that bootstrap makes. A group is a job, not a rank."""

    COMPLIANCE = "Compliance"
    AGENT_OWNERS = "Agent owners"
    AUDITORS = "Auditors"
    SECURITY = "Security"
    SUPERVISORS = "Approvers: supervisor"
    MANAGERS = "Approvers: manager"

    ALL = (COMPLIANCE, AGENT_OWNERS, AUDITORS, SECURITY, SUPERVISORS, MANAGERS)


class User(AbstractUser):
    """A person. Agents are never rows of this table: they would appear in approver pickers.

    Nobody is called like somebody else: names and addresses are unique by `accounts.names`.
    """

    name_key = models.CharField(max_length=300, unique=True, editable=False)
    full_name_key = models.CharField(max_length=600, blank=True, editable=False, db_index=True)
    mail_key = models.CharField(max_length=254, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["mail_key"], condition=~Q(mail_key=""), name="user_mail_once"
            ),
            models.CheckConstraint(condition=~Q(name_key=""), name="user_name_is_readable"),
        ]

    def __str__(self) -> str:
        return self.get_full_name() or self.get_username()

    def clean(self) -> None:
        super().clean()
        self._set_keys()
        others = type(self).objects.exclude(pk=self.pk)
        if others.filter(name_key=self.name_key).exists():
            message = "Somebody has this name, or one that looks like it."
            raise ValidationError({"username": message})
        if self.mail_key and others.filter(mail_key=self.mail_key).exists():
            raise ValidationError({"email": "Somebody has this mail address."})

    def _set_keys(self) -> None:
        self.name_key = name_key(self.username)
        self.full_name_key = name_key(self.get_full_name())
        self.mail_key = mail_key(self.email or "")

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._set_keys()
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], *_keys_of(kwargs["update_fields"])}
        # Django's own commands and forms save people too: the record needs their transaction.
        with transaction.atomic():
            before = self._stored_keys(kwargs.get("update_fields"))
            super().save(*args, **kwargs)
            for key in before - {self.name_key, self.full_name_key, self.mail_key, ""}:
                FormerName.remember(self.pk, key)

    def _stored_keys(self, update_fields: Iterable[str] | None) -> set[str]:
        """Return the stored names that this save replaces."""
        is_new = self._state.adding
        names = {*_KEYS.values()} & {*(_KEYS.values() if update_fields is None else update_fields)}
        if is_new or not names:
            return set()
        stored = type(self).objects.filter(pk=self.pk).values_list(*sorted(names)).first()
        return set(stored or ())


class FormerName(models.Model):
    """A user name, full name, mail address or single sign-on subject that a person used to have.

    A run may still name its initiator by it, and the initiator must not approve the run's requests.
    """

    # The same period in which former owners and sponsors of an agent may not approve its requests.
    KNOWN_FOR = timedelta(days=90)

    person = models.ForeignKey(User, on_delete=models.CASCADE, related_name="former_names")
    key = models.CharField(max_length=600, db_index=True)
    until = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["person", "key"], name="former_name_once"),
            models.CheckConstraint(condition=~Q(key=""), name="former_name_is_readable"),
        ]

    def __str__(self) -> str:
        return f"a former name of {self.person}"

    @classmethod
    def remember(cls, person_id: int, key: str) -> None:
        """Record that the person has the name no longer; an empty name names nobody."""
        if not key:
            return
        cls.objects.update_or_create(
            person_id=person_id, key=key, defaults={"until": timezone.now()}
        )

    @classmethod
    def still_known(cls) -> "models.QuerySet[FormerName]":
        """Return the names that people had within the last `KNOWN_FOR`."""
        return cls.objects.filter(until__gt=timezone.now() - cls.KNOWN_FOR)


_KEYS = {
    "username": "name_key",
    "first_name": "full_name_key",
    "last_name": "full_name_key",
    "email": "mail_key",
}


def _keys_of(fields: Iterable[str]) -> set[str]:
    return {_KEYS[name] for name in fields if name in _KEYS}


class Environment(models.Model):
    """A place where agents act, with a signing key, token audience and endpoints of its own."""

    slug = models.SlugField(primary_key=True, max_length=32)
    title = models.CharField(max_length=100)
    is_production = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "slug"]
        constraints = [
            models.CheckConstraint(condition=~Q(slug=""), name="environment_has_a_slug"),
        ]

    def __str__(self) -> str:
        return self.slug
