"""Where the socket is looked for, and who may serve it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import socket
from typing import Iterator

import pytest

import keybroker
from fake import Broker, wait_until
from keybroker import _find


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    assert _find.paths(None) == ["/r/keybroker/keybroker.sock", "/run/keybroker/keybroker.sock"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    mine = f"/run/user/{os.geteuid()}/keybroker/keybroker.sock"
    assert _find.paths(None) == [mine, "/s/keybroker/keybroker.sock", "/run/keybroker/keybroker.sock"]
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert _find.paths(None)[1] == "/h/.local/state/keybroker/keybroker.sock"
    monkeypatch.delenv("HOME")
    assert _find.paths(None) == [mine, "/run/keybroker/keybroker.sock"]
    monkeypatch.setenv("KEYBROKER_SOCKET", "unix:///e")
    assert _find.paths(None) == ["/e"]
    assert _find.paths("/given") == ["/given"] and _find.paths("unix:///given") == ["/given"]


def test_the_first_that_accepts(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    monkeypatch.setattr(_find, "paths", lambda given: ["/nonexistent", broker.path])
    with keybroker.Client() as client:
        assert client.credential().lease == "lease-1"
        assert broker.path in repr(client)


def test_who_has_met_a_broker_stays_with_its_socket(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, tmp_path: pathlib.Path
) -> None:
    """Another's key is for another LiteLLM, and an SDK has the base URL of this one."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = Broker(folder)
    monkeypatch.setattr(_find, "paths", lambda given: [broker.path, other.path])
    with keybroker.Client(timeout=0.5) as client:
        client.credential()
        broker.stop()
        with pytest.raises(keybroker.Unreachable) as caught:
            client.credential("batch")
        assert other.path not in str(caught.value) and broker.path in str(caught.value)
        wait_until(lambda: client._keyring.channel._pause > 0.2)
        broker.start()
        wait_until(lambda: broker.connections == 2)
        assert client.credential("batch").lease == "lease-2"
    assert other.connections == 0


def test_who_runs_as_another_ignores_the_environment(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    for name in ("KEYBROKER_SOCKET", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "/mine")
    monkeypatch.setenv("KEYBROKER_SERVER_UID", "4711")
    mine, ours = os.geteuid(), "/run/keybroker/keybroker.sock"
    for name in ("getuid", "getgid"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda: 4712)
            assert _find.paths(None) == [f"/run/user/{mine}/keybroker/keybroker.sock", ours]
            assert not _find._trusted(4711)
            with pytest.raises(keybroker.Unreachable):
                keybroker.Client("/nonexistent/socket").credential()
    assert _find._trusted(4711)
    assert _find.paths(None) == ["/mine"]


def test_each_that_was_tried_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    dead = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(dead)
    monkeypatch.setattr(_find, "paths", lambda given: ["/nonexistent", dead])
    with pytest.raises(keybroker.Unreachable) as caught:
        keybroker.Client().credential()
    assert f"/nonexistent: No such file or directory, {dead}: Connection refused" in caught.value.message


@pytest.mark.parametrize("kind", ["file", "directory", "datagram socket", "path that is too long", "path with NUL"])
def test_what_is_no_socket_of_a_broker(tmp_path: pathlib.Path, kind: str) -> None:
    path = str(tmp_path / "it")
    if kind == "file":
        pathlib.Path(path).write_text("not a socket")
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "datagram socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.bind(path)
            with pytest.raises(keybroker.Unreachable):
                keybroker.Client(path).credential()
        return
    elif kind == "path that is too long":
        path += "x" * 200
    else:
        path += "\0"
    with pytest.raises(keybroker.Unreachable) as caught:
        keybroker.Client(path).credential()
    assert path in caught.value.message


def test_a_socket_that_is_closed_to_us_is_no_reason_to_fall_back(
    monkeypatch: pytest.MonkeyPatch, broker: Broker
) -> None:
    """connect() is told to refuse, since root may open everything."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)

    class Closed(socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    os.chmod(broker.path, 0o600)
    client = keybroker.Client(broker.path)
    monkeypatch.setattr(client._keyring.channel, "_make", lambda: Closed(socket.AF_UNIX))
    with pytest.raises(keybroker.Unreachable, match="Permission denied") as caught:
        client.credential()
    assert "its owner's alone" in caught.value.advice
    monkeypatch.undo()
    assert client.credential().mode == "shared"


def test_no_descriptor_left_is_an_error(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    client = keybroker.Client(broker.path)

    def make() -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(client._keyring.channel, "_make", make)
        with pytest.raises(keybroker.Unreachable, match="Too many open files"):
            client.credential()
    assert client.credential().lease == "lease-1"
    client.close()


@contextlib.contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """So many can be opened meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", range(4))
def test_too_few_descriptors_are_no_missing_broker(monkeypatch: pytest.MonkeyPatch, broker: Broker, left: int) -> None:
    """An epoll, a pipe and the socket: whichever cannot be had, the next call begins anew."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    client = keybroker.Client(broker.path)
    with few_descriptors(left):
        with pytest.raises(keybroker.Error, match="Too many open files"):
            client.credential()
    assert client.credential().lease == "lease-1"
    client.close()


@pytest.mark.parametrize("word, forbids", [("1", True), ("true", True), ("0", False), ("", False)])
def test_a_broker_may_be_required(monkeypatch: pytest.MonkeyPatch, broker: Broker, word: str, forbids: bool) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    monkeypatch.setenv("KEYBROKER_REQUIRED", word)
    broker.stop()
    with keybroker.Client(broker.path) as client:
        if not forbids:
            assert client.credential("batch").profile == "batch"
            return
        with pytest.raises(keybroker.Unreachable):
            client.credential()


def test_a_server_of_another_user(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    mine = os.geteuid()
    monkeypatch.setattr(_find, "_trusted", lambda uid: uid != mine)
    with pytest.raises(keybroker.Untrusted, match=f"served by uid {mine}") as caught:
        keybroker.Client(broker.path).credential()
    assert "KEYBROKER_SERVER_UID" in caught.value.advice
    assert broker.requests == []


@pytest.mark.parametrize("mode,trusted", [(0o777, False), (0o770, False), (0o755, True), (0o1777, True)])
def test_a_directory_that_others_may_write_to(broker: Broker, mode: int, trusted: bool) -> None:
    os.chmod(os.path.dirname(broker.path), mode)
    with keybroker.Client(broker.path) as client:
        if trusted:
            client.credential()
            return
        with pytest.raises(keybroker.Untrusted, match=f"mode {mode:o}"):
            client.credential()
    assert broker.requests == []


def test_who_may_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 1234)
    monkeypatch.setattr(_find, "_USER", "nobody")
    assert [uid for uid in (0, 1234, 65534, 4711) if _find._trusted(uid)] == [0, 1234, 65534]
    monkeypatch.setenv("KEYBROKER_SERVER_UID", "4711")
    assert [uid for uid in (0, 1234, 65534, 4711) if _find._trusted(uid)] == [0, 1234, 4711]
    monkeypatch.setenv("KEYBROKER_SERVER_UID", "-1")
    assert [uid for uid in (0, 1234, 65534, 4711) if _find._trusted(uid)] == [0, 1234]
    monkeypatch.delenv("KEYBROKER_SERVER_UID")
    monkeypatch.setattr(_find, "_USER", "no such user")
    assert [uid for uid in (0, 1234, 65534, 4711) if _find._trusted(uid)] == [0, 1234]
