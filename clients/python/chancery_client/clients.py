"""The two clients: one that waits, one that is awaited. They drive the same flows."""

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import httpx

from chancery_client import flows
from chancery_client.flows import Flow, Options, Pause, Send
from chancery_client.keys import Identity, KeyFolder
from chancery_client.tokens import TokenAuth

P = ParamSpec("P")
R = TypeVar("R")
# Longer than the portal's own longest wait.
TIMEOUT_SECONDS = 60


class _Base:
    """The portal's address, and the agent's identity there."""

    def __init__(
        self,
        url: str,
        identity: str | Path,
        *,
        scope: str = "",
        dpop: bool = False,
        person_code: str = "",
        approval_timeout: float = 600,
    ) -> None:
        """`identity`: a folder for the key. `scope` narrows what the tokens are good for.
        `dpop` binds them to the key. `person_code`: what a person has given, so that the agent
        acts for them. `approval_timeout`: how long a call waits for people, in seconds.
        """
        self.url = flows.checked_url(url)
        self._folder = KeyFolder(identity)
        self._token_terms: dict[str, Any] = {
            "scope": scope,
            "dpop": dpop,
            "person_code": person_code,
        }
        self._auth: TokenAuth | None = None
        self._read_at = 0
        self.approval_timeout = approval_timeout

    @property
    def client_id(self) -> str:
        """Raises NotEnrolled."""
        return self._folder.read().client_id

    @property
    def is_enrolled(self) -> bool:
        return self._folder.path.exists()

    @property
    def token(self) -> str:
        """The access token of the last request, for systems that are called directly."""
        return self._signing().token

    def _taken(self, identity: Identity) -> str:
        self._folder.write(identity)
        self._auth = None
        return identity.client_id

    def _signing(self) -> TokenAuth:
        # Another process may have followed the key with a new one.
        changed_at = self._folder.changed_at
        if self._auth is None or changed_at != self._read_at:
            identity, self._read_at = self._folder.read(), changed_at
            self._auth = TokenAuth(self.url, identity, **self._token_terms)
        return self._auth

    def _request(self, http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
        headers = {"Idempotency-Key": send.key} if send.key else {}
        return http.build_request(
            send.method, self.url + send.path, json=send.body, headers=headers
        )


def _opening(purpose: str, initiator: str, initiator_kind: str, **more: Any) -> dict[str, Any]:
    body = {"purpose": purpose, "initiator": initiator, "initiator_kind": initiator_kind, **more}
    return {name: value for name, value in body.items() if value is not None}


class Chancery(_Base):
    """An agent's runtime, for code that waits. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        identity: str | Path,
        *,
        transport: httpx.BaseTransport | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, identity, **options)
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, transport=transport)

    def enrol(self, code: str) -> str:
        """Make a key and hand over its public part against the code; the client id."""
        return self._taken(self.driven(flows.enrol(self.url, code)))

    def replace_key(self) -> None:
        """Follow the key with a new one. The old one is accepted for a day longer."""
        identity, key = self._folder.read(), self._folder.following()
        self._taken(self.driven(flows.replace_key(identity, key)))

    def tools(self) -> list[dict[str, Any]]:
        """The tools that this agent may call, and how a call would be decided."""
        return list(self.driven(flows.tools()))

    def run(
        self,
        purpose: str,
        *,
        initiator: str,
        initiator_kind: str = "user",
        **more: Any,
    ) -> "Run":
        """Open a run: one piece of work, for somebody. Use it in a `with` block to close it."""
        body = _opening(purpose, initiator, initiator_kind, **more)
        return Run(self, self.driven(flows.open_run(body)))

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """A request of your own, signed in: for what this package does not cover."""
        return self._http.request(method, self.url + path, auth=self._signing(), **given)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def driven(self, flow: Flow) -> Any:
        """Send what a flow says, and give it the answers; what it comes to."""
        answer: httpx.Response | None = None
        try:
            while True:
                step = flow.send(answer)
                answer = self._step(step)
        except StopIteration as over:
            return over.value

    def _step(self, step: flows.Step) -> httpx.Response | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            auth = self._signing() if step.signed else None
            return self._http.send(self._request(self._http, step), auth=auth)
        except httpx.TransportError:
            return None


class Run:
    """One piece of work. Every tool call belongs to one."""

    def __init__(self, agent: Chancery, run_id: str) -> None:
        self._agent = agent
        self.id = run_id

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """The tool's result. Raises what the portal decided instead (`chancery_client.errors`)."""
        return self.propose(tool, arguments)

    def propose(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        key: str = "",
        claims: Mapping[str, Any] | None = None,
        approval_timeout: float | None = None,
    ) -> Any:
        """Like `call`, with a key of one's own, with claims, and how long to wait for people."""
        options = _options(self._agent, claims, approval_timeout)
        return self._agent.driven(flows.call(self.id, tool, arguments, options, key))

    def wait_for(self, action: Mapping[str, Any], *, seconds: float | None = None) -> Any:
        """The result of an action for which people had been asked."""
        patience = self._agent.approval_timeout if seconds is None else seconds
        return self._agent.driven(flows.wait_for(action, patience))

    def elevate(self, tools: Sequence[str], *, minutes: int, reason: str) -> bool | None:
        """Ask people for tools in this run; whether they gave them, None without an answer."""
        patience = self._agent.approval_timeout
        found: bool | None = self._agent.driven(
            flows.elevate(self.id, tools, minutes, reason, patience)
        )
        return found

    def governed(self, tool: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a typed function a call of the tool: its parameters are the arguments, and its
        body is not run.
        """

        def made(function: Callable[P, R]) -> Callable[P, R]:
            signature = inspect.signature(function)

            @functools.wraps(function)
            def calling(*args: P.args, **kwargs: P.kwargs) -> R:
                result: R = self.propose(tool, _bound(signature, *args, **kwargs))
                return result

            return calling

        return made

    def close(self, outcome: str = "done") -> None:
        self._agent.driven(flows.close_run(self.id, outcome))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close("done" if error is None else f"ended by {type(error).__name__}")


class AsyncChancery(_Base):
    """An agent's runtime for `async` code. Safe to share between tasks."""

    def __init__(
        self,
        url: str,
        identity: str | Path,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, identity, **options)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, transport=transport)

    async def enrol(self, code: str) -> str:
        """Make a key and hand over its public part against the code; the client id."""
        return self._taken(await self.driven(flows.enrol(self.url, code)))

    async def replace_key(self) -> None:
        """Follow the key with a new one. The old one is accepted for a day longer."""
        identity, key = self._folder.read(), self._folder.following()
        self._taken(await self.driven(flows.replace_key(identity, key)))

    async def tools(self) -> list[dict[str, Any]]:
        """The tools that this agent may call, and how a call would be decided."""
        return list(await self.driven(flows.tools()))

    async def run(
        self,
        purpose: str,
        *,
        initiator: str,
        initiator_kind: str = "user",
        **more: Any,
    ) -> "AsyncRun":
        """Open a run: one piece of work, for somebody. `async with await agent.run(...)`."""
        body = _opening(purpose, initiator, initiator_kind, **more)
        return AsyncRun(self, await self.driven(flows.open_run(body)))

    async def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """A request of your own, signed in: for what this package does not cover."""
        return await self._http.request(method, self.url + path, auth=self._signing(), **given)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def driven(self, flow: Flow) -> Any:
        """Send what a flow says, and give it the answers; what it comes to."""
        answer: httpx.Response | None = None
        try:
            while True:
                step = flow.send(answer)
                answer = await self._step(step)
        except StopIteration as over:
            return over.value

    async def _step(self, step: flows.Step) -> httpx.Response | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            auth = self._signing() if step.signed else None
            return await self._http.send(self._request(self._http, step), auth=auth)
        except httpx.TransportError:
            return None


class AsyncRun:
    """One piece of work. Every tool call belongs to one."""

    def __init__(self, agent: AsyncChancery, run_id: str) -> None:
        self._agent = agent
        self.id = run_id

    async def call(self, tool: str, /, **arguments: Any) -> Any:
        """The tool's result. Raises what the portal decided instead (`chancery_client.errors`)."""
        return await self.propose(tool, arguments)

    async def propose(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        key: str = "",
        claims: Mapping[str, Any] | None = None,
        approval_timeout: float | None = None,
    ) -> Any:
        """Like `call`, with a key of one's own, with claims, and how long to wait for people."""
        options = _options(self._agent, claims, approval_timeout)
        return await self._agent.driven(flows.call(self.id, tool, arguments, options, key))

    async def wait_for(self, action: Mapping[str, Any], *, seconds: float | None = None) -> Any:
        """The result of an action for which people had been asked."""
        patience = self._agent.approval_timeout if seconds is None else seconds
        return await self._agent.driven(flows.wait_for(action, patience))

    async def elevate(self, tools: Sequence[str], *, minutes: int, reason: str) -> bool | None:
        """Ask people for tools in this run; whether they gave them, None without an answer."""
        patience = self._agent.approval_timeout
        found: bool | None = await self._agent.driven(
            flows.elevate(self.id, tools, minutes, reason, patience)
        )
        return found

    def governed(
        self, tool: str
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """Make a typed coroutine function a call of the tool; its body is not run."""

        def made(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            signature = inspect.signature(function)

            @functools.wraps(function)
            async def calling(*args: P.args, **kwargs: P.kwargs) -> R:
                result: R = await self.propose(tool, _bound(signature, *args, **kwargs))
                return result

            return calling

        return made

    async def close(self, outcome: str = "done") -> None:
        await self._agent.driven(flows.close_run(self.id, outcome))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: object,
        error: BaseException | None,
        traceback: object,
    ) -> None:
        await self.close("done" if error is None else f"ended by {type(error).__name__}")


def _options(
    agent: _Base, claims: Mapping[str, Any] | None, approval_timeout: float | None
) -> Options:
    patience = agent.approval_timeout if approval_timeout is None else approval_timeout
    return Options(patience, claims)


def _bound(signature: inspect.Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if value is not None}
