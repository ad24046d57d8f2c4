"""What meets in one turn of the loop, and what a restart must not forget."""

import contextlib
import os
import signal
import sqlite3
import time

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.rpc import RpcError
from harness.upstream import row_of, unread_answers, wait_gone
from harness.wait import wait_until

OLD = "sk-of-the-old-provisioner-0123456789"
QUIET = {**FAST, "grace_ms": 600000, "sweep_every_ms": 600000}
REFUSAL = {"error": {"message": "no such model", "type": "bad_request_error", "param": None, "code": "400"}}


@contextlib.contextmanager
def stopped(broker):
    """What arrives meanwhile is read together when it goes on."""
    os.kill(broker.pid, signal.SIGSTOP)
    yield
    os.kill(broker.pid, signal.SIGCONT)


def test_refused_intent_is_joined_by_nobody(make_broker, litellm):
    """A second acquire with its request_id, read in the turn in which the refusal comes."""
    broker = make_broker().start()
    broker.wait_ready()
    database = sqlite3.connect(broker.db, isolation_level=None, timeout=1)
    with broker.rpc() as first, broker.rpc() as second, broker.rpc() as other:
        for connection in (first, second, other):
            connection.call("whoami")
        litellm.fail(path="/key/generate", delay_ms=100, status=400, times=-1, body=REFUSAL)
        one = first.send("acquire", profile="process", bind="ttl", request_id="same")
        time.sleep(0.04)
        database.execute("BEGIN IMMEDIATE")
        other.send("acquire", bind="ttl")  # its turn lasts as long as the lock is held
        time.sleep(0.11)
        two = second.send("acquire", profile="process", bind="ttl", request_id="same", timeout_ms=700)
        time.sleep(0.02)
        database.close()
        assert first.reply(one)[0]["code"] == "upstream_refused"
        assert second.reply(two, 4)[0]["code"] == "upstream_refused", "by an intent of its own"
    assert broker.call("whoami")


def test_acquire_in_the_turn_of_an_import_gets_a_key_that_stays(make_broker, litellm):
    """Nobody had the first key until this very turn."""
    broker = make_broker(timing=QUIET).start()
    broker.wait_ready()
    litellm.add_key(OLD, key_alias="old-name")
    broker.secrets.add(OLD)
    litellm.fail(path="/key/info", delay_ms=100)
    with broker.rpc(admin=True) as admin, broker.rpc() as client:
        client.call("whoami")
        asked = admin.send("import", profile="service", token=OLD, alias="old-name")
        time.sleep(0.03)
        with stopped(broker):
            time.sleep(0.15)
            sent = [client.send("acquire", bind="ttl") for _ in range(4)]
        admin.result(asked)
        leases = [client.result(number) for number in sent]
    time.sleep(0.3)
    assert {(lease["generation"] > 0, litellm.chat(lease["api_key"])[0]) for lease in leases} == {(True, 200)}


def test_revoked_key_is_not_renamed_first(make_broker, litellm):
    """Its rotation waits for a renaming that upstream refuses to make."""
    broker = make_broker(timing=FAST).start()
    key = broker.acquire(bind="ttl", refreshable=False)["api_key"]
    litellm.fail(path="/key/update", status=500, times=-1)
    with pytest.raises(RpcError):
        broker.admin("rotate", profile="service", timeout_ms=300)
    assert broker.admin("revoke", key_hash=key_hash(key))["keys"] == 1
    wait_gone(litellm, key)
    assert wait_until(lambda: granted(broker), what="the next key") != key


def granted(broker):
    try:
        return broker.acquire(bind="ttl", timeout_ms=500)["api_key"]
    except RpcError:
        return None


def test_key_whose_grace_is_over_is_not_renamed_first(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 300}).start()
    old = broker.acquire(bind="ttl")["api_key"]
    litellm.add_key(OLD, key_alias="old-name")
    broker.secrets.add(OLD)
    litellm.fail(path="/key/update", status=500, times=-1)
    broker.admin("import", profile="service", token=OLD, alias="old-name")
    wait_gone(litellm, old)


def test_revocation_in_the_turn_of_a_rotations_end_outlives_a_restart(make_broker, litellm):
    broker = make_broker(timing=QUIET).start()
    key = broker.acquire(bind="ttl", refreshable=False)["api_key"]
    with broker.rpc(admin=True) as one, broker.rpc(admin=True) as two:
        one.call("whoami"), two.call("whoami")
        litellm.fail(path="/key/info", delay_ms=200)
        rotation = one.send("rotate", profile="service")
        wait_until(lambda: litellm.calls("/key/generate")[1:], what="the new key")
        time.sleep(0.05)
        litellm.fail(path="/key/delete", status=500, times=-1)
        litellm.fail(path="/key/block", status=500, times=-1)
        with stopped(broker):
            time.sleep(0.3)
            revocation = two.send("revoke", key_hash=key_hash(key))
        one.result(rotation)
        assert two.result(revocation)["keys"] == 1
    broker.kill()
    litellm.clear()
    broker.start()
    wait_gone(litellm, key)


@pytest.mark.parametrize("profile", ["process", "service"])
def test_half_burned_intent_is_not_handed_out_nor_an_error(make_broker, litellm, profile):
    """The next leader takes it for wanted, and meets its predecessor's block."""
    broker = make_broker(config=MANY + rule_all(), env=DROPIN,
                         timing={**FAST, "takeover_ms": 50, "burn_delete_ms": 60000, "upstream_timeout_ms": 300})
    if profile == "service":
        litellm.fail(path="/key/generate", status=500, times=1)
        litellm.fail(path="/key/generate", status=400, times=1, body=REFUSAL)
        broker.spawn(env={"KEYBROKER_FAIL": "burn.after_block:kill"})
    else:
        broker.start(env={"KEYBROKER_FAIL": "burn.after_block:kill"})
        broker.wait_ready()
        litellm.fail(path="/key/generate", status=500, times=3)
        with broker.rpc() as connection:
            connection.send("acquire", profile=profile, bind="ttl", request_id="mine")
            wait_until(lambda: litellm.calls("/key/generate")[1:], what="its mint")
    assert broker.wait(10) == -signal.SIGKILL
    litellm.clear()
    broker.timing["takeover_ms"] = 5000
    broker.start()
    lease = broker.acquire(profile=profile, bind="ttl", request_id="mine", timeout_ms=3000)
    assert litellm.chat(lease["api_key"])[0] == 200


def test_names_of_an_import_are_put_right_after_a_restart(make_broker, litellm):
    broker = make_broker(timing=QUIET).start()
    old = broker.acquire(bind="ttl", refreshable=False)["api_key"]
    litellm.add_key(OLD, key_alias="old-name")
    broker.secrets.add(OLD)
    litellm.fail(path="/key/update", status=503, times=-1)
    broker.admin("import", profile="service", token=OLD, alias="old-name")
    broker.kill()
    litellm.clear()
    broker.start()
    wait_until(lambda: (row_of(litellm, OLD)["key_alias"], row_of(litellm, old)["key_alias"])
               == ("agents-service", "agents-service.g1"), what=lambda: litellm.keys())


def test_what_a_lease_has_after_a_restart_is_in_its_row(make_broker, litellm):
    """Else an import would believe that nobody ever had the key."""
    broker = make_broker(timing={**FAST, "grace_ms": 100, "sweep_every_ms": 600000}).start()
    lease = broker.acquire(bind="ttl")
    broker.admin("rotate", profile="service")
    wait_gone(litellm, lease["api_key"])
    broker.kill()
    broker.start()
    again = broker.acquire(lease=lease["lease"])
    held, = broker.rows("SELECT hash FROM key JOIN lease ON key_id = key.id WHERE lease.id = ?", lease["lease"])
    assert held["hash"] == key_hash(again["api_key"])
    broker.call("release", lease=lease["lease"])
    litellm.add_key(OLD, key_alias="old-name")
    broker.secrets.add(OLD)
    assert broker.admin("import", profile="service", token=OLD, alias="old-name")["generation"] == again["generation"] + 1


def test_import_whose_answer_comes_as_a_rotation_is_written_down_is_not_refused(make_broker, litellm):
    broker = make_broker(timing=QUIET).start()
    broker.acquire(bind="ttl")
    litellm.add_key(OLD, key_alias="old-name")
    broker.secrets.add(OLD)
    with broker.rpc(admin=True) as one, broker.rpc(admin=True) as two:
        one.call("whoami"), two.call("whoami")
        litellm.fail(path="/key/info", delay_ms=200, times=2)
        rotation = one.send("rotate", profile="service")
        wait_until(lambda: litellm.calls("/key/generate")[1:], what="the new key")
        imported = two.send("import", profile="service", token=OLD, alias="old-name")
        with broker.locked(), broker.held_in_a_turn():
            wait_until(lambda: unread_answers(litellm) == 2, what="both answers")
        assert one.reply(rotation)[0] is None
        assert two.result(imported)["generation"] == 2, "nobody had the new key yet"
    assert broker.acquire(bind="ttl")["api_key"] == OLD
