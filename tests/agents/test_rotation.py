"""Keys that follow one another: an agent's own, and the portal's."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Environment
from agents.errors import InvalidLifecycleTransition, SigningKeyNotReady
from agents.models import AgentIdentity, AgentKey, SigningKey
from agents.services import enrolment, signing_keys
from audit.models import Event
from common.actors import SYSTEM
from common.errors import NotFound
from tests.agents.runtimes import Runtime, ec_key, ed_key, enrolled
from tests.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.fixture
def runtime(identity: AgentIdentity) -> Runtime:
    return enrolled(identity)


def times_up() -> None:
    """The time in which the old key is accepted beside the new one is over."""
    AgentKey.objects.filter(status="retiring").update(retires_at=timezone.now())


# -- an agent's own keys ---------------------------------------------------------------------------


def test_a_new_key_takes_over_and_the_old_one_is_accepted_for_a_day(runtime: Runtime) -> None:
    new = Runtime(runtime.identity, ed_key())
    answer = runtime.replace_key(new.key)
    assert (answer.status_code, answer.json()["kid"]) == (201, new.kid)
    assert new.ask().status_code == runtime.ask().status_code == 200
    old = AgentKey.objects.get(thumbprint=runtime.kid)
    assert old.status == "retiring"
    assert old.retires_at is not None
    assert timedelta(hours=23) < old.retires_at - timezone.now() <= timedelta(hours=24)
    event = Event.objects.get(type="credential.rotated")
    assert event.details == {"thumbprint": new.kid, "replaced": runtime.kid}


def test_the_use_of_a_superseded_key_locks_the_identity(runtime: Runtime) -> None:
    new = Runtime(runtime.identity, ec_key())
    runtime.replace_key(new.key)
    token = new.ask().json()["access_token"]
    times_up()
    assert new.ask().status_code == 200
    refused = runtime.ask()
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    identity = AgentIdentity.objects.get()
    assert (identity.status, identity.epoch) == ("suspended", 2)
    assert Api(token).get("tools").status_code == 401
    assert new.ask().status_code == 401
    for _ in range(3):  # once is enough for the log
        runtime.ask()
    event = Event.objects.get(type="credential.superseded_key_used")
    assert (event.actor_kind, event.details) == ("system", {"thumbprint": runtime.kid})


def test_only_the_holder_of_a_superseded_key_locks_anything(runtime: Runtime) -> None:
    """Its thumbprint is public: whoever writes it on an assertion does no harm."""
    runtime.replace_key(ec_key())
    times_up()
    assert runtime.ask(runtime.signed(by=ec_key())).status_code == 401
    assert runtime.ask(runtime.signed(aud="https://other")).status_code == 401
    assert AgentIdentity.objects.get().status == "active"


def test_what_is_superseded_is_written_down(runtime: Runtime) -> None:
    runtime.replace_key(ec_key())
    assert enrolment.supersede_due() == 0
    times_up()
    assert (enrolment.supersede_due(), enrolment.supersede_due()) == (1, 0)
    runtime.ask()
    assert AgentIdentity.objects.get().status == "suspended"


REFUSED: dict[str, tuple[Callable[[Runtime], dict[str, Any]], int, str]] = {
    "an assertion made for a token": (
        lambda r: {"client_assertion": r.signed()},
        401,
        "invalid_client",
    ),
    "an assertion that names another key": (
        lambda r: {"client_assertion": r.signed(new_key=r.kid)},
        401,
        "invalid_client",
    ),
    "a stranger's assertion": (
        lambda r: {"client_assertion": r.signed(by=ec_key())},
        401,
        "invalid_client",
    ),
    "no proof by the new key": (lambda r: {"proof": r.signed()}, 403, "invalid_enrolment"),
    "its own key once more": (
        lambda r: {
            "jwk": r.public,
            "proof": r.signed(),
            "client_assertion": r.signed(new_key=r.kid),
        },
        409,
        "key_already_used",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_key_is_replaced_by_its_holder_only_and_by_a_key_that_is_held(
    runtime: Runtime, case: str
) -> None:
    changes, status, code = REFUSED[case]
    answer = runtime.replace_key(ec_key(), **changes(runtime))
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert list(AgentKey.objects.values_list("status", flat=True)) == ["active"]
    assert runtime.ask().status_code == 200


def test_a_key_that_was_replaced_replaces_nothing(runtime: Runtime) -> None:
    runtime.replace_key(ec_key())
    assert runtime.replace_key(ec_key()).status_code == 401
    assert AgentKey.objects.count() == 2


def test_one_assertion_replaces_one_key(runtime: Runtime) -> None:
    new = Runtime(runtime.identity, ec_key())
    assertion = runtime.signed(new_key=new.kid)
    assert runtime.replace_key(new.key, client_assertion=assertion).status_code == 201
    assert runtime.ask(assertion).status_code == 401  # it is spent


# -- the portal's own keys -------------------------------------------------------------------------


def ready(environment: str = "prod") -> SigningKey:
    """The next key, published long enough ago."""
    key = signing_keys.prepare(environment, actor=SYSTEM)
    SigningKey.objects.filter(pk=key.pk).update(
        created_at=timezone.now() - signing_keys.READY_AFTER
    )
    return key


def kids(runtime: Runtime) -> set[str]:
    return {key["kid"] for key in runtime.http.get("/oauth/jwks.json").json()["keys"]}


def test_a_key_is_published_before_it_is_used(runtime: Runtime) -> None:
    old = SigningKey.objects.get()
    token = runtime.ask().json()["access_token"]
    following = signing_keys.prepare("prod", actor=SYSTEM)
    assert kids(runtime) == {old.kid, following.kid}
    with pytest.raises(SigningKeyNotReady):
        signing_keys.activate("prod", actor=SYSTEM, reason="Now.")
    with pytest.raises(InvalidLifecycleTransition):
        signing_keys.prepare("prod", actor=SYSTEM)
    assert SigningKey.objects.get(status="active") == old
    SigningKey.objects.filter(pk=following.pk).update(
        created_at=timezone.now() - signing_keys.READY_AFTER
    )
    signing_keys.activate("prod", actor=SYSTEM, reason="It is time.")
    assert SigningKey.objects.get(status="active") == following
    # What the old one signed is accepted until it is over.
    assert Api(token).get("tools").status_code == 200
    assert Api(runtime.ask().json()["access_token"]).get("tools").status_code == 200
    assert kids(runtime) == {old.kid, following.kid}


def test_keys_follow_one_another_by_themselves(runtime: Runtime) -> None:
    first = SigningKey.objects.get()
    now = timezone.now()
    assert signing_keys.rotate_due(now=now) == 0
    assert signing_keys.rotate_due(now=now + signing_keys.ROTATE_AFTER / 2) == 1
    assert signing_keys.rotate_due(now=now + signing_keys.ROTATE_AFTER / 2) == 0
    month = now + signing_keys.ROTATE_AFTER + timedelta(minutes=1)
    assert signing_keys.rotate_due(now=month) == 1
    assert SigningKey.objects.get(status="active") != first
    assert signing_keys.rotate_due(now=month) == 0
    first.refresh_from_db()
    assert first.status == "retiring"
    assert signing_keys.rotate_due(now=month + signing_keys.ACCEPTED_FOR) == 1
    first.refresh_from_db()
    assert (first.status, first.kid in kids(runtime)) == ("revoked", False)


def test_a_key_that_is_not_ready_keeps_no_other_environment_back(
    runtime: Runtime, prod: Environment
) -> None:
    staging = Environment.objects.create(slug="staging", title="Staging")
    signing_keys.ensure_signing_key(staging, actor=SYSTEM)
    signing_keys.prepare("prod", actor=SYSTEM)  # just now: too late to be used at once
    SigningKey.objects.filter(status="active").update(
        activated_at=timezone.now() - signing_keys.ROTATE_AFTER
    )
    assert signing_keys.rotate_due() == 1
    assert set(SigningKey.objects.filter(status="next").values_list("environment", flat=True)) == {
        "prod",
        "staging",
    }


@pytest.mark.parametrize("has_next", [False, True])
def test_a_revoked_key_is_replaced_at_once_and_its_tokens_are_dead(
    runtime: Runtime, has_next: bool
) -> None:
    token = runtime.ask().json()["access_token"]
    following = signing_keys.prepare("prod", actor=SYSTEM) if has_next else None
    old = SigningKey.objects.get(status="active")
    signing_keys.revoke(old.pk, actor=SYSTEM, reason="It was in a backup.")
    assert Api(token).get("tools").status_code == 401
    assert Api(runtime.ask().json()["access_token"]).get("tools").status_code == 200
    active = SigningKey.objects.get(status="active")
    assert active == following or not has_next
    with pytest.raises(InvalidLifecycleTransition):
        signing_keys.revoke(old.pk, actor=SYSTEM, reason="Again.")


def test_there_is_nothing_to_rotate_where_there_is_no_key(runtime: Runtime) -> None:
    with pytest.raises(NotFound):
        signing_keys.prepare("nowhere", actor=SYSTEM)
    with pytest.raises(NotFound):
        signing_keys.activate("nowhere", actor=SYSTEM, reason="So.")
    with pytest.raises(NotFound):
        signing_keys.revoke(0, actor=SYSTEM, reason="So.")


@pytest.mark.django_db(transaction=True)
def test_a_key_is_revoked_in_a_transaction_of_its_own(identity: AgentIdentity) -> None:
    """As a page and a sweeper do, around which no test has put one."""
    [key] = SigningKey.objects.filter(environment="prod")
    signing_keys.revoke(key.pk, actor=SYSTEM, reason="It leaked.")
    assert SigningKey.objects.get(status="active").pk != key.pk
