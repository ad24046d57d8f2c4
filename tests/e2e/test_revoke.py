"""Revocation: leases end, and their keys go."""

import os

import pytest

from harness.broker import FAST, key_hash
from harness.rpc import RpcError
from harness.upstream import row_of, wait_gone
from harness.wait import wait_until


def test_by_lease_takes_the_dedicated_key_down(broker, litellm):
    one, two = broker.acquire(profile="process"), broker.acquire(profile="process")
    assert broker.admin("revoke", lease=one["lease"]) == {"leases": 1, "keys": 1}
    wait_gone(litellm, one["api_key"])
    assert row_of(litellm, two["api_key"])
    with pytest.raises(RpcError) as refusal:
        broker.call("acquire", lease=one["lease"])
    assert refusal.value.code == "unknown_lease"


def test_by_lease_leaves_a_shared_key_that_others_hold(broker, litellm):
    one, two = broker.acquire(), broker.acquire()
    assert broker.admin("revoke", lease=one["lease"]) == {"leases": 1, "keys": 0}
    assert litellm.chat(two["api_key"])[0] == 200


def test_by_profile_ends_its_leases_and_keys(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    keys = [broker.acquire(profile="process")["api_key"] for _ in range(3)]
    service = broker.acquire()["api_key"]
    assert broker.admin("revoke", profile="process") == {"leases": 3, "keys": 3}
    for key in keys:
        wait_gone(litellm, key)
    assert litellm.chat(service)[0] == 200


def test_by_profile_replaces_a_shared_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    old = broker.acquire()["api_key"]
    revoked = broker.admin("revoke", profile="service")
    assert revoked == {"leases": 1, "keys": 1}
    wait_gone(litellm, old)
    new = broker.acquire()
    assert new["api_key"] != old and new["generation"] == 2
    assert litellm.chat(new["api_key"])[0] == 200
    assert row_of(litellm, new["api_key"])["key_alias"] == "agents-service"


def test_by_uid(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    key = broker.acquire(profile="process")["api_key"]
    assert broker.admin("revoke", uid=os.getuid() + 1) == {"leases": 0, "keys": 0}
    assert row_of(litellm, key)
    assert broker.admin("revoke", uid=os.getuid())["leases"] == 1
    wait_gone(litellm, key)


def test_by_key_hash(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    key = broker.acquire(profile="process")["api_key"]
    other = broker.acquire(profile="process")["api_key"]
    assert broker.admin("revoke", key_hash=key_hash(key)) == {"leases": 1, "keys": 1}
    wait_gone(litellm, key)
    assert row_of(litellm, other)
    for call in litellm.calls("/key/delete"):
        assert call["targets"] == [key_hash(key)]


@pytest.mark.parametrize("params", [{}, {"uid": 1, "profile": "service"}, {"key_hash": "abc"}, {"uid": "me"},
                                    {"key_hash": "g" * 64}], ids=str)
def test_exactly_one_good_target(broker, params):
    with pytest.raises(RpcError) as refusal:
        broker.admin("revoke", **params)
    assert refusal.value.code == "invalid_request"


def test_revoked_lease_is_on_record(broker):
    lease = broker.acquire(profile="process")["lease"]
    broker.admin("revoke", lease=lease)
    wait_until(lambda: [row for row in broker.audit(lease=lease) if "revoke" in row["event"]], what="its audit row")


def test_old_provisioners_key_is_taken_down_after_a_restart_too(make_broker, litellm):
    old = "sk-of-the-old-provisioner-0123456789"
    litellm.add_key(old, key_alias="agents-service")
    broker = make_broker(timing=FAST).start()
    broker.secrets.add(old)
    broker.wait_ready()
    broker.restart()
    assert broker.admin("revoke", key_hash=key_hash(old))["keys"] == 1
    wait_gone(litellm, old)
