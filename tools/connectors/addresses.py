"""Which addresses the portal may call.

The name is resolved once and the call goes to that very address, so that a name cannot resolve
to something harmless for the check and to something else for the call.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from tools.connectors.base import EndpointSpec, NotPermitted, NotSent

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Link-local ones are refused as such; these are the metadata services that are not.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)


def permitted_address(endpoint: EndpointSpec) -> tuple[str, str, int]:
    """(address, host name, port) to call. Raises NotPermitted, NotSent.

    Link-local, multicast, reserved and cloud metadata addresses are never called; private and
    loopback ones only where the endpoint says so. One bad address among a name's addresses
    refuses the name.
    """
    _, host, port = _origin(endpoint.base_url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        message = "The endpoint's host name is not valid."
        raise NotPermitted(message) from error
    except OSError as error:
        message = f"{host} cannot be resolved."
        raise NotSent(message) from error
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    for address in addresses:
        if not _is_permitted(address, allow_private=endpoint.allow_private):
            message = f"{host} resolves to an address that may not be called."
            raise NotPermitted(message)
    return str(addresses[0]), host, port


def _origin(base_url: str) -> tuple[str, str, int]:
    message = "The endpoint's address is not an http or https origin."
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NotPermitted(message) from error
    printable = base_url.isascii() and base_url.isprintable()
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.password is not None or not printable:
        raise NotPermitted(message)
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)


def _is_permitted(address: _Address, *, allow_private: bool) -> bool:
    if any(not _is_permitted(inner, allow_private=allow_private) for inner in _inside(address)):
        return False
    if address in _METADATA or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified or getattr(address, "is_site_local", False):
        return False
    if address.is_loopback:
        return allow_private
    if address.is_global:
        return not address.is_reserved
    return allow_private and address.is_private and not address.is_reserved


def _inside(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for, by whichever way of mapping."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    teredo = address.teredo or ()
    found = (address.ipv4_mapped, address.sixtofour, *teredo)
    return [inner for inner in found if inner is not None]
