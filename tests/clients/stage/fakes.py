"""Servers on the broker's socket that are none, or a bad one."""

import contextlib
import os
import socket
import threading
import time

import msgpack

from harness.users import in_child

KEY = "sk-" + "fakebrokerkey" * 3
LEASE = {"lease": "fake-lease", "profile": "service", "mode": "shared", "api_key": KEY, "base_url": "http://127.0.0.1:9/v1",
         "models": ["gpt-5"], "generation": 1, "key_hash": "00000000"}
PAUSE = 0.2  # between two bytes of one that is slow; and `late` is five of them too late


class Hangup(Exception):
    """The connection is to end."""


def reply(identity, error, result):
    """The bytes of a reply."""
    return msgpack.packb([1, identity, error, result])


def _whole(result):
    """The acquire's result is another one."""
    return lambda request: [reply(request[1], None, result if request[2] == "acquire" else {"term": 1})]


def _half(request):
    data = reply(request[1], None, LEASE)
    return [data[:len(data) // 2]]


def _truncated(request):
    yield from _half(request)
    raise Hangup


def _closes(_request):
    raise Hangup


def _bytewise(request):
    for byte in reply(request[1], None, LEASE):
        yield bytes([byte])
        time.sleep(PAUSE)


def _late(request):
    time.sleep(10 * PAUSE)
    yield reply(request[1], None, LEASE)


def _deep(request):
    return [b"\x94\x01" + msgpack.packb(request[1]) + b"\xc0" + b"\x91" * 60000]


def _long(request):
    return [reply(request[1], None, {**LEASE, "more": "x" * 70000})]


def _claims(request):
    """An array of four thousand million values."""
    return [b"\x94\x01" + msgpack.packb(request[1]) + b"\xc0\xdd\xff\xff\xff\xff"]


def _many_strangers(request):
    """Answers that nobody asked for, then notifications that nobody knows, then the answer."""
    result = LEASE if request[2] == "acquire" else {"term": 1}
    stray = b"".join(msgpack.packb([2, "weather", [{"fine": True, "n": n}]]) for n in range(500))
    return [reply(request[1] + 1000000, None, LEASE), stray, reply(request[1], None, result)]


# What is answered to a request: an iterable of bytes.
ANSWERS = {
    "silent": lambda request: [],
    "garbage": lambda request: [b"\xc1" * 64],
    "http": lambda request: [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"],
    "half": _half,
    "truncated": _truncated,
    "closes": _closes,
    "late": _late,
    "bytewise": _bytewise,
    "deep": _deep,
    "long": _long,
    "claims": _claims,
    "strangers": _many_strangers,
    "no key": _whole({name: value for name, value in LEASE.items() if name != "api_key"}),
    "key of another type": _whole({**LEASE, "api_key": 17}),
    "key not for a header": _whole({**LEASE, "api_key": KEY + "\r\nX: y"}),
    "expiry of another type": _whole({**LEASE, "expires_at_ms": "soon"}),
    "float": _whole({**LEASE, "expires_at_ms": 1.5}),
    "no result": lambda request: [reply(request[1], None, None)],
    "both": lambda request: [reply(request[1], {"code": "denied", "message": "no"}, LEASE)],
    "code of another world": lambda request: [reply(request[1], {"code": "wibble", "message": "wobble"}, None)],
    "not an array": lambda request: [msgpack.packb({"reply": request[1]})],
    "not UTF-8": _whole({**LEASE, "base_url": b"\xa5\xff\xfe\xfd\xfc\xfb"}),
}


class Fake:
    """Listens on a path until it is closed. uid: as whom; the file is ours."""

    def __init__(self, path, how, uid=None):
        self.path, self._answer, self._sockets = path, ANSWERS[how], []
        self.requests = 0
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listening.bind(path)
        if uid is None:
            self._listening.listen(64)
        else:  # the kernel remembers who called listen()
            in_child(lambda: self._listening.listen(64), lambda: os.setresuid(uid, uid, uid))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                self._sockets.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        with contextlib.suppress(OSError, Hangup, ValueError), connection:
            while data := connection.recv(65536):
                unpacker.feed(data)
                for request in unpacker:
                    self.requests += 1
                    for part in self._answer(request):
                        connection.sendall(part)

    def close(self):
        """Hangs up on all."""
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

