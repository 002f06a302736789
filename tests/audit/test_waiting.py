"""Evidence and erasures that wait for a second person, where people look for what waits."""

import pytest
from django.test import Client

from accounts.models import User
from audit.models import Erasure, Export
from audit.queue_lag import waiting_for_second_person
from audit.services import erasures, exports
from common.actors import Actor
from tests.audit.test_passes import at_work, boss, eva  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db
HOME, INBOX = "/admin/", "/admin/approvals/approvalrequest/?status__exact=pending"


def asked_by(person: User) -> Export:
    return exports.ask(exports.Wanted(), actor=Actor.from_user(person), purpose="The yearly audit.")


def test_who_may_decide_sees_it_at_home_and_in_the_inbox(
    eva: User,  # noqa: F811
    admin_client: Client,
) -> None:
    asked_by(eva)
    for address in (HOME, INBOX):
        page = admin_client.get(address).content.decode()
        assert "Evidence: The yearly audit." in page
        assert "eva" in page


def test_who_asked_and_who_may_not_decide_do_not(eva: User, admin_user: User) -> None:  # noqa: F811
    export = asked_by(admin_user)
    assert waiting_for_second_person(admin_user) == []
    assert waiting_for_second_person(eva) == []
    assert "The yearly audit" not in at_work(eva).get(HOME).content.decode()
    assert Export.objects.get() == export


def test_what_is_decided_waits_no_longer(eva: User, admin_user: User) -> None:  # noqa: F811
    export = asked_by(eva)
    erasures.ask(
        Erasure.About.PERSON,
        str(eva.pk),
        actor=Actor.from_user(eva),
        basis=next(iter(erasures.BASES)),
        purpose="She left.",
    )
    assert len(waiting_for_second_person(admin_user)) == 2
    exports.decide_export(
        export.pk, actor=Actor.from_user(admin_user), approve=True, reason="Right."
    )
    assert [one.title for one in waiting_for_second_person(admin_user)] == [
        str(Erasure.objects.get())
    ]
