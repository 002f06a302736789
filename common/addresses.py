"""Network addresses that the portal may call."""

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Link-local ones are refused as such; these are the metadata services that are not.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)


class AddressRefused(Exception):
    """A host name that is not valid, or leads to an address that may not be called."""


def resolved(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of the host, each once, in the order that the resolver gives.

    The name is resolved once and calls go to these very addresses, so that a name cannot resolve to
    something harmless for the check and to something else for the call. One bad address among them
    refuses the name. Raises AddressRefused, and OSError for a name that cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        message = "The host name is not valid."
        raise AddressRefused(message) from error
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    for address in addresses:
        if not is_permitted(address, allow_private=allow_private):
            message = f"{host} resolves to an address that may not be called."
            raise AddressRefused(message)
    return list(dict.fromkeys(map(str, addresses)))


def is_permitted(address: Address, *, allow_private: bool) -> bool:
    """Link-local, multicast, reserved and cloud metadata addresses are never called; private and
    loopback ones only where somebody has said so.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_permitted(address.ipv4_mapped, allow_private=allow_private)
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
