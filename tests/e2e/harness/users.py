"""Doing things as somebody else: needs root."""

import contextlib
import os
import pickle

import pytest

STRANGER = 54321  # no such user anywhere


def need_root(why="to act as several uids"):
    """A named skip without it."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root, {why}")


def in_child(work, before=lambda: None):
    """Runs work() in a forked child after before() -> its value; its exceptions are raised here."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _child(work, before, write)
    os.close(write)
    with open(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    value, problem = pickle.loads(data) if data else (None, RuntimeError("the child said nothing"))
    if problem is not None:
        raise problem
    return value


def _child(work, before, write):
    value = problem = None
    try:
        before()
        value = work()
    except BaseException as caught:  # everything goes to the parent
        problem = caught
    with contextlib.suppress(BaseException):
        with open(write, "wb") as pipe:
            try:
                data = pickle.dumps((value, problem))
            except Exception:
                data = pickle.dumps((None, RuntimeError(repr(problem))))
            pipe.write(data)
    os._exit(0)


def as_user(uid, work, gid=None, groups=()):
    """Runs work() in a child of another uid, gid (by default the same number) and supplementary groups."""
    def become():
        os.setgroups(list(groups))
        os.setresgid(*[uid if gid is None else gid] * 3)
        os.setresuid(uid, uid, uid)
    return in_child(work, become)
