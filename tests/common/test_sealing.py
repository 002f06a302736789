import base64

import pytest
from pytest_django import Settings

from common.sealing import CannotUnseal, decoded_key, seal, unseal

SECRET = b"a private key"
ROW = "signing-key:prod:kid-1"


def a_key(byte: int) -> str:
    return base64.b64encode(bytes([byte]) * 32).decode()


@pytest.fixture(autouse=True)
def _own_key(settings: Settings) -> None:
    settings.SEALING_KEY = a_key(1)


def test_what_is_sealed_can_be_opened_in_its_place() -> None:
    assert unseal(seal(SECRET, bound_to=ROW), bound_to=ROW) == SECRET
    assert unseal(seal(b"", bound_to=ROW), bound_to=ROW) == b""


def test_the_sealed_form_shows_nothing_and_never_repeats() -> None:
    first, second = seal(SECRET, bound_to=ROW), seal(SECRET, bound_to=ROW)
    assert first != second
    assert SECRET not in first


def test_another_key_does_not_open_it(settings: Settings) -> None:
    sealed = seal(SECRET, bound_to=ROW)
    settings.SEALING_KEY = a_key(2)
    with pytest.raises(CannotUnseal):
        unseal(sealed, bound_to=ROW)
    settings.SEALING_KEY = a_key(1)
    assert unseal(sealed, bound_to=ROW) == SECRET


@pytest.mark.parametrize("row", ["signing-key:prod:kid-2", "signing-key:staging:kid-1", ""])
def test_it_cannot_be_moved_to_another_row(row: str) -> None:
    with pytest.raises(CannotUnseal):
        unseal(seal(SECRET, bound_to=ROW), bound_to=row)


def test_every_changed_byte_is_noticed() -> None:
    sealed = seal(SECRET, bound_to=ROW)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(CannotUnseal):
            unseal(bytes(changed), bound_to=ROW)


def test_a_shortened_or_lengthened_value_is_noticed() -> None:
    sealed = seal(SECRET, bound_to=ROW)
    for changed in (sealed[:-1], sealed + b"\0", sealed[1:]):
        with pytest.raises(CannotUnseal):
            unseal(changed, bound_to=ROW)


@pytest.mark.parametrize(
    "garbage", [b"", b"x", bytes(11), bytes(12), bytes(13), bytes(27), bytes(28), b"\xff" * 1_000]
)
def test_what_was_never_sealed_cannot_be_unsealed(garbage: bytes) -> None:
    with pytest.raises(CannotUnseal):
        unseal(garbage, bound_to=ROW)


def test_the_refusal_names_the_row_and_not_the_secret() -> None:
    with pytest.raises(CannotUnseal, match="kid-2") as refusal:
        unseal(seal(SECRET, bound_to=ROW), bound_to="kid-2")
    assert SECRET.decode() not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    ["", "not base64!", base64.b64encode(b"short").decode(), base64.b64encode(b"x" * 33).decode()],
)
def test_only_32_bytes_in_base64_are_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        decoded_key(text)
