"""`status` says until when the clients of a profile can live without LiteLLM."""

import time

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.holder import Holder
from harness.wait import wait_until

PROFILES = """
profile "endless" {
  mode = shared
  models = { "gpt-5" }
}
profile "limited" {
  mode = shared
  models = { "gpt-5" }
  duration = "1h"
}
profile "own" {
  mode = dedicated
  models = { "gpt-5" }
  duration = "1h"
}
profile "fixed" {
  mode = static
  key_file = "KEY"
}
"""


@pytest.fixture
def broker(make_broker):
    made = make_broker(timing=FAST)
    path = made.write("provider.key", "sk-provider-0123456789abcdef")
    made.secrets.add("sk-provider-0123456789abcdef")
    made.write_config(MANY + rule_all() + PROFILES.replace("KEY", path))
    made.start()
    made.wait_ready("endless")
    made.wait_ready("limited")
    return made


def outage(broker, profile):
    return broker.profile(profile)["outage"]


def table(broker):
    """The profiles' cells of the last column."""
    lines = broker.cli("status").ok().splitlines()
    at = next(line for line in lines if line.startswith("PROFILE")).index("OUTAGE")
    return {line.split()[0]: line[at:].strip() for line in lines if line.split() and line.split()[0] in
            ("endless", "limited", "own", "fixed")}


def test_each_kind_of_profile(broker):
    assert outage(broker, "endless") == {"new_callers": True, "keys": 1, "never_expire": 1}
    assert outage(broker, "fixed") == {"new_callers": True, "keys": 1, "never_expire": 1}
    assert outage(broker, "own") == {"new_callers": False, "keys": 0, "never_expire": 0}
    limited = outage(broker, "limited")
    assert limited["new_callers"] and limited["keys"] == 1
    assert limited["first_at_ms"] == limited["last_at_ms"] == broker.acquire(profile="limited")["expires_at_ms"]
    cells = table(broker)
    assert cells["endless"] == cells["fixed"] == "no limit" and cells["own"] == "new: not at all"
    assert cells["limited"].startswith("in ") and " to " not in cells["limited"]


def test_dedicated_keys_from_the_first_to_the_last_that_is_held(broker, litellm):
    first = broker.acquire(profile="own", bind="ttl")
    with Holder(broker) as peer:
        peer.call("acquire", profile="own")
        litellm.admin("POST", "/key/update", {"key": first["api_key"], "duration": "3h"})
        until = time.time() * 1000 + 2 * 3600 * 1000
        wait_until(lambda: outage(broker, "own").get("last_at_ms", 0) > until, 5, "the end that was changed upstream")
        found = outage(broker, "own")
        assert found["keys"] == 2 and not found["new_callers"] and found["first_at_ms"] < until
        assert " to in " in table(broker)["own"] and table(broker)["own"].endswith("; new: not at all")
    wait_until(lambda: outage(broker, "own")["keys"] == 1, 5, "the end of the other's lease")
    assert outage(broker, "own")["first_at_ms"] > until


def test_keys_of_a_pool_are_for_new_callers(make_broker, own_litellm):
    config = 'profile "job" { mode = dedicated duration = 30m pool = 2 models = { "m" } }\n' + rule_all()
    broker = make_broker(config=config, upstream=own_litellm, timing=FAST).start()
    wait_until(lambda: broker.profile("job")["pool"]["ready"] == 2, what="the pool")
    own_litellm.stop()
    for left in (2, 1):
        says = outage(broker, "job")
        assert says["new_callers"] and says["keys"] == 2 and says["first_at_ms"], left
        broker.acquire(profile="job", bind="ttl")
    assert not outage(broker, "job")["new_callers"] and outage(broker, "job")["keys"] == 2


def test_what_it_says_comes_true_while_litellm_is_down(make_broker, own_litellm):
    short = {**FAST, "duration_min_ms": 1000, "extend_floor_ms": 0}
    broker = make_broker(upstream=own_litellm, env={"LITELLM_SERVICE_KEY_DURATION": "3s"}, timing=short).start()
    broker.wait_ready()
    own_litellm.stop()
    says = outage(broker, "service")
    assert says["new_callers"] and broker.acquire()["expires_at_ms"] == says["last_at_ms"]
    wait_until(lambda: time.time() * 1000 > says["last_at_ms"], 5, "the end that it said")
    assert not outage(broker, "service")["new_callers"] and broker.profile()["state"] == "expired"
    assert broker.admin("status")["upstream"]["since_at_ms"] <= time.time() * 1000


def test_since_when_litellm_is_away_is_a_time(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    broker.wait_ready()
    own_litellm.stop()
    before = time.time() * 1000
    with Holder(broker) as peer, pytest.raises(Exception):
        peer.call("acquire", profile="process", timeout_ms=1000)
    upstream = broker.admin("status")["upstream"]
    assert not upstream["reachable"] and before - 1000 <= upstream["since_at_ms"] <= time.time() * 1000
    assert "since_ms" not in upstream
    assert "NOT reachable since " in broker.cli("status").ok()
