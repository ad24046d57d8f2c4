"""The client for asyncio: the same names, to be awaited.

It stands on the thread of `keybroker.Client`, so it is of no loop: programs with several loops, or with threads and a
loop, share one connection and one lease. A key from memory never leaves the loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import Future
from types import TracebackType

from . import _client
from ._credential import Credential
from ._errors import Error

__all__ = ["ApiKey", "AsyncClient", "api_key", "base_url", "credential", "default"]


class ApiKey:
    """Await a call of it for the key as it is now. It comes from memory, but for the first time."""

    __slots__ = ("_cell", "_client", "_profile")

    def __init__(self, client: AsyncClient, profile: str) -> None:
        self._client, self._profile, self._cell = client, profile, client._keyring.cell(profile)

    async def __call__(self) -> str:
        until, key = self._cell.fresh
        if time.time() < until:
            return key
        return (await self._client.credential(self._profile)).api_key

    def __repr__(self) -> str:
        return f"<keybroker.aio.api_key {self._profile!r}>"


class AsyncClient:
    """As keybroker.Client, for asyncio. client: has its connection and credentials from that one, and no options."""

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 30.0,
        ack_after: float = 30.0,
        client: _client.Client | None = None,
    ):
        self.client = client or _client.Client(socket, timeout=timeout, ack_after=ack_after)
        self._keyring = self.client._keyring

    def api_key(self, profile: str = "service") -> ApiKey:
        """What `AsyncOpenAI(api_key=…)` takes: an async callable that returns the key. Does not connect yet."""
        return ApiKey(self, profile)

    async def base_url(self, profile: str = "service") -> str:
        """Of the OpenAI-compatible API that the profile's key is for."""
        return (await self.credential(profile)).base_url

    async def credential(self, profile: str = "service") -> Credential:
        """The key and what belongs to it, from memory but for the first time. Raises keybroker.Error."""
        return await self._wait(self._keyring.ask(profile))

    async def report(self, profile: str, api_key: str, status: int = 401) -> Credential:
        """LiteLLM has refused this key: has the broker look into it. -> what to use from now on, maybe the same."""
        return await self._wait(self._keyring.report(profile, api_key, status))

    async def _wait(self, answer: Credential | Future[Credential]) -> Credential:
        if isinstance(answer, Credential):
            return answer
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        def tell(_: object) -> None:
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # that loop has ended meanwhile
                pass

        answer.add_done_callback(tell)
        try:
            await asyncio.wait_for(answered.wait(), self._keyring.timeout)
        except asyncio.TimeoutError:
            self._keyring.channel.expire()
        finally:
            answer.cancel()  # without effect if there is one
        if answer.cancelled():
            raise self._keyring.channel.timeout(self._keyring.timeout)
        try:
            return answer.result()
        except Error as error:
            raise error.again() from None

    async def aclose(self) -> None:
        """Gives the leases back. Waits a second at most."""
        self._keyring.channel.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._keyring.channel.join, 1.0)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return repr(self.client).replace("keybroker.Client", "keybroker.aio.AsyncClient")


def default() -> AsyncClient:
    """The client behind the functions of this module; it shares connection and leases with keybroker.default()."""
    return AsyncClient(client=_client.default())


def api_key(profile: str = "service") -> ApiKey:
    """For `AsyncOpenAI(api_key=keybroker.aio.api_key("service"), base_url=keybroker.base_url("service"))`."""
    return default().api_key(profile)


async def base_url(profile: str = "service") -> str:
    """Of the OpenAI-compatible API that the profile's key is for. At a program's start keybroker.base_url() does, too."""
    return await default().base_url(profile)


async def credential(profile: str = "service") -> Credential:
    """The key and what belongs to it."""
    return await default().credential(profile)
