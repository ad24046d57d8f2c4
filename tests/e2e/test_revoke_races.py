"""A key is revoked while somebody waits for it."""

import time

import pytest

from harness.broker import FAST
from harness.rpc import RpcError
from harness.wait import wait_until


@pytest.mark.parametrize("call", ["/key/update", "/key/info"])
def test_caller_who_waits_for_a_longer_life_does_not_get_the_revoked_key(make_broker, litellm, call):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "5m"}, timing={**FAST, "extend_loss_ms": 0}).start()
    broker.wait_ready()
    old = broker.acquire(bind="ttl")
    wait_until(lambda: old["expires_at_ms"] - time.time() * 1000 < 299700, what="a life too short for the next caller")
    litellm.clear_calls()
    litellm.fail(path=call, delay_ms=500)
    with broker.rpc() as connection:
        waiting = connection.send("acquire", bind="ttl", min_valid_ms=299700, timeout_ms=5000)
        wait_until(lambda: litellm.calls(call), what="the call that is to prolong it")
        broker.admin("revoke", profile="service")
        error, result = connection.reply(waiting)
    if error is None:
        assert result["api_key"] != old["api_key"] and litellm.chat(result["api_key"])[0] == 200
    else:
        assert error["code"] == "upstream_unavailable" and error["retry_after_ms"] <= 1000
    revoked = broker.audit(event="revoke")[0]["sequence"]
    tag = broker.tag(old["api_key"])
    assert not [row for row in broker.audit(event="acquire") if row["sequence"] > revoked and row.get("key_tag") == tag]
    wait_until(lambda: litellm.chat(old["api_key"])[0] == 401, what="the revoked key's end")
    assert wait_until(lambda: _granted(broker), 5, "a new key")["generation"] >= 2


def _granted(broker):
    try:
        return broker.acquire(bind="ttl", timeout_ms=500)
    except RpcError:
        return None
