"""A process of its own that talks to the broker: a peer that can hold leases, and die."""

import os
import pickle
import signal
import struct

from .rpc import Connection


class Holder:
    """A forked child with one connection; does calls when told to.

        with Holder(broker) as peer:
            key = peer.call("acquire", profile="process")["api_key"]
            peer.kill()
    """

    def __init__(self, broker, uid=None, gid=None, groups=()):
        self.broker = broker
        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._to)
            os.close(self._from)
            _serve(broker, to_child, from_child, (uid, uid if gid is None else gid, groups))
        os.close(to_child)
        os.close(from_child)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        for fd in (self._to, self._from):
            os.close(fd)

    def call(self, method, **params):
        """One call on the child's connection, which stays open."""
        _put(self._to, (method, params))
        value, problem = _get(self._from)
        if problem is not None:
            raise problem
        self.broker.remember(value)
        return value

    def hang_up(self):
        """Closes the child's connection, if there is one; the next call makes another."""
        _put(self._to, (None, {}))
        _get(self._from)

    def kill(self, number=signal.SIGKILL):
        """Ends it, and waits for that."""
        if self.pid:
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
            self.pid = 0


def _serve(broker, commands, answers, who):
    try:
        uid, gid, groups = who
        if uid is not None:
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        connection = None
        while True:
            method, params = _get(commands)
            try:
                if method is None:
                    connection = connection.close() if connection else None
                    _put(answers, (None, None))
                    continue
                connection = connection or Connection(broker.socket)
                _put(answers, (connection.call(method, **params), None))
            except Exception as problem:  # the parent raises it
                connection = None
                _put(answers, (None, problem))
    finally:
        os._exit(0)


def _put(fd, value):
    data = pickle.dumps(value)
    os.write(fd, struct.pack("<I", len(data)) + data)


def _get(fd):
    size = struct.unpack("<I", _read(fd, 4))[0]
    return pickle.loads(_read(fd, size))


def _read(fd, count):
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
