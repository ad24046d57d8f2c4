"""Leases of processes in a pid namespace that the broker does not see: a new leader cannot find them by their numbers."""

import contextlib
import os
import subprocess
import time

import pytest

from harness.broker import FAST, MANY
from harness.holder import Holder
from harness.instances import Instances
from harness.rpc import RpcError
from harness.upstream import row_of, wait_gone
from harness.users import STRANGER, as_user, need_root
from harness.wait import stays, wait_until

APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
RULE = f'rule "far" {{ uid = {STRANGER} foreign_pid = yes profiles = {{ "*" }} }}\n'


@pytest.fixture
def apart(make_broker):
    """-> make(takeover_ms): a broker whose instances have pid namespaces of their own, and next(): another one leads."""
    made = []

    def make(takeover_ms):
        need_root("to make a pid namespace")
        if subprocess.run([*APART, "true"], check=False, capture_output=True).returncode:
            pytest.skip("needs unshare --pid")
        broker = make_broker(config=MANY + RULE, env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"},
                             timing={**FAST, "takeover_ms": takeover_ms})
        made.append(Instances(broker))

        def succeed():
            for old in made[-1].all:
                old.kill()
            new = made[-1].start(f"i{len(made[-1].all)}", prefix=APART)
            wait_until(lambda: "READY" in new.log, what=lambda: new.log)
            os.chmod(os.path.dirname(broker.socket), 0o755)
            os.chmod(broker.socket, 0o666)
        succeed()
        broker.wait_ready()
        return broker, succeed
    yield make
    for instances in made:
        instances.close()


@pytest.mark.parametrize("bind", ["process", "connection"])
def test_foreign_holder_takes_its_lease_up_and_keeps_it(apart, litellm, bind):
    broker, succeed = apart(3000)
    with Holder(broker, STRANGER) as peer, Holder(broker, STRANGER) as other:
        reply = peer.call("acquire", profile="process", bind=bind)
        succeed()
        for one in (peer, other):
            one.hang_up()
        with pytest.raises(RpcError) as refusal:
            other.call("acquire", lease=reply["lease"])
        assert refusal.value.code == "unknown_lease"
        assert peer.call("acquire", lease=reply["lease"])["api_key"] == reply["api_key"]
        stays(lambda: row_of(litellm, reply["api_key"]) is not None, 4)
        peer.kill()
        wait_gone(litellm, reply["api_key"], 1)


def test_foreign_holder_that_does_not_come_loses_its_lease(apart, litellm):
    broker, succeed = apart(2000)
    with Holder(broker, STRANGER) as peer:
        reply = peer.call("acquire", profile="process")
        succeed()
        began = time.monotonic()
        wait_gone(litellm, reply["api_key"], 5)
        assert time.monotonic() - began > 0.5
        wait_until(lambda: "not taken up" in broker.audit(event="release")[-1]["detail"], what="its row")
        peer.hang_up()
        with pytest.raises(RpcError) as refusal:
            peer.call("acquire", lease=reply["lease"])
        assert refusal.value.code == "unknown_lease"


def test_foreign_caller_cannot_ask_for_another(apart):
    """Its ancestors cannot be looked at."""
    broker, _ = apart(2000)

    def ask():
        fd = os.pidfd_open(os.getppid())
        with broker.rpc() as connection:
            return connection.result(connection.send_with([fd], "acquire", profile="process", for_pid=True))
    with pytest.raises(RpcError) as refusal:
        as_user(STRANGER, ask)
    assert refusal.value.code == "denied" and "pid namespace" in refusal.value.text


def test_each_foreign_process_may_watch(apart):
    """They all have the pid 0, and are no less apart from each other."""
    broker, _succeed = apart(3000)
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            assert "term" in stack.enter_context(Holder(broker, STRANGER)).call("watch")
