"""A small broker for the tests: it answers as it is told, remembers what it was asked, and goes when it is to go."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import socket
import threading
import time
from typing import Any, Callable, Iterator

import msgpack

BASE_URL = "http://127.0.0.1:9/v1"


class Refusal(Exception):
    """The error that a request is answered with."""

    def __init__(self, code: str, message: str = "so it is", **more: Any) -> None:
        super().__init__(code)
        self.fields = {"code": code, "message": message, **more}


class Silence(Exception):
    """A request gets no answer."""


Answer = Callable[[dict[str, Any]], Any]


def key_of(lease: str, generation: int) -> str:
    return "sk-" + hashlib.sha256(f"{lease} {generation}".encode()).hexdigest()[:32]


class Broker:
    """`answers`: by method, what takes the params and returns the result, or bytes to be sent as they are."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "keybroker.sock")
        folder.chmod(0o700)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0
        self.generation = 1
        self.lifetime_ms: int | None = None
        self.refresh_ms: int | None = None
        self.leases: dict[str, str] = {}  # lease -> profile
        self.answers: dict[str, Answer] = {}
        self._made = 0
        self._by_request: dict[str, str] = {}
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.start()

    # --- its life ---

    def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(64)
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def stop(self) -> None:
        assert self._listening is not None
        os.unlink(self.path)
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()

    def hang_up(self) -> None:
        gone, self._open = self._open, []  # who comes back at once stays
        for connection in gone:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def tell(self, method: str, **params: Any) -> None:
        """A notification to all who are there still."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.sendall(msgpack.packb([2, method, [params]]))

    def rotate(self) -> None:
        self.generation += 1
        for lease, profile in self.leases.items():
            self.tell("rotated", lease=lease, profile=profile, generation=self.generation)

    # --- what it was asked ---

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.requests)

    def params(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.requests if name == method]

    # --- what it answers ---

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError as error:
                    if error.errno != errno.EMFILE:  # a test's doing
                        raise
                    time.sleep(0.01)
                    continue
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker(raw=False)
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                unpacker.feed(data)
                for _, number, method, params in unpacker:
                    self.requests.append((method, params[0] if params else {}))
                    for part in self._reply(number, method, params[0] if params else {}):
                        connection.sendall(part)

    def _reply(self, number: int, method: str, params: dict[str, Any]) -> Iterator[bytes]:
        try:
            answer = self.answers.get(method) or getattr(self, "_" + method)
            result = answer(params)
        except Silence:
            return
        except Refusal as refusal:
            yield msgpack.packb([1, number, refusal.fields, None])
            return
        if isinstance(result, dict):
            yield msgpack.packb([1, number, None, result])
        else:
            yield from result

    def _watch(self, _: dict[str, Any]) -> Any:
        return {"term": 1}

    def _acquire(self, params: dict[str, Any]) -> Any:
        lease = params.get("lease") or self._by_request.get(params["request_id"])
        if lease is None:
            self._made += 1
            lease = self._by_request[params["request_id"]] = f"lease-{self._made}"
            self.leases[lease] = params["profile"]
        elif lease not in self.leases:
            raise Refusal("unknown_lease")
        now = int(time.time() * 1000)
        return {
            "lease": lease,
            "profile": self.leases[lease],
            "mode": "shared",
            "api_key": key_of(self.leases[lease], self.generation),
            "base_url": BASE_URL,
            "generation": self.generation,
            "models": ["gpt-5"],
            "expires_at_ms": None if self.lifetime_ms is None else now + self.lifetime_ms,
            "refresh_at_ms": None if self.refresh_ms is None else now + self.refresh_ms,
        }

    def _release(self, params: dict[str, Any]) -> Any:
        del self.leases[params["lease"]]
        return {"lease": params["lease"], "released": True}

    def _ack(self, params: dict[str, Any]) -> Any:
        return params

    def _report(self, params: dict[str, Any]) -> Any:
        self.generation += 1
        return {"lease": params["lease"], "state": "dead"}


def wait_until(what: Callable[[], object], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.002)
