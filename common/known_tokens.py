"""Tokens that this process has verified, by their digest: whose request it is, before it is served.

What a token says of itself is no reason to count a request as its identity's: anybody can write it.
"""

import hashlib
from collections import OrderedDict
from threading import Lock

MAX_KNOWN = 4_096

_known: OrderedDict[bytes, str] = OrderedDict()
_lock = Lock()


def remember_token(token: str, client_id: str) -> None:
    """The token was valid, and of this identity."""
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
