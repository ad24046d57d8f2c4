"""A shared profile with two intents in its store: one given up and not yet burned, and the next one."""

import pytest

from harness.broker import FAST, key_hash
from harness.upstream import accounted_for
from harness.wait import wait_until

TIMES = {**FAST, "upstream_timeout_ms": 200, "retry_attempts": 2, "sweep_every_ms": 600000, "burn_delete_ms": 600}
REFUSED = {"error": {"message": "model not allowed", "type": "bad_request_error", "param": None, "code": "400"}}
INTENTS = "SELECT id, hash, generation FROM key WHERE state = 'intent' ORDER BY generation"


@pytest.fixture(params=["before", "after"])
def two_intents(request, make_broker, litellm):
    """A killed broker with two intents; upstream has, or has not, the key of the first."""
    litellm.fail(path="/key/generate", hang=True, when=request.param, times=1)
    litellm.fail(path="/key/generate", status=400, body=REFUSED, times=1)
    litellm.fail(path="/key/generate", status=503, times=-1)
    litellm.fail(path="/key/block", status=503, times=-1)
    broker = make_broker(timing=TIMES).start()
    wait_until(lambda: len(broker.rows(INTENTS)) == 2, what="two intents")
    broker.kill()
    litellm.clear()
    return broker


def test_restart_with_two_intents_makes_one_of_them_live(two_intents, litellm):
    broker = two_intents
    intents = broker.rows(INTENTS)
    broker.start()
    broker.wait_ready()
    reply = broker.acquire(bind="ttl")
    assert litellm.chat(reply["api_key"])[0] == 200, "it is one that upstream has"
    assert key_hash(reply["api_key"]) in [row["hash"] for row in intents], "and one of the two"
    accounted_for(broker, litellm)
    assert broker.running
    live, = broker.rows("SELECT hash FROM key WHERE state = 'live'")
    assert live["hash"] == key_hash(reply["api_key"])
    wait_until(lambda: [key["token"] for key in litellm.keys()] == [live["hash"]], what="the other one's deletion")


def test_other_one_is_burned_and_the_profile_goes_on(two_intents, litellm):
    broker = two_intents
    broker.start()
    broker.wait_ready()
    wait_until(lambda: broker.audit(event="burn"), what="the burn of the other one")
    generation = broker.acquire(bind="ttl")["generation"]
    assert broker.admin("rotate", profile="service")["generation"] == generation + 1
    broker.restart()
    assert broker.acquire(bind="ttl")["generation"] == generation + 1
    accounted_for(broker, litellm)
