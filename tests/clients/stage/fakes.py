"""Servers on the broker's socket that are none, or a bad one."""

import contextlib
import os
import socket
import threading
import time

import msgpack

from harness.users import in_child

KEY = "sk-" + "Zx81qPvLw0Tn5RhY" * 2
LEASE = {"lease": "fake-lease", "profile": "service", "mode": "shared", "api_key": KEY, "models": ["gpt-5"], "generation": 1, "key_hash": "00000000"}
PAUSE = 0.2  # between two bytes of one that is slow; and `late` is five of them too late


class Hangup(Exception):
    """The connection is to end."""


class Mute(Exception):
    """Nothing more is answered on the connection."""


def reply(request, error, result):
    """The bytes of a reply."""
    return msgpack.packb([1, request[1], error, result])


def _whole(change):
    """The lease has other fields."""
    return lambda request, lease: [reply(request, None, {**lease, **change} if request[2] == "acquire" else {"term": 1})]


def _half(request, lease, then=Mute):
    data = reply(request, None, lease)
    yield data[:len(data) // 2]
    raise then


def _truncated(request, lease):
    return _half(request, lease, Hangup)


def _closes(_request, _lease):
    raise Hangup


def _bytewise(request, lease):
    for byte in reply(request, None, lease):
        yield bytes([byte])
        time.sleep(PAUSE)


def _late(request, lease):
    time.sleep(10 * PAUSE)
    yield reply(request, None, lease)


def _strangers(request, lease):
    """Answers that nobody asked for, then notifications that nobody knows, then the answer."""
    result = lease if request[2] == "acquire" else {"term": 1}
    stray = b"".join(msgpack.packb([2, "weather", [{"fine": True, "n": n}]]) for n in range(500))
    return [reply([0, request[1] + 1000000], None, lease), stray, reply(request, None, result)]


def _thinks(request, lease):
    """It takes its time to say that the key is well."""
    if request[2] == "report":
        time.sleep(5 * PAUSE)
    yield reply(request, None, {"acquire": lease, "report": {"lease": lease["lease"], "state": "alive"}}.get(request[2], {"term": 1}))


def _head(request):
    """The beginning of a reply without an error, up to the result."""
    return b"\x94\x01" + msgpack.packb(request[1]) + b"\xc0"


# What is answered to a request: an iterable of bytes.
ANSWERS = {
    "silent": lambda request, lease: [],
    "garbage": lambda request, lease: [b"\xc1" * 64],
    "http": lambda request, lease: [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"],
    "half": _half,
    "truncated": _truncated,
    "closes": _closes,
    "late": _late,
    "bytewise": _bytewise,
    "deep": lambda request, lease: [_head(request) + b"\x91" * 60000],
    "long": _whole({"more": "x" * 70000}),
    "claims": lambda request, lease: [_head(request) + b"\xdd\xff\xff\xff\xff"],
    "strangers": _strangers,
    "thinks": _thinks,
    "no key": _whole({"api_key": None}),
    "key of another type": _whole({"api_key": 17}),
    "expiry of another type": _whole({"expires_at_ms": "soon"}),
    "float": _whole({"expires_at_ms": 1.5}),
    "no result": lambda request, lease: [reply(request, None, None)],
    "both": lambda request, lease: [reply(request, {"code": "denied", "message": "no"}, lease)],
    "code of another world": lambda request, lease: [reply(request, {"code": "wibble", "message": "wobble"}, None)],
    "not an array": lambda request, lease: [msgpack.packb({"reply": request[1]})],
    "not UTF-8": _whole({"base_url": b"\xff\xfe\xfd"}),
}


class Fake:
    """Listens on a path until it is closed. uid: as whom."""

    def __init__(self, path, how, base_url, uid=None):
        self.path, self._answer, self._lease, self._sockets = path, ANSWERS[how], {**LEASE, "base_url": base_url}, []
        self.methods, self.connections = [], 0
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if uid is None:
            self._listen()
        else:  # whose the file is, and who called listen(), is remembered
            in_child(self._listen, lambda: os.setresuid(uid, uid, uid))
        threading.Thread(target=self._accept, daemon=True).start()

    def _listen(self):
        self._listening.bind(self.path)
        self._listening.listen(64)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                self.connections += 1
                self._sockets.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        with contextlib.suppress(OSError, Hangup), connection:
            while data := connection.recv(65536):
                unpacker.feed(data)
                for request in unpacker:
                    self.methods.append(request[2])
                    try:
                        for part in self._answer(request, self._lease):
                            connection.sendall(part)
                    except Mute:
                        while connection.recv(65536):
                            pass

    def close(self):
        """Hangs up on all."""
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

