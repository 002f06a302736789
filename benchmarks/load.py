"""A small load generator: keep-alive connections that post actions one after the other."""

import asyncio
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

TOOL = "airline.think"


@dataclass(frozen=True)
class Target:
    """Where to send, as whom, and one run per connection."""

    url: str
    token: str
    runs: list[str]


@dataclass(frozen=True)
class Measured:
    """Requests per second, and the time of one in milliseconds."""

    per_second: float
    p50: float
    p99: float


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes
) -> None:
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 503 " in answer.split(b"\r\n", 1)[0] and b"retry-after" in answer.lower():
        # More connections than the process has slots for agents: as a client does, again.
        await reader.readexactly(_length(answer))
        await asyncio.sleep(0.01)
        await _post(reader, writer, head, body)
        return
    if b" 201 " not in answer.split(b"\r\n", 1)[0]:
        message = answer.decode()[:400]
        raise RuntimeError(message)
    await reader.readexactly(_length(answer))


def _length(head: bytes) -> int:
    return int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])


async def _drive(target: Target, mode: str, seconds: float) -> Measured:
    parts = urlsplit(target.url)
    numbers = itertools.count()
    stamp = time.time_ns()
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def connection(run: str) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        asked = {"run": run, "tool": TOOL, "arguments": {"thought": "x"}, "mode": mode}
        body = json.dumps(asked).encode()
        while time.perf_counter() < end:
            head = (
                f"POST /api/v1/actions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: Bearer {target.token}\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: {stamp}-{next(numbers)}\r\n"
            ).encode()
            began = time.perf_counter()
            await _post(reader, writer, head, body)
            times.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection(run) for run in target.runs))
    took = time.perf_counter() - began
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return Measured(len(times) / took, cuts[49] * 1000, cuts[98] * 1000)


def drive(target: Target, *, mode: str, seconds: float) -> Measured:
    """One connection per run for some seconds, after a short warm-up."""
    asyncio.run(_drive(target, mode, 1.0))
    return asyncio.run(_drive(target, mode, seconds))
