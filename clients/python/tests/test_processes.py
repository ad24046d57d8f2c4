"""Forks, and the end of a process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import pytest

import keybroker
import keybroker.aio
from fake import Broker, Silence, key_of, wait_until

Opener = Callable[..., keybroker.Client]


def in_child(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What a forked child makes of it; a child that hangs is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(what()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    timer.cancel()
    assert os.waitpid(pid, 0)[1] == 0, "the child hung"
    return json.loads(said)


pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


def test_a_child_has_a_connection_and_a_lease_of_its_own(broker: Broker, client: keybroker.Client) -> None:
    api_key = client.api_key()
    key = api_key()
    sock = client._keyring.channel._sock
    assert sock is not None
    number = sock.fileno()

    def child() -> Any:
        closed = not os.path.exists(f"/proc/self/fd/{number}")
        return [closed, client.credential().lease, api_key() == key]

    assert in_child(child) == [True, "lease-2", True]
    assert broker.connections == 2
    assert client.credential().lease == "lease-1" and sock.fileno() == number
    broker.rotate()
    wait_until(lambda: client.credential().generation == 2)  # the parent's connection lives
    assert broker.connections == 2


def test_a_child_of_a_busy_parent_does_not_hang(broker: Broker, client: keybroker.Client) -> None:
    """Whatever is locked when it forks is locked for ever in the child."""
    client.credential()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with client._keyring.channel.lock, keybroker._client._default_lock:
            held.set()
            go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        assert in_child(lambda: [client.credential().lease, repr(keybroker.default())[:18]]) == ["lease-2", "<keybroker.Client "]
    finally:
        go.set()
        holder.join()


def test_a_child_of_a_parent_that_waits_asks_itself(broker: Broker, client: keybroker.Client) -> None:
    answer = broker._acquire

    def first_is_silent(params: dict[str, Any]) -> Any:
        if broker.count("acquire") == 1:
            raise Silence
        return answer(params)

    broker.answers["acquire"] = first_is_silent
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.credential)
        wait_until(lambda: broker.count("acquire") == 1)
        assert in_child(lambda: client.credential().lease) == "lease-1"
        broker.hang_up()
        assert waiting.result().lease == "lease-2"


def test_a_child_keeps_to_what_was_decided(monkeypatch: pytest.MonkeyPatch, broker: Broker, open_client: Opener) -> None:
    """A base URL of that decision is in use already."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    inside = open_client()
    inside.credential()
    broker.stop()
    outside = open_client()
    assert outside.credential().mode == "environment"

    def child() -> Any:
        try:
            return inside.credential().mode
        except keybroker.Unreachable:
            broker.start()
            return [inside.credential().mode, outside.credential().mode]

    assert in_child(child) == ["shared", "environment"]


def _of_a_worker(_: int) -> tuple[int, str | None]:
    time.sleep(0.05)
    return os.getpid(), keybroker.credential().lease


def test_workers_of_multiprocessing(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    monkeypatch.setenv("KEYBROKER_SOCKET", broker.path)
    lease = keybroker.credential().lease
    with multiprocessing.get_context("fork").Pool(3) as pool:
        leases = dict(pool.map(_of_a_worker, range(12), chunksize=1))
    assert len(set(leases.values())) == len(leases) and lease not in leases.values()
    assert broker.connections == 1 + len(leases)
    keybroker.default().close()


def run(script: str, broker: Broker, **env: str) -> float:
    """-> how long it took."""
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "KEYBROKER_SOCKET": broker.path, **env}, timeout=20, check=True
    )
    return time.monotonic() - begin


def test_a_program_that_ends_releases(broker: Broker) -> None:
    run("import keybroker; keybroker.credential('service'); keybroker.credential('batch')", broker)
    assert broker.count("release") == 2


@pytest.mark.parametrize("what", ["release", "acquire"])
def test_a_program_ends_though_the_broker_is_silent(broker: Broker, what: str) -> None:
    def silent(params: dict[str, Any]) -> Any:
        raise Silence

    broker.answers[what] = silent
    if what == "release":
        seconds = run("import keybroker; keybroker.credential()", broker)
    else:
        seconds = run(
            "import keybroker, threading, time\n"
            "threading.Thread(target=keybroker.credential, daemon=True).start(); time.sleep(0.3)",
            broker,
        )
    assert seconds < 10


def test_a_loop_ends_though_the_broker_is_silent(broker: Broker) -> None:
    def silent(params: dict[str, Any]) -> Any:
        raise Silence

    broker.answers["acquire"] = silent
    script = (
        "import asyncio, keybroker.aio\n"
        "async def main():\n"
        "    task = asyncio.ensure_future(keybroker.aio.credential())\n"
        "    await asyncio.sleep(0.2)\n"
        "asyncio.run(main())"
    )
    assert run(script, broker) < 10


WITHOUT_EPOLL = """
import select
for name in [name for name in vars(select) if "epoll" in name.lower()]:
    delattr(select, name)
"""


def test_without_epoll(broker: Broker) -> None:
    """gevent's monkey.patch_all() takes it away."""
    script = (
        WITHOUT_EPOLL + "import json, os, sys, threading, time, keybroker\n"
        "client = keybroker.Client(timeout=5)\n"
        "key = client.api_key()\n"
        "threads = [threading.Thread(target=key) for _ in range(20)]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "client.credential('batch')\n"
        "first = key()\n"
        "print(first, flush=True)\n"
        "until = time.monotonic() + 10\n"
        "while key() == first and time.monotonic() < until: time.sleep(0.01)\n"
        "print(key(), flush=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(0.1)\n"
        "    print(client.credential().lease, key(), flush=True)\n"
        "    time.sleep(0.1)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(client.credential().lease, flush=True)\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "client.close()\n"
        "print(before - len(os.listdir('/proc/self/fd')))\n"
    )
    env = {**os.environ, "KEYBROKER_SOCKET": broker.path}
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], env=env, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(30, process.kill)
        timer.start()
        assert process.stdout is not None
        assert process.stdout.readline().strip() == key_of("service", 1)
        broker.rotate()
        lines = process.stdout.read().split("\n")
        timer.cancel()
    assert lines[:3] == [key_of("service", 2), f"lease-3 {key_of('service', 2)}", "lease-1"]
    assert int(lines[3]) == 3  # a pipe and the socket
    assert broker.connections == 2
    assert [params["lease"] for params in broker.params("release")] == ["lease-1", "lease-2"]


def test_it_needs_no_http_library() -> None:
    script = "import sys, keybroker, keybroker.aio; assert not {'httpx', 'httpx2', 'openai', 'anthropic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], env=dict(os.environ), timeout=20, check=True)
