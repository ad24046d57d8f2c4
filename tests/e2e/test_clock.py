"""Somebody sets the wall clock, which libfaketime does here for the daemon alone."""

import glob
import time

import pytest

from harness.broker import FAST, key_hash
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import wait_gone
from harness.wait import stays, wait_until

pytestmark = pytest.mark.unsanitized
TICK = {**FAST, "checkpoint_every_ms": 100}
HOUR = 3600


class Clock:
    """The daemon's wall clock: its distance to the real one, in seconds. Its other clocks are the real ones."""

    def __init__(self, path, library):
        self.path = str(path)
        self.env = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.set(0)

    def set(self, seconds):
        """Sets it."""
        with open(self.path, "w", encoding="ascii") as file:
            file.write(f"{seconds:+}\n")


@pytest.fixture
def clock(tmp_path):
    """A clock that can be set."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not libraries:
        pytest.skip("needs libfaketime (Debian: faketime)")
    return Clock(tmp_path / "clock", libraries[0])


def start(make_broker, clock, **env):
    """A broker under that clock."""
    broker = make_broker(env={**clock.env, **env}, timing=TICK).start()
    broker.wait_ready()
    return broker


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_lease_ends_after_its_time_whatever_the_clock_says(make_broker, litellm, clock, seconds):
    broker = start(make_broker, clock)
    begin = time.monotonic()
    reply = broker.acquire(profile="process", bind="ttl", ttl_ms=1500)
    clock.set(seconds)
    states = "SELECT state FROM lease"
    stays(lambda: broker.rows(states) == [{"state": "active"}], 1.2 - (time.monotonic() - begin))
    wait_until(lambda: broker.rows(states) == [{"state": "expired"}], 2.5, "its end")
    assert time.monotonic() - begin >= 1.4
    wait_gone(litellm, reply["api_key"])


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_lease_that_a_new_leader_finds_ends_after_its_time_whatever_the_clock_says(make_broker, litellm, clock, seconds):
    """The clock is set between two terms."""
    broker = start(make_broker, clock)
    begin = time.monotonic()
    replies = [broker.acquire(profile="process", bind="ttl", ttl_ms=60000) for _ in range(2)]
    broker.call("renew", lease=replies[0]["lease"], ttl_ms=4000)
    broker.kill()
    clock.set(seconds)
    broker.start()
    active = "SELECT count(*) FROM lease WHERE state = 'active'"
    stays(lambda: broker.count(active) == 2, 3.5 - (time.monotonic() - begin))
    wait_until(lambda: broker.count(active) == 1, 3, "its end")
    assert time.monotonic() - begin >= 3.9
    wait_gone(litellm, replies[0]["api_key"])
    assert broker.call("renew", lease=replies[1]["lease"])["ttl_ms"] == 900000


def test_renewed_lease_lives_on_after_the_clock_was_set_back(make_broker, litellm, clock):
    broker = start(make_broker, clock)
    reply = broker.acquire(profile="process", bind="ttl", ttl_ms=1000)
    clock.set(-HOUR)
    begin = time.monotonic()
    broker.call("renew", lease=reply["lease"], ttl_ms=2000)
    stays(lambda: litellm.chat(reply["api_key"])[0] == 200, 1.5)
    wait_gone(litellm, reply["api_key"], 3)
    assert time.monotonic() - begin >= 1.8


def test_last_third_is_that_of_the_last_renewal(make_broker, clock):
    """The lease is an hour old, and each renewal gives it four seconds."""
    broker = start(make_broker, clock)
    with broker.rpc() as connection:
        connection.call("watch")
        reply = connection.call("acquire", bind="ttl", ttl_ms=60000)
        clock.set(HOUR)
        connection.call("renew", lease=reply["lease"], ttl_ms=4000)
        connection.wait_notifications(1)
        (method, (what,)), = connection.notifications
        assert (method, what["lease"]) == ("expiring", reply["lease"])


def test_grace_lasts_whatever_the_clock_says(make_broker, litellm, clock):
    broker = make_broker(env=clock.env, timing={**TICK, "grace_ms": 600000}).start()
    broker.wait_ready()
    with Holder(broker) as one, Holder(broker) as two:
        keys = [one.call("acquire")["api_key"], two.call("acquire", refreshable=False)["api_key"]]
        broker.admin("rotate", profile="service")
        clock.set(48 * HOUR)
        broker.admin("rotate", profile="service")
        stays(lambda: all(litellm.chat(key)[0] == 200 for key in keys), 3)


def test_grace_is_no_longer_for_who_leads_next_with_a_clock_that_is_behind(make_broker, litellm, clock):
    broker = make_broker(env=clock.env, timing={**TICK, "grace_ms": 2000}).start()
    broker.wait_ready()
    old = broker.acquire(bind="ttl")["api_key"]
    broker.admin("rotate", profile="service")
    clock.set(-HOUR)
    broker.restart()
    wait_gone(litellm, old, 10)


def test_shared_keys_are_asked_about_again_after_a_jump(make_broker, litellm, clock):
    """Their ends were worked out with the old clock."""
    broker = start(make_broker, clock, LITELLM_SERVICE_KEY_DURATION="30m")
    key = broker.acquire(bind="ttl")["api_key"]
    before, = broker.rows("SELECT expires_at_ms FROM key")
    litellm.clear_calls()
    clock.set(-2 * HOUR)
    wait_until(lambda: [call for call in litellm.calls("/key/info") if key_hash(key) in call["targets"]], what="the question")
    wait_until(lambda: broker.rows("SELECT expires_at_ms FROM key") != [before], what="its end by the new clock")
    after, = broker.rows("SELECT expires_at_ms FROM key")
    assert abs(before["expires_at_ms"] - after["expires_at_ms"] - 2 * HOUR * 1000) < 10000
    assert broker.acquire(bind="ttl")["api_key"] == key and litellm.chat(key)[0] == 200


def test_retiring_key_that_a_fixed_lease_holds_is_prolonged_after_the_clock_was_set_back(make_broker, litellm, clock):
    broker = make_broker(env={**clock.env, "LITELLM_SERVICE_KEY_DURATION": "6s"},
                         timing={**TICK, "duration_min_ms": 1000, "extend_floor_ms": 3000, "grace_ms": 500}).start()
    broker.wait_ready()
    with Holder(broker) as holder:
        key = holder.call("acquire", refreshable=False)["api_key"]
        broker.admin("rotate", profile="service")
        litellm.clear_calls()
        clock.set(-HOUR)
        stays(lambda: litellm.chat(key)[0] == 200, 7)
    wait_gone(litellm, key)


def test_small_corrections_of_the_clock_change_nothing(make_broker, litellm, clock):
    broker = start(make_broker, clock)
    litellm.clear_calls()
    clock.set(1)
    stays(lambda: litellm.calls("/key/info") == [], 0.5)


def test_burned_key_waits_for_late_requests_whatever_the_clock_says(make_broker, litellm, clock):
    """One that comes after the deletion would bring the key back."""
    broker = make_broker(env=clock.env, timing={**TICK, "burn_delete_ms": 4000, "upstream_timeout_ms": 300}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=1000, times=3)
    with pytest.raises(RpcError):
        broker.acquire(profile="process", bind="ttl", timeout_ms=100)
    burned = "SELECT state FROM key WHERE state = 'burned'"
    wait_until(lambda: broker.rows(burned), what="the burned key")
    clock.set(HOUR)
    broker.kill()
    broker.start()
    stays(lambda: broker.rows(burned), 1.0)
    wait_until(lambda: not broker.rows(burned), 10, "its end")
