"""Leases against a real LiteLLM: LITELLM_BASE_URL, LITELLM_MASTER_KEY."""

import signal
import time

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.holder import Holder
from harness.upstream import accounted_for, row_of, wait_gone

pytestmark = pytest.mark.live


@pytest.fixture
def started(make_live_broker, live):
    """A running broker; its install is remembered, so that its keys are cleaned up."""
    broker = make_live_broker(config=MANY + rule_all(), timing={**FAST, "takeover_ms": 10000}).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    return broker


@pytest.mark.parametrize("bind", ["process", "connection", "ttl"])
def test_key_is_gone_a_second_after_its_holder(started, live, bind):
    with Holder(started) as peer:
        reply = peer.call("acquire", profile="process", bind=bind, **({"ttl_ms": 2000} if bind == "ttl" else {}))
        assert live.chat(reply["api_key"])[0] == 200
        if bind == "process":
            peer.kill(signal.SIGKILL)
        elif bind == "connection":
            peer.hang_up()
        ended = reply["lease_ends_at_ms"] / 1000 if bind == "ttl" else time.time()
        wait_gone(live, reply["api_key"])
        assert time.time() - ended < 1.5, "a second, and the time that the question took"
    accounted_for(started, live)


def test_connection_lease_is_taken_up_after_a_change_of_leader(started, live):
    with Holder(started) as peer:
        reply = peer.call("acquire", profile="process", bind="connection")
        started.kill()
        started.start()
        peer.hang_up()
        assert peer.call("acquire", lease=reply["lease"])["api_key"] == reply["api_key"]
        assert live.chat(reply["api_key"])[0] == 200 and row_of(live, reply["api_key"])
        peer.hang_up()
        wait_gone(live, reply["api_key"])
