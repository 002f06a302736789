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


def origin_of(base_url: str) -> str:
    """Scheme, host and port in one spelling (RFC 6454 section 6.2). Raises NotPermitted."""
    scheme, host, port = _origin(base_url)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown.lower()}:{port}"


def _origin(base_url: str) -> tuple[str, str, int]:
    message = "The endpoint's address is not an http or https origin."
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NotPermitted(message) from error
    has_login = parts.username is not None or parts.password is not None
    printable = base_url.isascii() and base_url.isprintable()
    if parts.scheme not in {"http", "https"} or not host or has_login or not printable:
        raise NotPermitted(message)
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)


def _is_permitted(address: _Address, *, allow_private: bool) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_permitted(address.ipv4_mapped, allow_private=allow_private)
        # A tunnel's relay would be the one to call: nobody's endpoint.
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local:
            return False
    never = address.is_link_local or address.is_multicast or address.is_unspecified
    if never or address in _METADATA:
        return False
    if address.is_loopback:
        return allow_private
    if address.is_reserved:
        return False
    return address.is_global or (allow_private and address.is_private)
