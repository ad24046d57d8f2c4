"""One connection to the broker, kept up by one daemon thread: requests, notifications, and coming back.

Callers send by themselves, and read if they have nothing better to do; the thread connects, reads, and looks at the
clock. Nothing of it blocks. What is under `lock` is short; the callbacks are called under it.
"""

from __future__ import annotations

import logging
import os
import random
import select
import socket
import threading
import time
from typing import Any, Callable, Protocol

from . import _find, _wire
from ._errors import Error, Garbage, Internal, LimitExceeded, Lost, NotLeader, Timeout, Unreachable, Untrusted, from_broker

log = logging.getLogger("keybroker")

_NEVER = float("inf")
_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_BACKLOG_PAUSE = 0.02
_GLANCE_MS = 20
_SERVED = 1.0  # s: what is lost more often is not connected to again at once, and the pauses grow until one has lived so long

Done = Callable[["dict[str, Any] | None", "Error | None"], None]


class Owner(Protocol):
    """Whose channel it is. Everything is called under the lock."""

    def connected(self) -> None:
        """There is a connection, on which nothing was sent yet."""

    def notified(self, method: str, params: dict[str, Any]) -> None: ...

    def due(self) -> float | None:
        """Does what is due; -> when it is next, on time.monotonic()."""

    def holds(self) -> bool:
        """Whether the connection is wanted though there is no request."""

    def closing(self) -> None:
        """The last requests may be made."""


class Request:
    """One request until it is answered. `once`: it is of one connection, and ends with that."""

    __slots__ = ("data", "deadline", "done", "once", "sent", "seconds")

    def __init__(self, data: bytes, seconds: float, done: Done, once: bool) -> None:
        self.data, self.seconds, self.done, self.once = data, seconds, done, once
        self.deadline = time.monotonic() + seconds
        self.sent = False  # ever


class Channel:
    def __init__(self, given: str | None, owner: Owner) -> None:
        self._given, self._owner = given, owner
        self.path: str | None = None  # where we connected last
        self._begin()

    def _begin(self) -> None:
        self.lock = threading.RLock()
        self._pending: dict[int, Request] = {}
        self._number = 0
        self._sock: socket.socket | None = None
        self._reader = _wire.Reader()
        self._lent = False  # a caller reads it
        self._opening: socket.socket | None = None
        self._out = b""  # what the socket did not take
        self._answered = False  # this connection, so it is a broker's
        self._refusal: LimitExceeded | None = None  # all that it said: a connection too many, if it ends now
        self._away: Error | None = None  # why the connection is to be given up
        self._retry_at, self._pause = 0.0, _PAUSE
        self._connected_at = self._lost_at = -_NEVER
        self._stirred = False  # what the thread waits for may have changed
        self._why: Error | None = None  # there is no connection, or the last ended
        self._thread: threading.Thread | None = None
        self._stop_by: float | None = None
        self.stopping = False
        self._gate = threading.RLock()  # whoever writes to the pipe has it; taken last, and for no longer than that takes
        self._wake_in, self._wake_out = -1, -1
        self._epoll: select.epoll | None = None  # callers can take the socket out of it while the thread waits

    # --- callers ---

    def start(self) -> None:
        """Sees that there is a thread; under the lock, and before what that guards is looked at: if the lock was made
        before gevent's patch_all(), its green threads all pass it, and they get to run here."""
        if self.stopping and not self._is_ours():
            raise RuntimeError("this keybroker client is closed")
        if self._thread is None:
            self._start()

    def request(self, method: str, params: dict[str, Any], seconds: float, done: Done, once: bool = False) -> None:
        """Sends a request, now or when there is a connection; `done` gets the result, or the error."""
        with self.lock:
            self.start()
            self._number = (self._number + 1) & 0xFFFFFFFF
            request = Request(_wire.encode_request(self._number, method, params), seconds, done, once)
            if not self._pending:
                self._retry_at = 0.0  # who asks need not wait out a pause
            self._pending[self._number] = request
            if self._sock is not None and self._away is None:
                self._send(self._sock, request)
            else:
                self.wake()

    def attend(self, is_done: Callable[[], bool], until: float) -> None:
        """Reads in the thread's place until `is_done`: a caller who waits anyway saves the change of threads."""
        poller = select.poll()
        with self.lock:
            sock, epoll = self._sock, self._epoll
            if sock is None or epoll is None or self._lent or self._out:
                return
            poller.register(sock, select.POLLIN)
            epoll.unregister(sock)
            self._lent = True
        try:
            while not is_done() and self._sock is sock and not self._out and time.monotonic() < until:
                # not for long: the thread may close the socket, and its number be another's, just before this
                if poller.poll(_GLANCE_MS):
                    self._read(sock, True)
        finally:
            with self.lock:
                if self._sock is sock:
                    self._lent = False
                    epoll.register(sock, self._events())

    def expire(self) -> None:
        """Ends the requests whose time is over. The thread does so, too, but sleeps while it is not told of them."""
        with self.lock:
            self._expire(time.monotonic())

    def give_up(self, why: Error | None = None) -> None:
        """This connection is no good any more: another one, at once."""
        self._away = why or Lost("the broker went away", socket=self.path)
        self.wake()

    def wake(self) -> None:
        """Has the thread look at everything again."""
        self._stirred = True
        if self._is_ours():
            return
        with self._gate:
            try:
                os.write(self._wake_out, b"\0")
            except OSError:  # full: it is awake; none: it has ended
                pass

    def stop(self) -> None:
        """Ends the thread in a moment. Takes no lock but the gate: the garbage collector may call it anywhere."""
        self.stopping = True
        self.wake()

    def join(self, seconds: float) -> None:
        """Waits for the end that stop() asked for."""
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(seconds)

    def after_fork(self) -> None:
        """In the child: the parent's connection is closed here, and the thread is not here. Takes no lock."""
        for sock in (self._sock, self._opening):
            if sock is not None:
                sock.close()
        self._gate = threading.RLock()
        self._let_go()  # the epoll is the parent's, too: not to be touched otherwise
        stopped = self.stopping
        self._begin()
        self.stopping = stopped

    def _let_go(self) -> None:
        """Gives the thread's own descriptors back. Who is about to write has the gate, or finds no number any more."""
        with self._gate:
            pipe = self._wake_in, self._wake_out
            self._wake_in = self._wake_out = -1
        for fd in pipe:
            if fd >= 0:
                os.close(fd)
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    # --- the thread ---

    def _start(self) -> None:
        try:
            self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            if hasattr(select, "epoll"):  # gevent's monkey.patch_all() takes it away
                self._epoll = select.epoll()
                self._epoll.register(self._wake_in, select.EPOLLIN)
            self._thread = threading.Thread(target=self._run, name="keybroker", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError) as error:  # no descriptors, no threads: perhaps at the next call
            self._thread = None
            self._let_go()
            raise Internal(f"the client cannot start: {error}", advice="Raise the limits of the process.") from error

    def _run(self) -> None:
        end: Error = Lost("the client was closed", socket=self.path, advice="Make a new one.")
        try:
            while self._turn():
                pass
        except Exception as error:  # ours: nobody is to wait for it, and the next request begins anew
            log.exception("keybroker's thread has failed")
            end = Internal(f"the client has failed: {type(error).__name__}", advice="Its log says more.")
        with self.lock:
            if not self._is_ours():
                return
            self._disconnect()
            for request in self._take(lambda request: True):
                request.done(None, end)
            self._let_go()
            if not self.stopping:
                self._thread = None

    def _is_ours(self) -> bool:
        """Not so in a child of a process with green threads: the parent's are there, too."""
        return self._thread is threading.current_thread()

    def _turn(self) -> bool:
        with self.lock:
            if not self._is_ours():
                return False
            self._stirred = False
            now = time.monotonic()
            if self.stopping and self._is_over(now):
                return False
            if self._away is not None:
                self._lose(self._away)
            self._expire(now)
            due = self._next()
            sock = self._sock
            if sock is not None and self._epoll is not None and not self._lent:
                self._epoll.modify(sock, self._events())
            wanted = sock is None and bool(self._pending or self._owner.holds())
        if wanted and now >= self._retry_at:
            self._connect()
            return True
        self._serve(sock, min(due, self._retry_at) if wanted else due)
        return True

    def _events(self) -> int:
        return select.POLLIN | (select.POLLOUT if self._out else 0)  # the numbers are epoll's, too

    def _serve(self, sock: socket.socket | None, due: float) -> None:
        """Reads and writes until something is due, or to be thought about."""
        while not self._stirred:
            # it waits in whole milliseconds: one more, or it would turn idly for the last one
            ready = self._wait(sock, None if due == _NEVER else min(max(0.0, due - time.monotonic()), 1e6) + 0.001)
            if not self._is_ours():
                return
            for fd, events in ready:
                if fd == self._wake_in:
                    self._drain()
                    return
                if sock is None:
                    continue
                if events & select.POLLOUT:
                    with self.lock:
                        self._flush(sock)
                    return
                self._read(sock, False)
            if not ready:
                return

    def _wait(self, sock: socket.socket | None, seconds: float | None) -> list[tuple[int, int]]:
        if self._epoll is not None:
            return self._epoll.poll(seconds)
        poller = select.poll()
        poller.register(self._wake_in, select.POLLIN)
        if sock is not None:
            poller.register(sock, self._events())
        return poller.poll(None if seconds is None else seconds * 1000)

    def _is_over(self, now: float) -> bool:
        if self._stop_by is None:
            self._stop_by = now + 1.0
            if self._sock is not None:
                self._owner.closing()
        return self._sock is None or not self._pending or now >= self._stop_by

    def _next(self) -> float:
        """When there is something to do though nothing comes."""
        due = self._owner.due()
        times = [request.deadline for request in self._pending.values()]
        times += [moment for moment in (due, self._stop_by) if moment is not None]
        return min(times, default=_NEVER)

    def _drain(self) -> None:
        try:
            os.read(self._wake_in, 4096)
        except BlockingIOError:
            pass

    def _make(self) -> socket.socket:
        self._opening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._opening.setblocking(False)  # SOCK_NONBLOCK says nothing to gevent's
        return self._opening

    def _connect(self) -> None:
        try:
            # who has met a broker stays with it: another's keys are for another base URL than the one that is in use
            sock, path = _find.connect([self.path] if self.path else _find.paths(self._given), self._make)
        except BlockingIOError:  # its backlog is full
            self._retry_at = time.monotonic() + _BACKLOG_PAUSE
            return
        except (Unreachable, Untrusted) as error:
            self._failed(error)
            return
        with self.lock:
            if self._epoll is not None:
                self._epoll.register(sock, select.EPOLLIN)
            self._connected_at = time.monotonic()
            self._sock, self._opening, self.path, self._lent = sock, None, path, False
            self._reader = _wire.Reader()
            self._out, self._answered, self._refusal, self._away = b"", False, None, None
            waiting = list(self._pending.values())
            self._owner.connected()
            for request in waiting:
                self._send(sock, request)

    def _failed(self, error: Error) -> None:
        """No connection. Who could only have hoped for one hears so at once; the others wait for it to come back."""
        with self.lock:
            if self._why is None and self._owner.holds():
                log.info("the broker is away: %s", error)
            self._why = error
            self._back_off()
            if isinstance(error, Untrusted):
                hopeless = self._take(lambda request: True)
            else:
                hopeless = self._take(lambda request: not request.sent and not self._owner.holds())
            for request in hopeless:
                request.done(None, error)

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _send(self, sock: socket.socket, request: Request) -> None:
        request.sent = True
        empty = not self._out
        self._out += request.data
        if empty:
            self._flush(sock)
            if self._out:
                self.wake()

    def _flush(self, sock: socket.socket) -> None:
        try:
            self._out = self._out[sock.send(self._out, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            self._out = b""  # the thread will see the end, and perhaps the broker's last words before it

    def _read(self, sock: socket.socket, lent: bool) -> None:
        with self.lock:
            # the thread may have heard of data just before a caller took its place, who waits for them now
            if self._sock is not sock or self._lent != lent:
                return
            try:
                data = sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose(Lost("the broker closed the connection", socket=self.path))
                return
            try:
                for message in self._reader.feed(data):
                    self._take_message(message)
            except _wire.Malformed as error:
                self._lose(Garbage(f"{self.path}: what came is no message of a broker ({error})", socket=self.path))

    def _take_message(self, message: list[Any]) -> None:
        if message[0] == 2:
            params = message[2][0] if message[2] else None
            self._owner.notified(message[1], params or {})
            return
        if message[0] != 1 or (message[2] is None) == (message[3] is None):
            raise _wire.Malformed("no reply")
        _, number, error, result = message
        if number not in self._pending:
            return
        failure = None if error is None else from_broker(error, self.path)
        self._refusal = failure if isinstance(failure, LimitExceeded) and not self._answered else None
        self._answered, self._why = True, None
        if isinstance(failure, NotLeader):
            self.give_up(failure)  # and the request is sent once more
            return
        self._pending.pop(number).done(result, failure)
        if self.stopping:
            self.wake()

    def _lose(self, why: Error) -> None:
        """The connection has ended, or is not worth keeping. What was under way is sent again on the next one."""
        now, before = time.monotonic(), self._lost_at
        if self._refusal is not None and now - self._connected_at < _SERVED:
            why = self._refusal
        self._retry_at, self._lost_at = now, now
        if self._answered and now - self._connected_at >= _SERVED:
            self._pause = _PAUSE
        if not self._answered or now - before < _SERVED:
            self._back_off()
        self._retry_at = max(self._retry_at, now + (why.retry_after_ms or 0) / 1000)
        self._disconnect()
        self.wake()
        self._why = why
        over = self._take(lambda request: request.once)
        if isinstance(why, (Garbage, LimitExceeded)):
            over += self._take(lambda request: True)
        for request in over:
            request.done(None, why)

    def _disconnect(self) -> None:
        self._away = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _expire(self, now: float) -> None:
        for request in self._take(lambda request: request.deadline <= now):
            late = self._why or self.timeout(request.seconds)
            if self._sock is not None:
                self.give_up(late)
            request.done(None, late)

    def timeout(self, seconds: float) -> Timeout:
        place = self.path or _find.paths(self._given)[0]
        return Timeout(f"{place}: no answer within {seconds:g} s", socket=place)

    def _take(self, which: Callable[[Request], bool]) -> list[Request]:
        numbers = [number for number, request in self._pending.items() if which(request)]
        return [self._pending.pop(number) for number in numbers]
