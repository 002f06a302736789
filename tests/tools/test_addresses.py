import pytest

from tools.connectors.addresses import permitted_addresses
from tools.connectors.base import EndpointSpec, NotPermitted

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",  # 169.254.169.254 as one number
    "[::ffff:169.254.169.254]",
    "[::ffff:0.0.0.0]",
    "[::ffff:224.0.0.1]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "0.0.0.0",
    "0",
    "[::]",
    "224.0.0.1",
    "239.255.255.250",
    "[ff02::1]",
    "[64:ff9b::7f00:1]",
    "[fec0::1]",
    "[feff::1]",
    "[fd20:ce::254]",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "[::ffff:168.63.129.16]",
    "[::ffff:100.100.100.200]",
    "[2002:a9fe:a9fe::1]",  # 6to4 of 169.254.169.254
    "[2001:0:a9fe:a9fe::]",  # Teredo by way of 169.254.169.254
    "[2001:0:808:808::5601:5601]",  # Teredo of 169.254.169.254
]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "localhost",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "2130706433",
    "127.1",
    "[::1]",
    "[fd12:3456::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
]
TUNNELLED = [
    "[2002:7f00:1::1]",  # 6to4 of 127.0.0.1
    "[2002:a00:1::1]",  # 6to4 of 10.0.0.1
    "[2001:0:a00:1::f7f7:f7f7]",  # Teredo of 8.8.8.8 by way of 10.0.0.1
    "[2001:0:808:808::f5ff:fffe]",  # Teredo of 10.0.0.1 by way of 8.8.8.8
]
PUBLIC = ["93.184.215.14", "8.8.8.8", "[2606:4700::1111]"]


def address_of(url: str, *, allow_private: bool) -> tuple[str, str, int]:
    found, host, port = permitted_addresses(EndpointSpec("shop", "prod", url, allow_private, 1_000))
    return found[0], host, port


@pytest.mark.parametrize("host", NEVER)
def test_some_addresses_are_never_called(host: str) -> None:
    for allow_private in (False, True):
        with pytest.raises(NotPermitted):
            address_of(f"http://{host}", allow_private=allow_private)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_called_only_where_the_endpoint_says_so(host: str) -> None:
    with pytest.raises(NotPermitted):
        address_of(f"http://{host}", allow_private=False)
    assert address_of(f"http://{host}:81", allow_private=True)[2] == 81


@pytest.mark.parametrize("host", TUNNELLED)
def test_a_tunnel_to_a_private_address_is_refused(host: str) -> None:
    with pytest.raises(NotPermitted):
        address_of(f"http://{host}", allow_private=False)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_are_called(host: str) -> None:
    plain = host.strip("[]")
    for allow_private in (False, True):
        assert address_of(f"https://{host}", allow_private=allow_private) == (plain, plain, 443)
        assert address_of(f"http://{host}/x", allow_private=allow_private) == (plain, plain, 80)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "93.184.215.14",
        "//93.184.215.14",
        "http://",
        "http:///path",
        "ftp://93.184.215.14",
        "file:///etc/passwd",
        "gopher://93.184.215.14",
        "unix:///var/run/docker.sock",
        "javascript:alert(1)",
        "http://olga:secret@93.184.215.14",
        "http://olga@93.184.215.14",
        "http://:secret@93.184.215.14",
        "http://:@93.184.215.14",
        "http://@93.184.215.14",
        "http://93.184.215.14:port",
        "http://93.184.215.14:99999",
        "http://93.184.215.14/\x00",
        "http://93.184.215.14/\r\nX: y",
    ],
)
def test_only_a_plain_http_origin_is_an_address(url: str) -> None:
    with pytest.raises(NotPermitted):
        address_of(url, allow_private=True)
