"""Where the broker's socket is, and whether who serves it is to be trusted: PROTOCOL.md, "Finding the broker"."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
import struct
from typing import Callable

from ._errors import Unreachable, Untrusted

_USER = "keybroker"
_NOBODY = (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.ENOTSOCK)  # anything else is somebody, or our own trouble


def environ(name: str) -> str | None:
    """Of the environment, unless this is a setuid program: whoever started it has made it."""
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return None
    return os.environ.get(name) or None


def paths(given: str | None) -> list[str]:
    """The sockets to try, in order."""
    given = given or environ("KEYBROKER_SOCKET")
    if given:  # who names a socket means that one: another broker would hand out other keys
        return [given[len("unix://") :] if given.startswith("unix://") else given]
    runtime, state, home = environ("XDG_RUNTIME_DIR"), environ("XDG_STATE_HOME"), environ("HOME")
    if runtime:
        places = [runtime]
    else:
        places = [f"/run/user/{os.geteuid()}"]
        if state or home:
            places.append(state or f"{home}/.local/state")
    return [place + "/keybroker/keybroker.sock" for place in (*places, "/run")]


def _trusted(uid: int) -> bool:
    if uid in (os.geteuid(), 0):
        return True
    override = environ("KEYBROKER_SERVER_UID")
    if override:
        return override.isdecimal() and uid == int(override)
    try:
        return uid == pwd.getpwnam(_USER).pw_uid
    except KeyError:
        return False


def check(sock: socket.socket, path: str) -> None:
    """Raises Untrusted unless the socket's server and directory belong to who may serve us."""
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if not _trusted(uid):
        raise Untrusted(f"{path}: served by uid {uid}, which is neither you, root nor the user {_USER}", socket=path)
    try:
        directory = os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        raise Untrusted(f"{path}: its directory cannot be looked at: {error.strerror}", socket=path) from error
    if directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX:
        raise Untrusted(
            f"{path}: others can write to its directory (mode {stat.S_IMODE(directory.st_mode):03o}), "
            "so anybody could serve there",
            socket=path,
        )
    if not _trusted(directory.st_uid):
        raise Untrusted(
            f"{path}: its directory belongs to uid {directory.st_uid}, which is neither you, root nor the user {_USER}",
            socket=path,
        )


def _why_not(path: str, error: OSError | ValueError) -> OSError:
    """connect() says of another file that it is closed, or that nobody listens; and a path may be none."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    except (OSError, ValueError):
        pass
    return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))


def _access_advice(path: str) -> str:
    """Only a socket that is made for a group asks for its members; any other is its owner's own."""
    try:
        info = os.stat(path)
        if info.st_mode & stat.S_IWGRP and info.st_gid:
            group = grp.getgrgid(info.st_gid).gr_name
            return f"Join the group {group} (`sudo usermod -aG {group} $USER`, then log in again)."
    except (OSError, KeyError):
        pass
    return "That broker is its owner's alone: start one of your own with `keybrokerd`."


def connect(tries: list[str], make: Callable[[], socket.socket]) -> tuple[socket.socket, str]:
    """A connection to the first that accepts, by a socket that `make` made and that does not block.

    Raises Unreachable, Untrusted, or BlockingIOError: its backlog is full, try again in a moment.
    """
    refusals: list[tuple[str, OSError]] = []
    for path in tries:
        sock = None
        try:
            sock = make()
            sock.connect(path)
            check(sock, path)
            return sock, path
        except (OSError, ValueError, Untrusted) as error:
            if sock is not None:
                sock.close()
            if isinstance(error, (BlockingIOError, Untrusted)):
                raise
            refusals.append((path, _why_not(path, error)))
    tried = ", ".join(f"{path}: {why.strerror or why}" for path, why in refusals)
    failure = Unreachable(f"no broker accepts connections ({tried})", socket=tries[0])
    failure.refused = any(why.errno not in _NOBODY for _, why in refusals)
    closed = [path for path, why in refusals if why.errno in (errno.EACCES, errno.EPERM)]
    if closed:
        failure.advice = _access_advice(closed[0])
    raise failure
