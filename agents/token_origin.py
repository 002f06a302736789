"""From which networks a token is used. One that comes from two within its life was copied."""

import ipaddress
import time
from threading import Lock

from django.core.cache import caches
from redis.exceptions import RedisError

from agents.tokens import Caller
from common.rate_limits import CacheAway

_MAX_HELD = 20_000
_held: dict[tuple[str, int], str] = {}
_lock = Lock()


def network_of(address: str) -> str:
    """The /24 or /48 around an address; empty if it is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    prefix = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network(f"{parsed}/{prefix}", strict=False))


def conflicting_network(caller: Caller, address: str) -> str:
    """The network that the token was first used from, if that is not this one; else empty.

    Networks of the two versions of IP are not compared: a runtime may well have both. The shared
    cache is asked once per token and process.
    """
    network = network_of(address)
    if not network:
        return ""
    key = (caller.jti, ipaddress.ip_network(network).version)
    first = _held.get(key)
    if first is None:
        left = max(1, caller.expires_at - int(time.time()))
        name = f"network:{caller.jti}:{key[1]}"
        try:
            caches["counters"].add(name, network, timeout=left)
            first = str(caches["counters"].get(name) or network)
        except (RedisError, OSError) as error:
            raise CacheAway from error
        with _lock:
            if len(_held) >= _MAX_HELD:
                _held.clear()
            _held[key] = first
    return "" if first == network else first


def forget() -> None:
    """Forget what this process holds; for tests."""
    with _lock:
        _held.clear()
