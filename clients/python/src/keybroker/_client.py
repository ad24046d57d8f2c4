"""The client for programs with threads, and what both clients stand on."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType

from ._credential import Credential
from ._errors import Error
from ._keyring import Keyring

_keyrings: weakref.WeakSet[Keyring] = weakref.WeakSet()
_default: Client | None = None
_default_lock = threading.Lock()


def _after_fork() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    for keyring in list(_keyrings):
        keyring.after_fork()


def _at_exit() -> None:
    for keyring in list(_keyrings):
        keyring.channel.stop()
    until = time.monotonic() + 1.0
    for keyring in list(_keyrings):
        keyring.channel.join(max(0.0, until - time.monotonic()))


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


class ApiKey:
    """Call it for the key as it is now. It comes from memory, but for the first time."""

    __slots__ = ("_cell", "_client", "_profile")

    def __init__(self, client: Client, profile: str) -> None:
        self._client, self._profile, self._cell = client, profile, client._keyring.cell(profile)

    def __call__(self) -> str:
        until, key = self._cell.fresh
        if time.time() < until:
            return key
        return self._client.credential(self._profile).api_key

    def __repr__(self) -> str:
        return f"<keybroker.api_key {self._profile!r}>"


class Client:
    """A connection to the broker and the credentials that came by it. Threads may share it; a forked child has its own
    connection and leases in the same object.

    socket: of the broker, else it is found as the command `keybroker` finds it. timeout: seconds that nothing here exceeds.
    ack_after: seconds for which an older key may still be on its way to LiteLLM after a newer one has come.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None, *, timeout: float = 30.0, ack_after: float = 30.0):
        self._keyring = Keyring(None if socket is None else os.fspath(socket), timeout, ack_after)
        _keyrings.add(self._keyring)
        weakref.finalize(self, self._keyring.channel.stop).atexit = False

    def api_key(self, profile: str = "service") -> ApiKey:
        """What `OpenAI(api_key=…)` takes: a callable that returns the key. Does not connect yet."""
        return ApiKey(self, profile)

    def base_url(self, profile: str = "service") -> str:
        """Of the OpenAI-compatible API that the profile's key is for."""
        return self.credential(profile).base_url

    def credential(self, profile: str = "service") -> Credential:
        """The key and what belongs to it, from memory but for the first time. Raises keybroker.Error."""
        return self._wait(self._keyring.ask(profile))

    def report(self, profile: str, api_key: str, status: int = 401) -> Credential:
        """LiteLLM has refused this key: has the broker look into it. -> what to use from now on, maybe the same."""
        return self._wait(self._keyring.report(profile, api_key, status))

    def _wait(self, answer: Credential | Future[Credential]) -> Credential:
        if isinstance(answer, Credential):
            return answer
        timeout = self._keyring.timeout
        until = time.monotonic() + timeout
        self._keyring.channel.attend(answer.done, until)
        for _ in range(2):
            try:
                return answer.result(max(0.0, until - time.monotonic()))
            except Error as error:
                # one that is raised in many places at once would gather all their tracebacks
                raise error.again() from None
            except FutureTimeout:
                self._keyring.channel.expire()
        answer.cancel()
        raise self._keyring.channel.timeout(timeout)

    def close(self) -> None:
        """Gives the leases back. Waits a second at most."""
        self._keyring.channel.stop()
        self._keyring.channel.join(1.0)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        credentials = [str(cell.current) for cell in self._keyring.cells.values() if cell.current is not None]
        return f"<keybroker.Client {self._keyring.channel.path or 'not connected'} {credentials}>"


def default() -> Client:
    """The client behind the functions of the module: one for the process, made at the first use."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = Client()
    return _default


def api_key(profile: str = "service") -> ApiKey:
    """For `OpenAI(api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"))`."""
    return default().api_key(profile)


def base_url(profile: str = "service") -> str:
    """Of the OpenAI-compatible API that the profile's key is for."""
    return default().base_url(profile)


def credential(profile: str = "service") -> Credential:
    """The key and what belongs to it."""
    return default().credential(profile)
