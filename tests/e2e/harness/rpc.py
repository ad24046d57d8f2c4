"""A MessagePack-RPC client that does what it is told: pipelines, sends raw bytes, disconnects in the middle."""

import fcntl
import itertools
import socket
import struct
import termios
import time

import msgpack


class RpcError(Exception):
    """An error reply: code, text, retry_after_ms."""

    def __init__(self, error):
        super().__init__(error)
        self.code, self.text, self.retry_after_ms = error.get("code"), error.get("message"), error.get("retry_after_ms")

    def __str__(self):
        return f"{self.code}: {self.text}"


class Closed(Exception):
    """The broker closed the connection."""


class Connection:
    """One connection. on_result sees every result (to remember issued keys)."""

    def __init__(self, path, on_result=lambda result: None, timeout=30.0):
        self._on_result, self._timeout = on_result, timeout
        self._ids = itertools.count(1)
        self._replies, self.notifications = {}, []
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 24)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Hangs up."""
        self.socket.close()

    def send_raw(self, data):
        """Any bytes."""
        self.socket.sendall(data)

    def send(self, method, **params):
        """Sends a request without waiting; -> its id."""
        identity = next(self._ids)
        self.send_raw(msgpack.packb([0, identity, method, [params]]))
        return identity

    def send_with(self, fds, method, **params):
        """The same, and descriptors go with its first byte."""
        identity = next(self._ids)
        socket.send_fds(self.socket, [msgpack.packb([0, identity, method, [params]])], list(fds))
        return identity

    def call(self, method, **params):
        """Sends a request and waits for its result."""
        return self.result(self.send(method, **params))

    def result(self, identity, timeout=None):
        """The result of a request that was sent; raises RpcError, Closed, TimeoutError."""
        error, result = self.reply(identity, timeout)
        if error is not None:
            raise RpcError(error)
        return result

    def reply(self, identity, timeout=None):
        """-> (error, result) of one request, whatever comes before it."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while identity not in self._replies:
            self._receive(deadline)
        return self._replies.pop(identity)

    def has_reply(self, identity):
        """Has it come? Does not wait."""
        try:
            while identity not in self._replies:
                self._receive(time.monotonic())
        except TimeoutError:
            return False
        return True

    def unread(self):
        """How many bytes of what was sent the broker has not read."""
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]

    def wait_notifications(self, count, timeout=20.0):
        """Reads until there are so many; -> the params of all, in order."""
        deadline = time.monotonic() + timeout
        while len(self.notifications) < count:
            self._receive(deadline)
        return [params[0] for _method, params in self.notifications]

    def wait_closed(self, timeout=10.0):
        """Reads until the broker hangs up; -> the replies that came before that, by id."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._receive(deadline)
        except Closed:
            return dict(self._replies)

    def _receive(self, deadline):
        self.socket.settimeout(max(deadline - time.monotonic(), 0.000001))
        try:
            data = self.socket.recv(65536)
        except (socket.timeout, BlockingIOError):
            raise TimeoutError("no reply") from None
        except (ConnectionResetError, BrokenPipeError):
            raise Closed from None
        if not data:
            raise Closed
        self._unpacker.feed(data)
        for message in self._unpacker:
            self._take(message)

    def _take(self, message):
        if message[0] == 2:
            self.notifications.append(message[1:])
            return
        kind, identity, error, result = message
        assert kind == 1 and (error is None) != (result is None), message
        self._replies[identity] = (error, result)
        if result is not None:
            self._on_result(result)

    def peer_uid(self):
        """Who listens."""
        return struct.unpack("3i", self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
