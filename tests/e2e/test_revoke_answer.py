"""`revoke` says what LiteLLM said, not what the broker last believed of it; keys that are being made go too."""

import os

import pytest

from harness.broker import FAST, key_hash
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import accounted_for, row_of, wait_gone
from harness.wait import wait_until


@pytest.fixture
def quick(make_broker):
    """A running broker that waits half a second for LiteLLM's word on a revocation."""
    broker = make_broker(timing={**FAST, "revoke_wait_ms": 500}).start()
    broker.wait_ready()
    return broker


@pytest.mark.parametrize("profile", ["service", "process"])
def test_reply_comes_when_the_keys_are_gone(broker, litellm, profile):
    with Holder(broker) as peer:
        key = peer.call("acquire", profile=profile)["api_key"]
        litellm.fail(path="/key/delete", delay_ms=300, times=1)
        assert broker.admin("revoke", profile=profile) == {"leases": 1, "keys": 1}
        assert row_of(litellm, key) is None


def test_litellm_that_has_just_died_is_found_out(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    with Holder(broker) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        own_litellm.stop()
        assert broker.admin("status")["upstream"]["reachable"], "nothing has told the broker yet"
        done = broker.cli("revoke", "--profile", "process")
        assert done.code == 75 and "cannot be reached since 20" in done.stderr, done
        own_litellm.start()
        wait_gone(own_litellm, key)


def test_answer_that_does_not_come_is_not_waited_for_long(quick, litellm):
    with Holder(quick) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        litellm.fail(path="/key/delete", hang=True, times=1)
        done = quick.cli("revoke", "--key-hash", key_hash(key))
        assert done.code == 75 and "not confirmed that the keys are gone (no answer yet)" in done.stderr, done
        litellm.clear()
        wait_gone(litellm, key)


def test_refusal_is_no_confirmation(quick, litellm):
    with Holder(quick) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        litellm.fail(path="/key/delete", status=401, times=1)
        pending = quick.admin("revoke", key_hash=key_hash(key))["pending"]
        assert pending["keys"] == 1 and "master key rejected" in pending["error"] and "since_at_ms" not in pending
        wait_gone(litellm, key)


def test_admin_who_does_not_wait_leaves_nothing_behind(quick, litellm):
    with Holder(quick) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        litellm.fail(path="/key/delete", delay_ms=300, times=1)
        with quick.rpc(admin=True) as connection:
            connection.send("revoke", key_hash=key_hash(key))
            wait_until(lambda: quick.audit(event="revoke", outcome="ok"), what="its record")
        wait_gone(litellm, key)


def test_stop_answers_what_is_known(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        litellm.fail(path="/key/delete", hang=True, times=1)
        with broker.rpc(admin=True) as connection:
            sent = connection.send("revoke", key_hash=key_hash(key))
            wait_until(lambda: broker.audit(event="revoke", outcome="ok"), what="its record")
            broker.stop()
            assert connection.result(sent)["pending"]["keys"] == 1
    litellm.clear()
    broker.start()
    wait_gone(litellm, key)


@pytest.mark.parametrize("target", ["uid", "profile", "key_hash"])
def test_key_that_is_being_made_goes_too(make_broker, litellm, target):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=700, times=1)
    with broker.rpc() as connection:
        sent = connection.send("acquire", profile="process")
        intent = wait_until(lambda: broker.rows("SELECT hash FROM key WHERE state = 'intent' AND profile = 'process'"), what="it")
        wanted = {"uid": os.getuid(), "profile": "process", "key_hash": intent[0]["hash"]}[target]
        reply = broker.admin("revoke", **{target: wanted})
        assert reply["keys"] == 1 and reply["leases"] == 0
        with pytest.raises(RpcError) as refusal:
            connection.result(sent)
        assert refusal.value.code == "upstream_unavailable" and "taken away" in refusal.value.text
        assert connection.call("acquire", profile="process")["api_key"], "a later one is another matter"
    accounted_for(broker, litellm)
    assert intent[0]["hash"] not in {key["token"] for key in litellm.keys() if not key["blocked"]}


def test_next_key_of_a_shared_profile_goes_only_by_its_own_name(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=500, times=1)
    with broker.rpc(admin=True) as connection:
        sent = connection.send("rotate", profile="service")
        intent = wait_until(lambda: broker.rows("SELECT hash FROM key WHERE state = 'intent'"), what="the next key")[0]["hash"]
        assert broker.admin("revoke", key_hash=intent)["keys"] == 1
        hash_of_new = connection.result(sent)["key_hash"]
    assert not intent.startswith(hash_of_new) and litellm.chat(broker.acquire()["api_key"])[0] == 200
