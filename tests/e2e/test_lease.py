"""Leases and the caller's own view of things."""

import os
import time

import pytest

from harness.broker import rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.users import STRANGER, need_root
from harness.wait import wait_until


def refused(code, call, *args, **params):
    """Asserts that a call is refused with this code; -> the error."""
    with pytest.raises(RpcError) as refusal:
        call(*args, **params)
    assert refusal.value.code == code, refusal.value
    return refusal.value


def test_hello_names_broker_term_and_limits(broker):
    reply = broker.call("hello", client="e2e 1", versions=[1])
    assert reply["protocol"] == 1 and reply["term"] == 1 and reply["broker"] and reply["instance"]
    assert reply["limits"] == {"request_bytes": 16384, "reply_bytes": 65536}
    refused("invalid_request", broker.call, "hello", versions=[2, 3])


def test_whoami_says_what_the_kernel_says(broker):
    reply = broker.call("whoami")
    with open("/proc/self/stat", encoding="ascii") as file:
        start = int(file.read().rpartition(")")[2].split()[19])
    assert (reply["uid"], reply["gid"], reply["pid"], reply["start_time"]) == (os.getuid(), os.getgid(), os.getpid(), start)
    assert set(reply["groups"]) == set(os.getgroups())
    assert reply["rules"]


def test_list_shows_the_profiles(broker, litellm):
    profiles = {p["name"]: p for p in broker.call("list")["profiles"]}
    assert set(profiles) == {"service", "process"}
    assert profiles["service"]["mode"] == "shared" and profiles["service"]["models"] == ["all-team-models"]
    assert profiles["process"]["mode"] == "dedicated" and profiles["process"]["base_url"] == litellm.url + "/v1"


def test_list_is_paged(make_broker):
    many = "".join(f'profile "p{n:02}" {{ mode = dedicated models = {{ "gpt-5" }} }}\n' for n in range(20))
    broker = make_broker(config=rule_all() + many, env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"}).start()
    names, after = [], None
    while True:
        page = broker.call("list", limit=7, **({"after": after} if after else {}))
        assert len(page["profiles"]) <= 7
        names += [p["name"] for p in page["profiles"]]
        after = page.get("next")
        if not after:
            break
    assert names == sorted([f"p{n:02}" for n in range(20)] + ["service", "process"])


def test_unknown_profile_is_named(broker):
    assert "nothing-like-it" in refused("unknown_profile", broker.acquire, profile="nothing-like-it").text


@pytest.mark.parametrize("params", [
    {"profile": ""}, {"profile": "x" * 64}, {"profile": 7}, {"bind": "forever"},
    {"ttl_ms": 5000}, {"bind": "ttl", "ttl_ms": 999}, {"bind": "ttl", "ttl_ms": "long"}, {"min_valid_ms": -1},
    {"timeout_ms": 0}, {"timeout_ms": 600001}, {"lease": "x", "profile": "service"}, {"refreshable": "yes"},
], ids=str)
def test_bad_params_are_refused_and_the_connection_lives_on(broker, params):
    with broker.rpc() as connection:
        refused("invalid_request", connection.call, "acquire", **params)
        assert connection.call("acquire")["lease"]


def test_min_valid_over_the_duration_is_refused(broker):
    month = 31 * 24 * 3600 * 1000
    refused("invalid_request", broker.acquire, profile="process", min_valid_ms=month)
    refused("invalid_request", broker.call, "no_such_method")


def test_lease_is_read_again(broker):
    with broker.rpc() as connection:
        first = connection.call("acquire")
        again = connection.call("acquire", lease=first["lease"])
    assert (again["lease"], again["api_key"]) == (first["lease"], first["api_key"])
    assert broker.admin("status")["leases"] == 1


def test_ttl_lease_is_renewed_and_ends(broker):
    reply = broker.acquire(bind="ttl", ttl_ms=1500)
    assert abs(reply["lease_ends_at_ms"] - time.time() * 1000 - 1500) < 500
    assert reply["refresh_at_ms"] < reply["lease_ends_at_ms"]
    renewed = broker.call("renew", lease=reply["lease"], ttl_ms=3000)
    assert renewed["lease_ends_at_ms"] > reply["lease_ends_at_ms"]
    wait_until(lambda: time.time() * 1000 > reply["lease_ends_at_ms"] + 100, what="the first end")
    assert broker.admin("status")["leases"] == 1
    wait_until(lambda: broker.admin("status")["leases"] == 0, what="the second end")
    refused("unknown_lease", broker.call, "renew", lease=reply["lease"])


def test_ttl_is_capped_by_the_rule(make_broker):
    broker = make_broker(config=rule_all(ttl_cap='"2s"')).start()
    reply = broker.acquire(bind="ttl", ttl_ms=3600000)
    assert reply["lease_ends_at_ms"] < time.time() * 1000 + 2500


def test_ttl_lease_outlives_a_restart(broker):
    reply = broker.acquire(bind="ttl", ttl_ms=60000)
    broker.kill()
    broker.start()
    assert broker.call("renew", lease=reply["lease"])["lease"] == reply["lease"]


def test_process_lease_ends_with_its_process(broker):
    with Holder(broker) as peer:
        peer.call("acquire")
        assert broker.admin("status")["leases"] == 1
    wait_until(lambda: broker.admin("status")["leases"] == 0, 1, "the lease's end")


def test_lease_of_another_user_is_unknown(make_broker):
    need_root()
    broker = make_broker(config=rule_all() + f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n').start()
    os.chmod(broker.path("run/keybroker"), 0o755)
    os.chmod(broker.socket, 0o666)
    mine = broker.acquire(bind="ttl")["lease"]
    for method in ("renew", "release", "acquire"):
        with pytest.raises(RpcError) as refusal:
            broker.call_as(STRANGER, method, lease=mine)
        assert refusal.value.code == "unknown_lease"
    assert broker.call("renew", lease=mine)


def test_process_lease_is_of_its_process_alone(broker):
    with Holder(broker) as one, Holder(broker) as two:
        lease = one.call("acquire")["lease"]
        with pytest.raises(RpcError) as refusal:
            two.call("release", lease=lease)
        assert refusal.value.code == "unknown_lease"
        assert one.call("release", lease=lease)["released"] is True


def test_admin_sees_who_holds_what(broker):
    with Holder(broker) as peer:
        reply = peer.call("acquire", refreshable=False)
        lease, = broker.admin("leases")["leases"]
        assert lease["lease"] == reply["lease"] and lease["pid"] == peer.pid and lease["uid"] == os.getuid()
        assert (lease["profile"], lease["mode"], lease["bind"], lease["refreshable"]) == ("service", "shared", "process", False)
        assert lease["key_hash"] == reply["key_hash"] and lease["generation"] == 1


def test_leases_are_paged(broker):
    with broker.rpc() as connection:
        made = {connection.call("acquire")["lease"] for _ in range(25)}
    seen, after = set(), None
    while True:
        page = broker.admin("leases", limit=10, **({"after": after} if after else {}))
        seen |= {lease["lease"] for lease in page["leases"]}
        after = page.get("next")
        if not after:
            break
    assert seen == made


def test_status_describes_the_broker(broker, litellm):
    status = broker.admin("status")
    assert status["pid"] == broker.pid and status["term"] == 1 and status["socket"] == broker.socket
    assert status["durability"] == "power_loss" and status["upstream"]["url"] == litellm.url
    assert status["keys"]["live"] == 1 and status["audit"]["sequence"] >= 1
    service = broker.profile()
    assert service["alias"] == "agents-service" and service["generation"] == 1
    assert broker.profile("process")["state"] == "on demand"


def test_replies_are_matched_by_id_in_any_order(broker, litellm):
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as connection:
        slow = connection.send("acquire", profile="process")
        assert connection.call("whoami")["pid"] == os.getpid()
        assert not connection.has_reply(slow)
        assert connection.result(slow)["mode"] == "dedicated"


def test_renewing_a_process_lease_answers_the_keys_expiry_only(make_broker):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "1h"}).start()
    reply = broker.acquire()
    renewed = broker.call("renew", lease=reply["lease"])
    assert renewed == {"lease": reply["lease"], "expires_at_ms": reply["expires_at_ms"]}


def test_refresh_is_due_before_key_or_lease_end(make_broker):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "1h"}).start()
    now = time.time() * 1000
    shares = [(broker.acquire(bind="ttl", ttl_ms=600000)["refresh_at_ms"] - now) / 600000 for _ in range(20)]
    assert all(0.55 < share < 0.8 for share in shares) and max(shares) - min(shares) > 0.01, "2/3, spread by 10 %"
