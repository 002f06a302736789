"""A text names a person in whatever form it is written, and nobody else."""

import pytest

from accounts.models import User
from accounts.people import is_named_by, names_of
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna() -> User:
    found = factories.person("anna")
    found.first_name, found.last_name, found.email = "Anna", "Keller", "Anna@Example.org"
    found.save()
    return User.objects.get(pk=found.pk)


@pytest.mark.parametrize(
    "text",
    [
        "anna",
        "ANNA",
        " Anna ",
        "\uff41nna",
        "anna@example.org",
        "Anna Keller",
        "anna  keller",
        "anna\u034f",
        "an\u3164na",
        "anna\ufe0f",
        "a\u200bnna",
        "Anna <anna@example.org>",
        "mailto:anna@example.org",
        "@anna",
        "anna@example.org.",
        "anna+x@example.org",
        "example\\anna",
        '"Keller, A." <ANNA@example.org>',
    ],
)
def test_every_form_of_a_name_is_theirs(anna: User, text: str) -> None:
    assert is_named_by(anna, text), names_of(anna)


@pytest.mark.parametrize("text", ["", "ann", "anna2", "anna@example.com", "Keller", "hannah"])
def test_what_is_not_their_name_is_not(anna: User, text: str) -> None:
    assert not is_named_by(anna, text)
