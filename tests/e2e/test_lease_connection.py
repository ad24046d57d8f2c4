"""Leases that last as long as their connection, and how their holders keep them over a change of leader."""

import os
import signal
import socket
import time

import pytest

from harness.broker import FAST, rule_all
from harness.holder import Holder
from harness.instances import Instances
from harness.rpc import Closed, RpcError
from harness.upstream import ours, row_of, wait_gone
from harness.users import STRANGER, need_root
from harness.wait import stays, wait_until

SLOW = {**FAST, "takeover_ms": 20000}  # nobody's time is over before he is asked
CONNECTION = {"profile": "process", "bind": "connection"}


def unknown(call, *args, **params):
    """Asserts that the lease is none of the caller's."""
    with pytest.raises(RpcError) as refusal:
        call(*args, **params)
    assert refusal.value.code == "unknown_lease", refusal.value


def leases(broker):
    """The ids of the active ones."""
    return {row["lease"] for row in broker.admin("leases")["leases"]}


def test_closed_connection_ends_the_lease_and_its_process_lives_on(broker, litellm):
    with Holder(broker) as peer:
        reply = peer.call("acquire", **CONNECTION)
        row, = broker.admin("leases")["leases"]
        assert (row["bind"], row["pid"]) == ("connection", peer.pid) and "lease_ends_at_ms" not in reply
        peer.hang_up()
        wait_gone(litellm, reply["api_key"], 1)
        unknown(peer.call, "acquire", lease=reply["lease"])
        row, = broker.audit(event="release")
        assert row["detail"] == "its connection was closed" and row["pid"] == peer.pid


def test_child_that_has_the_connection_keeps_the_lease(broker, litellm):
    """The peer forks and dies: the socket is what counts."""
    with broker.rpc() as connection:
        key = connection.call("acquire", **CONNECTION)["api_key"]
        other = socket.socket(fileno=os.dup(connection.socket.fileno()))
    stays(lambda: row_of(litellm, key) is not None, 0.3)
    other.close()
    wait_gone(litellm, key, 1)


def test_half_closed_connection_ends_the_lease(broker, litellm):
    """Its replies still come; EOF is EOF."""
    with broker.rpc() as connection:
        reply = connection.call("acquire", **CONNECTION)
        connection.socket.shutdown(socket.SHUT_WR)
        wait_gone(litellm, reply["api_key"], 1)


def test_connection_that_is_not_read_ends_its_leases_too(make_broker, litellm):
    """Its uid has as many requests under way as it may, so that nothing is read of it, not even its end."""
    broker = make_broker(config="limits { connections = 4 }\n" + rule_all()).start()
    broker.wait_ready()
    with broker.rpc() as connection, broker.rpc() as other:
        key = connection.call("acquire", **CONNECTION)["api_key"]
        litellm.fail(path="/key/generate", delay_ms=4000, times=4)
        for _ in range(4):
            other.send("acquire", profile="process", bind="ttl")
        connection.send("whoami")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 6, what="the requests of the other")
        began = time.monotonic()
        connection.close()
        wait_gone(litellm, key, 2)
        assert time.monotonic() - began < 2 < 4, "before any of them had its answer"


def test_peer_that_left_while_its_key_was_made_gets_none(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as connection:
        connection.send("acquire", **CONNECTION)
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the POST")
    wait_until(lambda: litellm.calls("/key/delete"), what="its key's deletion")
    assert broker.count("SELECT count(*) FROM lease WHERE state = 'active'") == 0


def test_lease_goes_over_to_the_connection_that_asked_last(broker, litellm):
    """One that was given up may end later than its successor begins."""
    with broker.rpc() as old, broker.rpc() as new:
        reply = old.call("acquire", **CONNECTION, request_id="one")
        assert new.call("acquire", **CONNECTION, request_id="one")["lease"] == reply["lease"]
        old.close()
        stays(lambda: row_of(litellm, reply["api_key"]) is not None, 0.3)
    wait_gone(litellm, reply["api_key"], 1)


def test_repeat_and_end_of_the_old_connection_in_one_turn(broker, litellm):
    """The repeat holds the lease from its arrival on, not from its commit."""
    with broker.rpc() as old, broker.rpc() as new:
        reply = old.call("acquire", **CONNECTION, request_id="one")
        with broker.frozen():
            again = new.send("acquire", **CONNECTION, request_id="one")
            old.close()
        answer = new.result(again)
        assert row_of(litellm, answer["api_key"]) is not None
        assert leases(broker) == {answer["lease"]}
        assert answer["lease"] == reply["lease"] or row_of(litellm, reply["api_key"]) is None


# --- a change of leader ---

def test_holder_takes_its_lease_up_again(make_broker, litellm):
    broker = make_broker(timing=SLOW).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        reply = peer.call("acquire", **CONNECTION)
        broker.kill()
        broker.start()
        peer.hang_up()
        again = peer.call("acquire", lease=reply["lease"])
        assert (again["lease"], again["api_key"]) == (reply["lease"], reply["api_key"])
        assert broker.audit(event="acquire", lease=reply["lease"])[-1]["detail"] == "taken up again"
        assert peer.call("acquire", lease=reply["lease"])["api_key"] == reply["api_key"]
        assert broker.audit(event="acquire", lease=reply["lease"])[-1]["detail"] == "read again"
        peer.hang_up()
        wait_gone(litellm, reply["api_key"], 1)


def test_lease_that_is_taken_up_outlives_the_time_for_it(make_broker, litellm):
    broker = make_broker(timing={**FAST, "takeover_ms": 1500}).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        reply = peer.call("acquire", **CONNECTION)
        broker.kill()
        broker.start()
        peer.hang_up()
        peer.call("acquire", lease=reply["lease"])
        stays(lambda: row_of(litellm, reply["api_key"]) is not None, 2)


def test_lease_that_nobody_takes_up_ends_and_is_never_revived(make_broker, litellm):
    broker = make_broker(timing={**FAST, "takeover_ms": 1000}).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        reply = peer.call("acquire", **CONNECTION, request_id="one")
        broker.kill()
        broker.start()
        peer.hang_up()
        began = time.monotonic()
        wait_gone(litellm, reply["api_key"], 4)
        assert time.monotonic() - began > 0.5, "it had its time"
        assert "not taken up" in broker.audit(event="release")[-1]["detail"]
        unknown(peer.call, "acquire", lease=reply["lease"])
        assert peer.call("acquire", **CONNECTION, request_id="one")["lease"] != reply["lease"]


def test_holder_that_dies_meanwhile_is_not_waited_for(make_broker, litellm):
    broker = make_broker(timing=SLOW).start()
    broker.wait_ready()
    with Holder(broker) as before, Holder(broker) as after:
        keys = [peer.call("acquire", **CONNECTION)["api_key"] for peer in (before, after)]
        broker.kill()
        before.kill()
        broker.start()
        wait_gone(litellm, keys[0], 2)
        after.kill()
        wait_gone(litellm, keys[1], 1)


def test_only_the_same_process_may_take_it_up(make_broker):
    need_root()
    broker = make_broker(config=rule_all() + f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n', timing=SLOW,
                         env={"LITELLM_MODELS": "gpt-5"}).start()
    os.chmod(broker.path("run/keybroker"), 0o755)
    os.chmod(broker.socket, 0o666)
    with Holder(broker) as mine, Holder(broker) as sibling, Holder(broker, uid=STRANGER) as stranger:
        lease = mine.call("acquire", **CONNECTION)["lease"]
        broker.kill()
        broker.start()
        os.chmod(broker.socket, 0o666)
        for peer in (mine, sibling, stranger):
            peer.hang_up()
        for peer in (sibling, stranger):
            for method in ("acquire", "renew", "release"):
                unknown(peer.call, method, lease=lease)
        assert mine.call("acquire", lease=lease)["lease"] == lease


def test_clean_stop_ends_no_connection_lease(make_broker):
    broker = make_broker(timing=SLOW).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        lease = peer.call("acquire", **CONNECTION)["lease"]
        broker.restart()
        peer.hang_up()
        assert peer.call("acquire", lease=lease)["lease"] == lease


@pytest.fixture
def dying(make_broker):
    """-> (instances, a leader that dies between a commit and its replies, some turns from now, and its standby)"""
    instances = Instances(make_broker(timing=SLOW))
    a = instances.start("a", env={"KEYBROKER_FAIL": "turn.after_commit:kill:5"})
    yield instances, a, instances.start("b")
    instances.close()


@pytest.mark.parametrize("profile", ["service", "process"])
def test_repeat_of_a_request_whose_reply_was_lost_takes_the_lease_up(dying, litellm, profile):
    instances, a, b = dying
    broker, number = instances.broker, 0
    with Holder(broker) as peer:
        while a.running:
            number += 1
            asked = {"profile": profile, "bind": "connection", "request_id": f"r{number}", "timeout_ms": 20000}
            try:
                reply = peer.call("acquire", **asked)
            except (Closed, OSError):
                reply = peer.call("acquire", **asked)
        assert a.process.wait(10) == -signal.SIGKILL and instances.wait_leader(a) is b
        rows = broker.rows("SELECT id FROM lease WHERE request_id = ?", f"r{number}")
        assert rows == [{"id": reply["lease"]}] and reply["lease"] in leases(broker)
        assert litellm.chat(reply["api_key"])[0] == 200
        peer.hang_up()
        wait_until(lambda: reply["lease"] not in leases(broker), what="its end")
    if profile == "process":
        wait_gone(litellm, reply["api_key"])
        wait_until(lambda: len(ours(litellm, broker.user_id)) == 1, what="the shared key alone")


@pytest.mark.parametrize("args", [("--for-parent",), ()], ids=["for-parent", "ttl"])
def test_command_repeats_its_request_over_a_change_of_leader(dying, litellm, args):
    """The descriptor goes with each attempt, and the same request_id: one lease, one key."""
    instances, a, b = dying
    runs = 0
    while a.running:
        key = instances.broker.cli("get", "-p", "process", *args).ok().strip()
        runs += 1
    assert a.process.wait(10) == -signal.SIGKILL and instances.wait_leader(a) is b
    assert litellm.chat(key)[0] == 200
    assert len(leases(instances.broker)) == runs
    wait_until(lambda: len(ours(litellm, instances.broker.user_id)) == runs + 1, what="no key without a lease")
