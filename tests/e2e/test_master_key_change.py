"""The master key is changed at LiteLLM: the broker says so, keeps serving what there is, and goes on after a reload."""

import contextlib
import os
import time

import pytest

from harness.broker import DROPIN, FAST, key_hash, rule_all
from harness.instances import memory_has
from harness.rpc import RpcError
from harness.upstream import row_of, wait_gone
from harness.wait import stays, wait_until

OLD, NEW = "sk-old-master-0123456789abcdef", "sk-new-master-fedcba9876543210"
# What failed is tried again late: what happens soon after a reload happens because of it.
LATE = {**FAST, "delete_retry_ms": 60000, "upstream_recheck_ms": 60000, "sweep_every_ms": 60000}


@pytest.fixture
def litellm_with_old(own_litellm):
    return own_litellm.change_master_key(OLD)


def from_file(make_broker, litellm, timing=FAST):
    """A running broker that has the master key from a file."""
    broker = make_broker(upstream=None, timing=timing)
    broker.secrets |= {OLD, NEW}
    broker.master = broker.write("master", OLD)
    broker.env.update(LITELLM_BASE_URL=litellm.url, LITELLM_MASTER_KEY_FILE=broker.master)
    broker.start()
    broker.wait_ready()
    return broker


def reload_by(broker, how):
    """By SIGHUP or by the command."""
    before = broker.log.count("reloaded: ")
    if how == "command":
        done = broker.cli("reload")
        assert "the master key is another one now, read from the" in done.ok()
    else:
        broker.reload()
    wait_until(lambda: broker.log.count("reloaded: ") > before, what="the reload")


def rejected(broker):
    return broker.admin("status")["upstream"]["master_key"]["rejected"]


@pytest.mark.parametrize("how", ["command", "signal"])
def test_rejected_key_is_said_serves_on_and_recovers(make_broker, litellm_with_old, how):
    litellm = litellm_with_old
    broker = from_file(make_broker, litellm, LATE)
    shared = broker.acquire()
    with broker.rpc() as client:
        own = client.call("acquire", profile="process")
        released = client.call("acquire", profile="process")
        assert not rejected(broker)
        litellm.change_master_key(NEW)
        litellm.clear_calls()

        with pytest.raises(RpcError) as refusal:
            broker.acquire(profile="process", timeout_ms=2000)
        assert refusal.value.code == "upstream_unavailable" and "master key rejected" in refusal.value.text
        client.call("release", lease=released["lease"])
        wait_until(lambda: [c for c in litellm.calls("/key/delete") if c["status"] == 401], what="a deletion that is refused")
        assert rejected(broker) and "master key rejected" in broker.admin("status")["upstream"]["error"]
        assert "REJECTED by LiteLLM" in broker.cli("status").ok()
        assert broker.log.count("ERROR") <= 2 and "master key rejected" in broker.log
        with pytest.raises(RpcError) as refusal:
            broker.admin("sweep")
        assert "master key rejected" in refusal.value.text

        assert broker.acquire()["api_key"] == shared["api_key"]
        assert client.call("acquire", lease=own["lease"])["api_key"] == own["api_key"]
        for reply in (shared, own, released):
            assert row_of(litellm, reply["api_key"]) and litellm.chat(reply["api_key"])[0] == 200
        assert broker.count("SELECT count(*) FROM key WHERE state = 'live'") == 2
        assert not broker.audit(event="delete") and not broker.audit(event="burn")

        broker.write("master", NEW)
        reload_by(broker, how)
        wait_gone(litellm, released["api_key"], 3)
        again = client.call("acquire", profile="process", timeout_ms=5000)
        assert litellm.chat(again["api_key"])[0] == 200
        assert not rejected(broker) and "REJECTED" not in broker.cli("status").ok()
        assert broker.acquire()["api_key"] == shared["api_key"] and broker.acquire()["generation"] == 1
        assert row_of(litellm, own["api_key"])["token"] == key_hash(own["api_key"])


def test_rotation_meanwhile_says_why_it_waits_and_is_done_later(make_broker, litellm_with_old):
    broker = from_file(make_broker, litellm_with_old, LATE)
    litellm_with_old.change_master_key(NEW)
    with pytest.raises(RpcError) as refusal:
        broker.admin("rotate", profile="service", timeout_ms=4000)
    assert "master key rejected" in refusal.value.text and "goes on by itself" in refusal.value.text
    assert broker.acquire()["generation"] == 1
    broker.write("master", NEW)
    reload_by(broker, "command")
    wait_until(lambda: broker.profile()["generation"] == 2, what="generation 2")


def test_litellm_at_another_url_is_not_known_since_before(make_broker, litellm_with_old):
    broker = make_broker(upstream=None, timing=FAST, env=DROPIN)
    broker.secrets |= {OLD, NEW}
    text = rule_all() + 'upstream { url = "%s" master_key_file = "' + str(broker.write("master", OLD)) + '" }\n'
    broker.write_config(text % litellm_with_old.url)
    broker.start()
    broker.wait_ready()
    changed_at_ms = time.time() * 1000
    broker.write_config(text % litellm_with_old.url.replace("127.0.0.1", "localhost"))
    broker.admin("reload")
    assert broker.admin("status")["upstream"].get("since_at_ms", changed_at_ms) >= changed_at_ms
    broker.acquire(profile="process")
    assert broker.admin("status")["upstream"]["since_at_ms"] >= changed_at_ms


def test_credential_is_read_again(make_broker, litellm_with_old):
    broker = make_broker(upstream=None, timing=FAST)
    broker.secrets |= {OLD, NEW}
    os.mkdir(broker.path("files/credentials"))
    broker.write("credentials/master_key", OLD)
    broker.env.update(LITELLM_BASE_URL=litellm_with_old.url, CREDENTIALS_DIRECTORY=broker.path("files/credentials"))
    broker.start()
    broker.wait_ready()
    litellm_with_old.change_master_key(NEW)
    broker.write("credentials/master_key", NEW)
    assert broker.admin("reload")["master_key"] == {"source": "credential", "changed": True}
    assert litellm_with_old.chat(broker.acquire(profile="process")["api_key"])[0] == 200
    assert broker.admin("reload")["master_key"] == {"source": "credential", "changed": False}


def test_environment_waits_for_a_restart_and_that_is_said(make_broker, litellm_with_old):
    broker = make_broker(upstream=litellm_with_old, timing=FAST).start()
    broker.wait_ready()
    done = broker.cli("reload")
    assert done.code == 0 and "read at a start only" in done.stderr
    assert broker.admin("reload")["master_key"] == {"source": "environment", "changed": False}
    assert "the environment is read at the start only: the master key stays" in broker.log
    broker.secrets |= {OLD, NEW}
    litellm_with_old.change_master_key(NEW)
    with contextlib.suppress(RpcError):
        broker.admin("sweep")
    wait_until(lambda: "restart the broker with the right one" in broker.cli("status").ok(), what="the status to say so")


def test_what_is_under_way_goes_on(make_broker, litellm_with_old):
    """A caller waits for LiteLLM over an old connection while the master key changes."""
    litellm = litellm_with_old
    broker = from_file(make_broker, litellm)
    with broker.rpc() as client, broker.rpc() as idle:
        lease = idle.call("acquire", bind="ttl")["lease"]
        litellm.fail(path="/key/generate", hang=True, times=1)
        sent = client.send("acquire", profile="process", timeout_ms=10000)
        wait_until(lambda: litellm.calls("/key/generate") or litellm.failures()[0]["hits"], what="the call")
        litellm.change_master_key(NEW)
        broker.write("master", NEW)
        broker.admin("reload")
        try:
            reply = client.result(sent)
        except RpcError as refusal:  # it was sent again just before the reload
            assert refusal.code == "upstream_unavailable" and "master key rejected" in refusal.text
            reply = client.call("acquire", profile="process", timeout_ms=10000)
        assert litellm.chat(reply["api_key"])[0] == 200
        assert idle.call("acquire", lease=lease)["lease"] == lease
    wait_until(lambda: len([k for k in litellm.keys() if k["user_id"] == broker.user_id]) == 2, 5, lambda: f"one key for each: {litellm.keys()}\n{broker.audit()}")


def test_replaced_master_key_is_wiped(make_broker, litellm_with_old):
    broker = from_file(make_broker, litellm_with_old)
    assert memory_has(broker.pid, OLD), "it is in use, and can be seen"
    litellm_with_old.change_master_key(NEW)
    broker.write("master", NEW)
    broker.admin("reload")
    broker.acquire(profile="process")
    assert memory_has(broker.pid, NEW)
    wait_until(lambda: not memory_has(broker.pid, OLD), 3, "the old one's end")


def test_a_file_that_cannot_be_read_leaves_the_old_one_in_force(make_broker, litellm_with_old):
    broker = from_file(make_broker, litellm_with_old)
    broker.write("master", NEW, mode=0o644)
    done = broker.cli("reload")
    assert done.code == 78 and "the old configuration stays" in done.stderr
    assert litellm_with_old.chat(broker.acquire(profile="process")["api_key"])[0] == 200
    stays(lambda: not rejected(broker), 0.3)
