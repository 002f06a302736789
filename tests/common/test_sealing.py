import base64
from itertools import pairwise

import pytest
from pytest_django import Settings

from common.encryption import CannotUnseal, decoded_key, decrypt, encrypt

SECRET = b"a private key"
ROW = "signing-key:prod:kid-1"


def a_key(byte: int) -> str:
    return base64.b64encode(bytes([byte]) * 32).decode()


@pytest.fixture(autouse=True)
def _own_key(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = a_key(1)


def test_what_is_sealed_can_be_opened_in_its_place() -> None:
    assert decrypt(encrypt(SECRET, bound_to=ROW), bound_to=ROW) == SECRET
    assert decrypt(encrypt(b"", bound_to=ROW), bound_to=ROW) == b""


def test_the_sealed_form_shows_nothing_and_never_repeats() -> None:
    first, second = encrypt(SECRET, bound_to=ROW), encrypt(SECRET, bound_to=ROW)
    assert first != second
    assert SECRET not in first


def test_another_key_does_not_open_it(settings: Settings) -> None:
    sealed = encrypt(SECRET, bound_to=ROW)
    settings.ENCRYPTION_KEYS = a_key(2)
    with pytest.raises(CannotUnseal):
        decrypt(sealed, bound_to=ROW)
    settings.ENCRYPTION_KEYS = a_key(1)
    assert decrypt(sealed, bound_to=ROW) == SECRET


@pytest.mark.parametrize("row", ["signing-key:prod:kid-2", "signing-key:staging:kid-1", ""])
def test_it_cannot_be_moved_to_another_row(row: str) -> None:
    with pytest.raises(CannotUnseal):
        decrypt(encrypt(SECRET, bound_to=ROW), bound_to=row)


def test_every_changed_byte_is_noticed() -> None:
    sealed = encrypt(SECRET, bound_to=ROW)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(CannotUnseal):
            decrypt(bytes(changed), bound_to=ROW)


def test_a_shortened_or_lengthened_value_is_noticed() -> None:
    sealed = encrypt(SECRET, bound_to=ROW)
    for changed in (sealed[:-1], sealed + b"\0", sealed[1:]):
        with pytest.raises(CannotUnseal):
            decrypt(changed, bound_to=ROW)


@pytest.mark.parametrize(
    "garbage", [b"", b"x", bytes(11), bytes(12), bytes(13), bytes(27), bytes(28), b"\xff" * 1_000]
)
def test_what_was_never_sealed_cannot_be_unsealed(garbage: bytes) -> None:
    with pytest.raises(CannotUnseal):
        decrypt(garbage, bound_to=ROW)


def test_the_refusal_names_the_row_and_not_the_secret() -> None:
    with pytest.raises(CannotUnseal, match="kid-2") as refusal:
        decrypt(encrypt(SECRET, bound_to=ROW), bound_to="kid-2")
    assert SECRET.decode() not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    ["", "not base64!", base64.b64encode(b"short").decode(), base64.b64encode(b"x" * 33).decode()],
)
def test_only_32_bytes_in_base64_are_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        decoded_key(text)


def test_a_ring_is_rotated_while_processes_restart_one_by_one(settings: Settings) -> None:
    """The order of docs/identity.md: while some processes have the ring of one step, and others
    that of the next, each opens what the others seal; and what was sealed before the rotation.
    """
    old, new = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    steps = [old, f"{old},{new}", f"{new},{old}"]
    settings.ENCRYPTION_KEYS = old
    before = encrypt(b"from before", bound_to="x")
    for ring, following in pairwise(steps):
        for sealing, opening in ((ring, following), (following, ring)):
            settings.ENCRYPTION_KEYS = sealing
            sealed = encrypt(b"meanwhile", bound_to="x")
            settings.ENCRYPTION_KEYS = opening
            assert decrypt(sealed, bound_to="x") == b"meanwhile"
            assert decrypt(before, bound_to="x") == b"from before"
    # All have the last step's ring, and `rewrap_keys` has sealed everything with its first key.
    settings.ENCRYPTION_KEYS = steps[-1]
    rewrapped = encrypt(decrypt(before, bound_to="x"), bound_to="x")
    settings.ENCRYPTION_KEYS = new
    assert decrypt(rewrapped, bound_to="x") == b"from before"


def test_the_new_key_in_front_at_once_is_what_fails(settings: Settings) -> None:
    old, new = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    settings.ENCRYPTION_KEYS = f"{new},{old}"
    sealed = encrypt(b"meanwhile", bound_to="x")
    settings.ENCRYPTION_KEYS = old  # of a process that was not restarted yet
    with pytest.raises(CannotUnseal):
        decrypt(sealed, bound_to="x")
