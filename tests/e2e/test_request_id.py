"""A request_id names one acquire, however often and on however many connections it is sent."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.broker import FAST, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import ours
from harness.wait import wait_until


def test_repeats_during_the_mint_get_one_lease(broker, litellm):
    litellm.fail(path="/key/generate", delay_ms=200)
    connections = [broker.rpc() for _ in range(20)]
    sent = [connection.send("acquire", profile="process", bind="ttl", request_id="same") for connection in connections]
    replies = [connection.result(number) for connection, number in zip(connections, sent)]
    assert len({reply["lease"] for reply in replies}) == len({reply["api_key"] for reply in replies}) == 1
    assert broker.count("SELECT count(*) FROM lease WHERE profile = 'process'") == 1
    broker.call("release", lease=replies[0]["lease"])
    for connection in connections:
        connection.close()
    assert len(ours(litellm, broker.user_id)) <= 2


def test_repeats_of_one_turn_get_one_lease(broker):
    with broker.rpc() as connection:
        sent = [connection.send("acquire", bind="ttl", request_id="same") for _ in range(10)]
        assert len({connection.result(number)["lease"] for number in sent}) == 1


@pytest.mark.parametrize("profile", ["service", "process"])
def test_repeat_that_asks_for_another_kind_of_lease_is_refused(broker, profile):
    first = broker.acquire(profile=profile, bind="ttl", request_id="one")
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile=profile, bind="process", request_id="one")
    assert refusal.value.code == "invalid_request"
    assert broker.acquire(profile=profile, bind="ttl", request_id="one")["lease"] == first["lease"]


@pytest.mark.parametrize("profile", ["service", "process"])
def test_repeat_that_asks_for_a_key_that_moves_or_not_is_refused_if_the_first_did_not(broker, profile):
    first = broker.acquire(profile=profile, bind="ttl", request_id="one")
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile=profile, bind="ttl", request_id="one", refreshable=False)
    assert refusal.value.code == "invalid_request" and "refreshable" in refusal.value.text
    assert broker.acquire(profile=profile, bind="ttl", request_id="one")["lease"] == first["lease"]


def test_repeat_that_asks_for_longer_is_told_how_long_its_lease_is(broker):
    asked = {"bind": "ttl", "request_id": "one"}
    with broker.rpc() as connection:
        sent = [connection.send("acquire", ttl_ms=ttl, **asked) for ttl in (5000, 600000)]  # in one turn
        replies = [connection.result(number) for number in sent] + [connection.call("acquire", ttl_ms=600000, **asked)]
    assert len({reply["lease"] for reply in replies}) == 1
    assert [reply["ttl_ms"] for reply in replies] == [5000] * 3


@pytest.mark.parametrize("bind, keys", [("ttl", 1), ("process", 2)])
def test_two_processes_with_one_request_id_keep_living_keys(make_broker, litellm, bind, keys):
    """A TTL lease is its uid's, so both have it; a process lease is not. Neither loses its key to the other."""
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=300, times=2)
    asked = {"profile": "process", "bind": bind, "request_id": "same", "refreshable": True}
    with Holder(broker) as other, ThreadPoolExecutor() as pool:
        theirs = pool.submit(other.call, "acquire", **asked)
        mine = broker.acquire(**asked)
        issued = {mine["api_key"], theirs.result()["api_key"]}
        assert len(issued) == keys and all(litellm.chat(key)[0] == 200 for key in issued)
        wait_until(lambda: broker.count("SELECT count(*) FROM key WHERE state = 'live' AND mode = 'dedicated'") == keys,
                   what="no key without a lease")


def test_repeats_during_the_mint_are_not_charged_as_more(make_broker, litellm):
    broker = make_broker(config="limits { mints_per_minute = 1 }\n" + rule_all()).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/generate", delay_ms=1000)
    for _ in range(3):
        with broker.rpc() as connection:  # which ends before the answer
            number = connection.send("acquire", profile="process", bind="ttl", request_id="same")
            wait_until(lambda: litellm.calls("/key/generate"), what="the mint")
            assert not connection.has_reply(number)
    assert litellm.chat(broker.acquire(profile="process", bind="ttl", request_id="same")["api_key"])[0] == 200
    assert len(litellm.calls("/key/generate")) == 1
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", bind="ttl", request_id="another")
    assert refusal.value.code == "limit_exceeded"
