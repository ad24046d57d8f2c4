"""Revocation: leases end, and their keys go."""

import os
import pwd

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
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
    assert broker.admin("revoke", lease=one["lease"]) == {
        "leases": 1, "keys": 0, "kept": [{"profile": "service", "mode": "shared"}]}
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
    broker.admin("revoke", uid=0)
    asked = [row["detail"] for row in broker.audit(event="revoke", outcome="asked")]
    assert asked == [f"by uid {uid}" for uid in (os.getuid() + 1, os.getuid(), 0)]


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


def test_retiring_key_that_was_revoked_is_not_kept_for_its_grace_by_a_restart(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 600000}).start()
    old = broker.acquire()["api_key"]
    assert broker.admin("rotate", profile="service")["retiring"]["leases"] == 1
    litellm.fail(path="/key/delete", status=503, times=-1)
    litellm.fail(path="/key/block", status=503, times=-1)
    assert broker.admin("revoke", key_hash=key_hash(old))["keys"] == 1
    broker.kill()
    litellm.clear()
    broker.start()
    wait_gone(litellm, old)


# --- a profile that has left the configuration ---

GOING = 'profile "gone" {{ mode = {} models = {{ "gpt-5" }} }}\n'


@pytest.fixture
def removed(make_broker):
    """Makes a broker whose profile `gone` has a lease and is then taken out of the file; -> it, the key it gave out."""
    def make(mode="shared", hold=True):
        broker = make_broker(config=MANY + rule_all() + GOING.format(mode), env=DROPIN, timing=FAST).start()
        broker.wait_ready()
        key = broker.acquire(profile="gone", bind="ttl")["api_key"]
        if not hold:
            broker.admin("revoke", lease=broker.admin("leases")["leases"][0]["lease"])
        broker.write_config(MANY + rule_all())
        broker.admin("reload")
        return broker, key
    return make


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_removed_profile_is_shown_and_revoked(removed, litellm, mode):
    broker, key = removed(mode)
    shown = broker.profile("gone")
    assert (shown["state"], shown["mode"], shown["leases"]) == ("removed", mode, 1)
    assert [old["key_hash"] for old in shown["retiring"]] == [key_hash(key)[:8]][:mode == "shared"]
    assert litellm.chat(key)[0] == 200
    assert broker.admin("revoke", profile="gone") == {"leases": 1, "keys": 1}
    wait_gone(litellm, key)
    wait_until(lambda: "gone" not in [p["name"] for p in broker.admin("status")["profiles"]], what="its row has gone")
    with pytest.raises(RpcError) as refusal:
        broker.admin("revoke", profile="gone")
    assert refusal.value.code == "unknown_profile"


def test_removed_profiles_key_goes_with_its_last_lease(removed, litellm):
    """FAST has the usual grace, 5 minutes: it is for those who may take another key, and here is none."""
    broker, key = removed()
    assert litellm.chat(key)[0] == 200 and broker.profile("gone")["retiring"]
    broker.admin("revoke", lease=broker.admin("leases")["leases"][0]["lease"])
    wait_gone(litellm, key)


def test_removed_profiles_key_without_a_lease_goes_at_once(removed, litellm):
    broker, key = removed(hold=False)
    wait_gone(litellm, key)
    assert broker.profile()["state"] == "ready"


# --- what the reply tells ---

def test_reply_tells_that_litellm_cannot_be_reached_and_status_what_is_due(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    key = broker.acquire()["api_key"]
    own_litellm.stop()
    with pytest.raises(RpcError):
        broker.acquire(profile="process", timeout_ms=500)
    done = broker.cli("revoke", "--profile", "service")
    assert done.code == 75 and "1 lease ended, 1 key being taken down" in done.stdout
    assert "cannot be reached since 20" in done.stderr and "keeps trying" in done.stderr
    reply = broker.admin("revoke", key_hash=key_hash(key))  # again, as somebody in doubt would
    assert reply["keys"] == 1 and reply["pending"]["keys"] == 1 and reply["pending"]["error"]
    assert "due since 20" in broker.cli("status").ok()
    own_litellm.start()
    wait_gone(own_litellm, key)


@pytest.mark.parametrize("target", ["lease", "uid"])
def test_shared_key_that_stays_is_said_to_stay(broker, litellm, target):
    lease = broker.acquire()
    done = broker.cli("revoke", f"--{target}", str({"lease": lease["lease"], "uid": os.getuid()}[target]))
    assert done.ok() == "1 lease ended, 0 keys taken down\n"
    assert "profile service was not revoked" in done.stderr and "`keybroker revoke --profile service`" in done.stderr
    assert "60 s" not in done.stderr and litellm.chat(lease["api_key"])[0] == 200


def test_static_key_stays_with_the_provider(make_broker):
    broker = make_broker(upstream=None, env={"OPENAI_API_KEY": "sk-proj-of-the-operator-0123456789"}).start()
    broker.acquire()
    done = broker.cli("revoke", "--profile", "service")
    assert done.code == 0 and "provider" in done.stderr and "--profile" not in done.stderr


@pytest.mark.parametrize("target", [("--key-hash", "12345678"), ("--uid", "999999"), ("--profile", "process")], ids=" ".join)
def test_nothing_that_matches_is_no_success(broker, target):
    done = broker.cli("revoke", *target)
    assert done.code == 65 and "nothing was revoked" in done.stderr and "60 s" not in done.stderr


def test_user_by_name(broker):
    broker.acquire(profile="process")
    assert broker.cli("revoke", "--uid", pwd.getpwuid(os.getuid()).pw_name).ok().startswith("1 lease ended")
    done = broker.cli("revoke", "--uid", "no-such-user")
    assert done.code == 64 and '"no-such-user" is not a uid or a user that is known here' in done.stderr


@pytest.mark.parametrize("target, words", [(("--lease", "A" * 16), "unknown_lease: "), (("--profile", "nosuch"), "unknown_profile: ")],
                         ids=["lease", "profile"])
def test_what_is_not_there_matches_nothing_either(broker, target, words):
    done = broker.cli("revoke", *target)
    assert done.code == 65 and words in done.stderr, done
