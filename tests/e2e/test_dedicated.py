"""Dedicated keys: one for each lease, gone with it."""

import time

import pytest

from harness.broker import FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import accounted_for, ours, row_of, wait_gone
from harness.wait import stays, wait_until


def test_each_lease_has_its_own_key(broker, litellm):
    with Holder(broker) as first, Holder(broker) as second:
        keys = {peer.call("acquire", profile="process")["api_key"] for peer in (first, second)}
        assert len(keys) == 2
        assert all(litellm.chat(key)[0] == 200 for key in keys)


def test_killed_holder_loses_its_key_within_a_second(broker, litellm):
    with Holder(broker) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        assert row_of(litellm, key)
        peer.kill()
        died = time.monotonic()
        wait_gone(litellm, key)
        assert time.monotonic() - died < 1
    delete, = litellm.calls("/key/delete")
    assert delete["targets"] == [key_hash(key)] and delete["body_fields"] == ["keys"]


def test_holder_may_close_its_connection_and_keeps_its_key(broker, litellm):
    key = broker.acquire(profile="process")["api_key"]  # call() closes the connection; this process lives on
    stays(lambda: row_of(litellm, key) is not None, 0.3)


def test_release_deletes_the_key(broker, litellm):
    reply = broker.acquire(profile="process")
    assert broker.call("release", lease=reply["lease"]) == {"lease": reply["lease"], "released": True}
    wait_gone(litellm, reply["api_key"])
    with pytest.raises(RpcError) as refusal:
        broker.call("release", lease=reply["lease"])
    assert refusal.value.code == "unknown_lease"


def test_end_of_ttl_deletes_the_key(broker, litellm):
    reply = broker.acquire(profile="process", bind="ttl", ttl_ms=1000)
    assert row_of(litellm, reply["api_key"])
    wait_gone(litellm, reply["api_key"], 4)


def test_deletion_that_fails_is_tried_again(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    reply = broker.acquire(profile="process")
    litellm.fail(path="/key/delete", status=500, times=4)
    broker.call("release", lease=reply["lease"])
    wait_gone(litellm, reply["api_key"])


def test_deletion_outlives_a_restart(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    reply = broker.acquire(profile="process")
    litellm.fail(path="/key/delete", status=500, times=-1)
    broker.call("release", lease=reply["lease"])
    wait_until(lambda: litellm.calls("/key/delete"), what="an attempt")
    broker.kill()
    litellm.clear()
    broker.start()
    wait_gone(litellm, reply["api_key"])


def test_holder_that_dies_while_the_broker_is_down_loses_its_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    with Holder(broker) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        broker.kill()
        peer.kill()
        broker.start()
        wait_gone(litellm, key)


def test_holder_that_outlives_the_broker_keeps_its_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    with Holder(broker) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        broker.kill()
        broker.start()
        broker.wait_ready()
        stays(lambda: row_of(litellm, key) is not None, 1.2)  # over two sweeps
        peer.kill()
        wait_gone(litellm, key)


# --- request_id ---

def test_same_request_id_yields_the_same_lease_and_key(broker, litellm):
    first = broker.acquire(profile="process", request_id="one")
    second = broker.acquire(profile="process", request_id="one")
    assert (first["lease"], first["api_key"]) == (second["lease"], second["api_key"])
    other = broker.acquire(profile="process", request_id="two")
    assert other["api_key"] != first["api_key"]
    assert len(ours(litellm, broker.user_id)) == 3  # and the shared one


def test_same_request_id_while_the_mint_runs_joins_it(make_broker, litellm):
    broker = make_broker().start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as one, broker.rpc() as two:
        sent = [c.send("acquire", profile="process", request_id="x") for c in (one, two)]
        keys = {one.result(sent[0])["api_key"], two.result(sent[1])["api_key"]}
    assert len(keys) == 1 and len(litellm.calls("/key/generate")) == 2


def test_request_id_holds_over_a_kill(make_broker, litellm):
    broker = make_broker(timing={**FAST, "takeover_ms": 10000}).start()
    first = broker.acquire(profile="process", request_id="same")
    broker.kill()
    broker.start()
    second = broker.acquire(profile="process", request_id="same")
    assert (first["lease"], first["api_key"]) == (second["lease"], second["api_key"])


def test_caller_that_comes_back_adopts_its_unfinished_mint(make_broker, litellm):
    broker = make_broker(timing={**FAST, "takeover_ms": 10000}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", hang=True)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process", request_id="back")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the POST")
        broker.kill()
    litellm.clear()
    broker.start()
    reply = broker.acquire(profile="process", request_id="back")
    assert litellm.chat(reply["api_key"])[0] == 200
    accounted_for(broker, litellm)
    assert len(ours(litellm, broker.user_id)) == 2


@pytest.mark.parametrize("text", ["", "x" * 65, "line\nbreak", "ü"])
def test_bad_request_id_is_refused(broker, text):
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", request_id=text)
    assert refusal.value.code == "invalid_request" and "request_id" in refusal.value.text


# --- who does not wait ---

def test_waiter_that_leaves_before_its_mint_gets_its_key_deleted(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/generate", delay_ms=400)
    connection = broker.rpc()
    connection.send("acquire", profile="process")
    wait_until(lambda: litellm.calls("/key/generate"), what="the POST")
    connection.close()
    wait_until(lambda: litellm.calls("/key/delete"), what="its key's deletion")
    assert litellm.calls("/key/generate")[0]["status"] == 200, "the mint was carried out"
    wait_until(lambda: len(ours(litellm, broker.user_id)) == 1, what="nothing but the shared key")
    accounted_for(broker, litellm)
    assert broker.admin("status")["leases"] == 0


def test_mints_of_one_user_are_limited(make_broker):
    broker = make_broker(config="limits { mints_per_minute = 3 }\n" + rule_all()).start()
    with broker.rpc() as connection:
        for _ in range(3):
            connection.call("acquire", profile="process")
        with pytest.raises(RpcError) as refusal:
            connection.call("acquire", profile="process")
    assert refusal.value.code == "limit_exceeded" and 0 < refusal.value.retry_after_ms <= 60000


def test_rule_limits_leases_of_one_user(make_broker):
    broker = make_broker(config=MANY + rule_all(max_leases=2)).start()
    first = broker.acquire()
    broker.acquire()
    with pytest.raises(RpcError) as refusal:
        broker.acquire()
    assert refusal.value.code == "limit_exceeded"
    broker.call("release", lease=first["lease"])
    assert broker.acquire()["lease"]


@pytest.mark.parametrize("profile", ["service", "process"])
@pytest.mark.parametrize("limits", [MANY + rule_all(max_leases=2),
                                    "limits {\n mints_per_minute = 100000\n leases = 2\n}\n" + rule_all()], ids=["rule", "uid"])
def test_leases_are_limited_for_those_who_queue_for_a_key_too(make_broker, litellm, profile, limits):
    """None of them had a lease when they asked."""
    litellm.fail(path="/key/generate", delay_ms=300, times=-1)
    broker = make_broker(config=limits, timing=FAST).start()
    with broker.rpc() as connection:
        sent = [connection.send("acquire", profile=profile, bind="ttl") for _ in range(3)]
        replies = [connection.reply(number) for number in sent]
    assert sorted(error["code"] if error else "" for error, _ in replies) == ["", "", "limit_exceeded"]
    assert broker.admin("status")["leases"] == broker.count("SELECT count(*) FROM lease WHERE state = 'active'") == 2
    broker.call("release", lease=next(reply["lease"] for _, reply in replies if reply))
    assert broker.acquire(profile=profile, bind="ttl")["api_key"]
    if profile == "process":
        wait_until(lambda: len(ours(litellm, broker.user_id)) == 3, what="nothing but the shared key and those of the leases")
    accounted_for(broker, litellm)
