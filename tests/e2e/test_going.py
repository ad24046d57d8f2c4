"""Somebody waits for a key, or by a lease, that is on its way out when a stop or a revocation comes."""

import contextlib
import signal

import pytest

from harness.broker import FAST as SHORT
from harness.upstream import accounted_for, unread_answers
from harness.wait import wait_until

LIFE = 600000
FAST = {**SHORT, "extend_loss_ms": 0}  # who asks for the whole life waits until the key is prolonged
LONG = {"LITELLM_SERVICE_KEY_DURATION": "10m", "LITELLM_KEY_DURATION": "10m"}
REFUSED = {"error": {"message": "model not allowed", "type": "bad_request_error", "param": None, "code": "400"}}


@contextlib.contextmanager
def waiting_to_live_longer(broker, litellm, lease):
    """A caller of this lease waits for its key to be prolonged; yields what asks for its reply."""
    litellm.clear_calls()
    litellm.fail(path="/key/update", hang=True, times=-1)
    with broker.rpc() as connection:
        number = connection.send("acquire", lease=lease, min_valid_ms=LIFE, timeout_ms=20000)
        wait_until(lambda: litellm.calls("/key/update"), what="the call that is to prolong it")
        yield lambda: connection.reply(number, 5)


# --- a stop ---

@pytest.mark.parametrize("profile", ["service", "process"])
def test_stop_answers_who_waits_for_a_key_that_is_going(make_broker, litellm, profile):
    broker = make_broker(env=LONG, timing=FAST).start()
    broker.wait_ready()
    lease = broker.acquire(profile=profile, bind="ttl", refreshable=False)["lease"]
    with waiting_to_live_longer(broker, litellm, lease) as reply:
        broker.admin("revoke", lease=lease)
        broker.stop()
        assert reply()[0]["code"] == "not_leader"


@pytest.mark.parametrize("end,codes", [("deleted", ["unknown_lease"]), ("stop", ["not_leader"]),
                                       ("both", ["unknown_lease", "not_leader"])])
def test_caller_who_waits_for_a_key_while_it_is_deleted_is_answered(make_broker, litellm, end, codes):
    """A fixed lease has held it for as long as it may."""
    broker = make_broker(env=LONG, timing={**FAST, "grace_ms": 100, "fixed_max_ms": 200, "sweep_every_ms": 600000}).start()
    broker.wait_ready()
    lease = broker.acquire(bind="ttl", refreshable=False)["lease"]
    litellm.fail(path="/key/delete", delay_ms=1000)
    broker.admin("rotate", profile="service")
    wait_until(lambda: litellm.calls("/key/delete"), what="its deletion")
    with broker.rpc() as connection:
        waiting = connection.send("acquire", lease=lease, min_valid_ms=LIFE, timeout_ms=20000)
        wait_until(lambda: connection.unread() == 0, what="that it waits")
        if end == "stop":
            broker.stop()
        elif end == "both":
            with broker.locked(), broker.held_in_a_turn():
                wait_until(lambda: unread_answers(litellm) == 1, what="upstream's answer")
                broker.process.send_signal(signal.SIGTERM)
            assert broker.wait() == 0
        assert connection.reply(waiting, 5)[0]["code"] in codes


# --- a lease that is the last to name a key ---

@pytest.fixture
def last_holder(make_broker, litellm):
    """A broker, and a lease of a generation that upstream has no more, whose row is read right after the current one's."""
    broker = make_broker(env=LONG, timing={**FAST, "grace_ms": 3000}).start()
    broker.wait_ready()
    leases, later = {}, []
    while not later:
        reply = broker.acquire(bind="ttl")
        leases[reply["generation"]] = reply["lease"]
        broker.admin("rotate", profile="service")
        *older, current = broker.rows("SELECT id, generation FROM key ORDER BY generation")
        later = [row for row in older if row["id"] > current["id"]]
    held = leases.pop(min(later, key=lambda row: row["id"])["generation"])
    for lease in leases.values():
        broker.call("release", lease=lease)
    broker.restart()
    wait_until(lambda: len(litellm.keys()) == 1, what="the end of the older generations")
    return broker, held


@pytest.mark.parametrize("end", ["stop", "revoke"])
def test_lease_that_has_ended_may_be_the_last_to_name_a_key(last_holder, litellm, end):
    """Its caller, who still waits for the current generation, takes both along."""
    broker, lease = last_holder
    with waiting_to_live_longer(broker, litellm, lease) as reply:
        broker.call("release", lease=lease)
        if end == "stop":
            broker.stop()
        else:
            broker.admin("revoke", profile="service")
        assert reply()[0]["code"] == {"stop": "not_leader", "revoke": "upstream_unavailable"}[end]


# --- an intent ---

def test_caller_who_comes_back_while_its_intent_is_dropped_is_answered(make_broker, litellm):
    """Upstream's refusal and the repeat of the request are read in one turn."""
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/generate", status=400, body=REFUSED, delay_ms=300)
    with broker.rpc() as connection, broker.rpc() as later:
        later.call("whoami")
        sent = connection.send("acquire", profile="process", request_id="same", timeout_ms=20000)
        wait_until(lambda: litellm.calls("/key/generate"), what="its POST")
        with broker.locked(), broker.held_in_a_turn():
            wait_until(lambda: unread_answers(litellm) == 1, what="the refusal")
            repeated = later.send("acquire", profile="process", request_id="same", timeout_ms=20000)
        assert connection.reply(sent)[0]["code"] == "upstream_refused"
        assert later.result(repeated, 5)["api_key"], "of an intent of its own"
    accounted_for(broker, litellm)
