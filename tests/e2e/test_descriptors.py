"""The broker has no file descriptors left: it says so, and hangs up on nobody."""

import os
import resource

import pytest

from harness.rpc import RpcError
from harness.users import need_root
from harness.wait import wait_until


def allow(broker, more):
    """Leaves the daemon so many descriptors beyond those it has."""
    need_root("to read a non-dumpable daemon's descriptors and to limit them")
    used = max(int(fd) for fd in os.listdir(f"/proc/{broker.pid}/fd")) + 1
    hard = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (used + more, hard))


def test_clients_beyond_the_limit_wait_and_are_not_hung_up_on(broker):
    allow(broker, 9)
    clients = [broker.rpc() for _ in range(16)]
    sent = {client: client.send("whoami") for client in clients}
    served = 0
    while sent:  # who has its answer makes room for the next
        client = wait_until(lambda: next((client for client in sent if client.has_reply(sent[client])), None), what="an answer")
        assert client.result(sent.pop(client))["pid"] == os.getpid()
        client.close()
        served += 1
    assert served == 16


def test_process_that_cannot_be_watched_hears_why(broker):
    """Its connection takes the last two descriptors; the lease needs a third."""
    connection = broker.rpc()
    connection.call("whoami")
    allow(broker, 0)
    with pytest.raises(RpcError) as refusal:
        connection.call("acquire")
    assert refusal.value.code == "limit_exceeded" and refusal.value.retry_after_ms
    allow(broker, 20)
    assert connection.call("acquire")["api_key"]
    connection.close()
