"""Identities of the tokens that this process has verified before.

Requests are counted by identity before they are authenticated. An unverified token is not believed:
anybody can write another identity's name into one.
"""

import hashlib
from collections import OrderedDict
from threading import Lock

MAX_KNOWN = 4_096

_known: OrderedDict[bytes, str] = OrderedDict()
_lock = Lock()


def remember_token(token: str, client_id: str) -> None:
    """Remember a verified token by its SHA-256 digest."""
    key = _key(token)
    with _lock:
        _known[key] = client_id
        _known.move_to_end(key)
        while len(_known) > MAX_KNOWN:
            _known.popitem(last=False)


def identity_of(token: str) -> str | None:
    """Return the client id of a token that was valid when it was last used here."""
    return _known.get(_key(token))


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
