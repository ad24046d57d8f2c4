"""Keys are prolonged in time rather than replaced; what upstream stores is what counts."""

import datetime
import time

import pytest

from harness.broker import FAST, key_hash, rule_all
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.upstream import row_of
from harness.wait import wait_until

# 3 s of life, prolonged at 2 s.
SHORT = {**FAST, "duration_min_ms": 1000, "extend_floor_ms": 0}


def expiry(litellm, key):
    """Of a key upstream, in Unix seconds."""
    text = row_of(litellm, key)["expires"].replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("profile,variable", [("service", "LITELLM_SERVICE_KEY_DURATION"), ("process", "LITELLM_KEY_DURATION")])
def test_key_is_prolonged_before_it_expires(make_broker, litellm, profile, variable):
    broker = make_broker(env={variable: "3s"}, timing=SHORT).start()
    reply = broker.acquire(profile=profile)
    first = expiry(litellm, reply["api_key"])
    wait_until(lambda: litellm.calls("/key/update"), 5, "the prolongation")
    assert time.time() < first, "prolonged in time"
    wait_until(lambda: time.time() > first + 0.2, what="the first expiry")
    assert litellm.chat(reply["api_key"])[0] == 200
    assert expiry(litellm, reply["api_key"]) > first
    again = broker.acquire(profile=profile) if profile == "service" else None
    if again:
        assert again["api_key"] == reply["api_key"] and again["generation"] == 1
        assert again["expires_at_ms"] > reply["expires_at_ms"]
    assert litellm.calls("/key/update")[0]["targets"] == [key_hash(reply["api_key"])]
    assert "key_alias" not in litellm.calls("/key/update")[0]["body_fields"]


def test_prolongation_is_checked_by_info(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "3s"}, timing=SHORT).start()
    broker.wait_ready()
    litellm.clear_calls()
    wait_until(lambda: litellm.calls("/key/update"), 5, "the prolongation")
    wait_until(lambda: [c["path"] for c in litellm.calls()][-2:] == ["/key/update", "/key/info"] or
               "/key/info" in [c["path"] for c in litellm.calls()][-1:], what="its check")


def test_failed_prolongation_is_tried_again(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "4s"}, timing=SHORT).start()
    key = broker.acquire()["api_key"]
    first = expiry(litellm, key)
    litellm.fail(path="/key/update", status=500, times=3)
    wait_until(lambda: expiry(litellm, key) > first, 6, "the prolongation")
    assert litellm.chat(key)[0] == 200


def test_acquire_that_wants_more_life_prolongs_first(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "10m"}).start()
    broker.wait_ready()
    token = key_hash(broker.acquire()["api_key"])
    litellm.admin("POST", "/key/update", {"key": token, "duration": "300s"})
    broker.restart()
    wait_until(lambda: broker.profile()["expires_at_ms"] < time.time() * 1000 + 301000, what="the validation")
    reply = broker.acquire(min_valid_ms=400000)
    assert key_hash(reply["api_key"]) == token
    assert reply["expires_at_ms"] / 1000 - time.time() >= 395


def test_expired_shared_key_is_replaced(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "3s"}, timing=SHORT).start()
    old = broker.acquire()["api_key"]
    broker.stop()
    wait_until(lambda: litellm.chat(old)[0] == 401, what="its expiry")
    broker.start()
    new = broker.acquire()
    assert new["api_key"] != old and new["generation"] == 2
    assert row_of(litellm, new["api_key"])["key_alias"] == "agents-service"


def test_expiry_is_corrected_by_upstreams_clock(make_broker, litellm):
    litellm.advance(7200)
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "1h"}).start()
    reply = broker.acquire()
    assert abs(reply["expires_at_ms"] / 1000 - time.time() - 3600) < 5
    assert abs(expiry(litellm, reply["api_key"]) - time.time() - 3600 - 7200) < 5


def test_upstream_clock_behind_ours(make_broker, litellm):
    litellm.advance(-7200)
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "1h"}).start()
    reply = broker.acquire()
    assert abs(reply["expires_at_ms"] / 1000 - time.time() - 3600) < 5
    broker.restart()
    broker.wait_ready()
    assert broker.acquire()["api_key"] == reply["api_key"]


@pytest.mark.standin(litellm="1.80.11")
@pytest.mark.parametrize("duration,seconds", [("30m", 1800), ("30h", 108000), ("1w", 604800), ("30d", 2592000)])
def test_old_versions_rounded_expiry_is_corrected(make_broker, litellm, duration, seconds):
    broker = make_broker(env={"LITELLM_KEY_DURATION": duration}).start()
    reply = broker.acquire(profile="process")
    left = expiry(litellm, reply["api_key"]) - time.time()
    assert 0.9 * seconds - 10 < left < 1.05 * seconds + 10
    assert abs(reply["expires_at_ms"] / 1000 - time.time() - left) < 2


def test_duration_shorter_than_the_cache_is_a_config_error(make_broker):
    refused = make_broker(env={"LITELLM_KEY_DURATION": "4m"}).run_daemon("--check")
    assert refused.code == 78 and "LITELLM_KEY_DURATION" in refused.stderr


def test_min_valid_that_upstream_cannot_give_now_waits_and_says_so(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "10m"}, timing=FAST).start()
    token = key_hash(broker.acquire()["api_key"])
    litellm.admin("POST", "/key/update", {"key": token, "duration": "300s"})
    broker.restart()
    broker.wait_ready()
    wait_until(lambda: broker.profile()["expires_at_ms"] < time.time() * 1000 + 301000, what="the validation")
    litellm.fail(path="/key/update", status=500, times=-1)
    with pytest.raises(RpcError) as refusal:
        broker.acquire(min_valid_ms=400000, timeout_ms=500)
    assert refusal.value.code == "upstream_unavailable"


# --- an upstream that gives less than it is asked for, and callers that ask for more and more ---

QUARTER = 'profile "{0}" {{ mode = {0} models = {{ "gpt-5" }} alias = "{0}-%{{pid}}" duration = "15m" }}\n'
BOTH = QUARTER.format("dedicated") + QUARTER.format("shared").replace("-%{pid}", "") + rule_all()


def ending_within(seconds):
    """For Proxy.change: no key is said to live longer."""
    def change(path, answer):
        if path == "/key/info" and answer["info"].get("expires"):
            last = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
            if datetime.datetime.fromisoformat(answer["info"]["expires"].replace("Z", "+00:00")) > last:
                answer["info"]["expires"] = last.isoformat()
    return change


def test_key_that_stays_due_is_prolonged_ever_later(make_broker, litellm):
    with Proxy(litellm) as proxy:
        proxy.change = ending_within(200)  # a third of its life, 300 s, is what makes it due
        broker = make_broker(upstream=proxy, config=BOTH, timing={**FAST, "upstream_recheck_ms": 400}).start()
        broker.wait_ready("shared")
        wait_until(lambda: len(broker.audit(event="extend")) >= 2, what="more than one prolongation")
        proxy.counts.clear()
        time.sleep(3)  # how much is done in it is what counts: 0.8 s, then 1.6 s
        assert proxy.counts["/key/update"] <= 4, proxy.counts
        broker.stop()


@pytest.mark.parametrize("profile", ["shared", "dedicated"])
def test_key_that_lives_shorter_than_was_insisted_on_is_not_handed_out(make_broker, litellm, profile):
    with Proxy(litellm) as proxy:
        broker = make_broker(upstream=proxy, config=BOTH).start()
        broker.wait_ready("shared")
        proxy.change = ending_within(60)
        broker.restart()
        broker.wait_ready("shared")
        with pytest.raises(RpcError) as refusal:
            broker.acquire(profile=profile, min_valid_ms=600000, bind="ttl")
        assert refusal.value.code == "upstream_refused" and "min_valid_ms" in refusal.value.text
        assert not broker.rows("SELECT id FROM lease")
        assert broker.acquire(profile=profile, bind="ttl")["expires_at_ms"] / 1000 < time.time() + 61, "who does not insist"
        broker.stop()


def test_loop_of_wishes_for_the_whole_life_asks_upstream_no_more(make_broker, litellm):
    broker = make_broker(config=BOTH).start()
    broker.wait_ready("shared")
    litellm.clear_calls()
    with broker.rpc() as connection:
        for profile in ("shared", "dedicated"):
            lease = connection.call("acquire", profile=profile, min_valid_ms=900000, bind="ttl")["lease"]
            for _ in range(100):
                reply = connection.call("acquire", lease=lease, min_valid_ms=900000)
                assert reply["expires_at_ms"] / 1000 > time.time() + 800
    assert litellm.calls("/key/update") == []


def test_loop_of_wishes_that_upstream_does_not_fulfil_asks_it_seldom(make_broker, litellm):
    with Proxy(litellm) as proxy:
        broker = make_broker(upstream=proxy, config=BOTH).start()
        broker.wait_ready("shared")
        proxy.change = ending_within(400)
        with broker.rpc() as connection:
            broker.restart()
            broker.wait_ready("shared")
        with broker.rpc() as connection:
            lease = connection.call("acquire", profile="shared", bind="ttl")["lease"]
            proxy.counts.clear()
            for _ in range(100):
                with pytest.raises(RpcError) as refusal:
                    connection.call("acquire", lease=lease, min_valid_ms=800000)
                assert refusal.value.code == "upstream_refused"
        assert proxy.counts["/key/update"] <= 2, proxy.counts
        broker.stop()
