"""A system on this machine that wants to see a secret, and what a test looks for afterwards."""

import base64
import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from io import StringIO
from typing import Any
from urllib.parse import quote

from django.core.management import call_command
from django.db import connection

from accounts.models import Environment
from audit.leaf_encoding import decode_disclosure
from audit.models import EventPayload
from common.actors import SYSTEM
from tests.tools.servers import Server
from tools.models import Endpoint, Secret, System
from tools.services import secrets
from tools.services.registration import define_tool, register_system, set_endpoint

CANARY = 'ca/na+ry"tok=en 4711&7%'
ANYTHING = {"type": "object", "properties": {"to": {"type": "string"}}}


def echo(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Answer with all that was sent, as it came and encoded."""
    received = server.received[-1]
    carried = [*received.headers.values(), received.path]
    said = {
        "headers": dict(received.headers),
        "path": received.path,
        "encoded": [base64.b64encode(text.encode()).decode() for text in carried],
        "hex": [text.encode().hex() for text in carried],
        "nested": json.dumps(carried),
        "quoted": [quote(text) for text in carried],
        **dict.fromkeys(carried, 1),
    }
    body = json.dumps(said).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@dataclass
class Shop:
    """An HTTP system at a server of this machine, with one tool."""

    system: System
    endpoint: Endpoint
    server: Server

    def secret(self, placement: str = "header", **given: Any) -> Secret:
        defaults = {"name": "token", "value": CANARY}
        if placement != "basic":
            defaults["parameter"] = "X-Api-Key"
        return secrets.add_secret(
            self.endpoint.pk,
            actor=SYSTEM,
            placement=Secret.Placement(placement),
            **{**defaults, **given},
        )


def shop(server: Server, environment: Environment) -> Shop:
    system = register_system("shop", actor=SYSTEM, title="Shop", kind=System.Kind.HTTP)
    endpoint = set_endpoint(
        system, environment, actor=SYSTEM, base_url=server.url, allow_private=True
    )
    define_tool(
        system,
        "order",
        actor=SYSTEM,
        title="Order",
        access="write",
        idempotent=True,
        input_schema=ANYTHING,
    )
    return Shop(system, endpoint, server)


def forms_of(secret: str) -> set[str]:
    """Six ways in which a value could have been written down."""
    raw = secret.encode()
    base = base64.b64encode(raw).decode()
    return {
        secret,
        json.dumps(secret)[1:-1],
        base[: len(raw) * 8 // 6],
        base.replace("+", "-").replace("/", "_")[: len(raw) * 8 // 6],
        quote(secret, safe=""),
        raw.hex(),
    }


def everything_stored() -> str:
    """Every column of every table, as text, what `dumpdata` writes, and the events' values in
    plain text, which are stored in base64.
    """
    dumped = StringIO()
    call_command("dumpdata", stdout=dumped)
    parts = [dumped.getvalue()]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                parts += [_shown(cell) for cell in row]
    for beside in EventPayload.objects.values_list("disclosures", flat=True):
        parts += [
            json.dumps(decode_disclosure(text), ensure_ascii=False) for text in beside.values()
        ]
    return "\n".join(parts)


def _shown(cell: Any) -> str:
    if isinstance(cell, bytes | memoryview):
        return bytes(cell).decode("latin-1") + bytes(cell).hex()
    return str(cell)
