"""Addresses of an endpoint that the portal may call."""

from urllib.parse import urlsplit

from common.addresses import AddressRefused, resolved
from tools.connectors.base import EndpointSpec, NotPermitted, NotSent


def permitted_addresses(endpoint: EndpointSpec) -> tuple[list[str], str, int]:
    """(addresses, host name, port) to call, each address once, as the name's server orders them.
    Raises NotPermitted, NotSent.

    See `common.addresses`; private and loopback ones only where the endpoint says so.
    """
    _, host, port = _origin(endpoint.base_url)
    try:
        return resolved(host, port, allow_private=endpoint.allow_private), host, port
    except AddressRefused as error:
        raise NotPermitted(str(error)) from error
    except OSError as error:
        message = f"{host} cannot be resolved."
        raise NotSent(message) from error


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
