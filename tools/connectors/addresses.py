"""Which addresses the portal may call.

The name is resolved once and the call goes to that very address, so that a name cannot resolve
to something harmless for the check and to something else for the call.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from tools.connectors.base import EndpointSpec, NotPermitted, NotSent

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_METADATA = {ipaddress.ip_address("169.254.169.254"), ipaddress.ip_address("fd00:ec2::254")}


def permitted_address(endpoint: EndpointSpec) -> tuple[str, str, int]:
    """(address, host name, port) to call. Raises NotPermitted, NotSent.

    Link-local, multicast, reserved and cloud metadata addresses are never called; private and
    loopback ones only where the endpoint says so. One bad address among a name's addresses
    refuses the name.
    """
    parts = urlsplit(endpoint.base_url)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        message = "The endpoint's address is not an http or https origin."
        raise NotPermitted(message)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        message = f"{host} cannot be resolved."
        raise NotSent(message) from error
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    for address in addresses:
        if not _is_permitted(address, allow_private=endpoint.allow_private):
            message = f"{host} resolves to an address that may not be called."
            raise NotPermitted(message)
    return str(addresses[0]), host, port


def _is_permitted(address: _Address, *, allow_private: bool) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain in _METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return False
    if plain.is_loopback or plain.is_private:
        return allow_private
    return plain.is_global and not plain.is_reserved
