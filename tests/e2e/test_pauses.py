"""An upstream that lies, or refuses for ever, is asked less and less often."""

import time

import pytest

from harness.broker import FAST, key_hash, rule_all
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.upstream import accounted_for, ours
from harness.wait import wait_until

REFUSED = {"error": {"message": "model not allowed", "type": "bad_request_error", "param": None, "code": "400"}}
UNSEEN = {"status": 404, "body": {"error": {"message": "Key not found", "type": "not_found_error", "param": "key",
                                            "code": "404"}}}
NOT_BLOCKED = {"status": 200, "body": {"key": "0" * 64, "info": {
    "key_alias": "x", "expires": None, "blocked": None, "user_id": "x", "models": [], "team_id": None, "metadata": {}}}}


def elapse(seconds):
    """Lets time pass: how much is done in it is what counts."""
    time.sleep(seconds)


# --- burning ---

@pytest.mark.parametrize("lie", [NOT_BLOCKED, UNSEEN], ids=["not blocked", "not there"])
def test_burn_that_does_not_show_is_repeated_ever_later(make_broker, litellm, lie):
    """/key/info of another LiteLLM process may be 60 s behind."""
    times = {**FAST, "upstream_timeout_ms": 200, "retry_attempts": 1, "takeover_ms": 50, "sweep_every_ms": 600000,
             "upstream_recheck_ms": 1600}
    broker = make_broker(timing=times).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", hang=True, times=1)
    with pytest.raises(RpcError):
        broker.acquire(profile="process", timeout_ms=100)
    litellm.fail(path="/key/info", times=-1, **lie)
    wait_until(lambda: litellm.calls("/key/block"), what="the burn")
    litellm.clear_calls()
    elapse(2.5)
    calls = litellm.counts()
    assert 1 <= calls["/key/info"] <= 8 and calls["/key/block"] <= 8 and calls.get("/key/generate", 0) <= 8, calls
    litellm.clear()
    wait_until(lambda: broker.audit(event="burn"), what="its end")
    accounted_for(broker, litellm)


# --- keys that seem dead as soon as they are made ---

@pytest.mark.parametrize("name", ["date", "expiry"])
def test_keys_that_look_expired_at_once_are_made_ever_less_often(make_broker, litellm, name):
    """A clock that is wrong upstream, or a Date that some proxy has cached."""
    def past(path, answer):
        if path == "/key/info" and proxy.lies:
            answer["info"]["expires"] = "2001-01-01T00:00:00Z"
    with Proxy(litellm) as proxy:
        proxy.lies = False
        broker = make_broker(upstream=proxy, env={"LITELLM_SERVICE_KEY_DURATION": "30d"}, timing=FAST).start()
        broker.wait_ready()
        user_id = broker.user_id
        if name == "date":
            proxy.skew = 40 * 86400
        proxy.change, proxy.lies = past, name == "expiry"
        proxy.counts.clear()
        with pytest.raises(RpcError):
            broker.admin("rotate", profile="service", timeout_ms=300)
        elapse(2)
        assert 1 <= proxy.counts["/key/generate"] <= 12, proxy.counts
        rows = broker.count("SELECT count(*) FROM key")
        assert rows <= 8 and broker.count("SELECT count(*) FROM audit") <= 8 * rows
        proxy.skew, proxy.lies = 0, False
        broker.admin("reload")
        reply = wait_until(lambda: _granted(broker), what="a key, since upstream is well again")
        assert litellm.chat(reply["api_key"])[0] == 200
        wait_until(lambda: len(ours(litellm, user_id)) <= 2, 10, "none of the others stays")
        broker.stop()


def _granted(broker, **params):
    try:
        return broker.acquire(bind="ttl", timeout_ms=500, **params)
    except RpcError:
        return None


def test_key_that_upstream_calls_expired_is_not_handed_out(make_broker, litellm):
    def past(path, answer):
        if path == "/key/info":
            answer["info"]["expires"] = "2001-01-01T00:00:00Z"
    with Proxy(litellm) as proxy:
        broker = make_broker(upstream=proxy, env={"LITELLM_KEY_DURATION": "30d"}, timing=FAST).start()
        broker.wait_ready()
        proxy.change = past
        with pytest.raises(RpcError) as refusal:
            broker.acquire(profile="process", bind="ttl", timeout_ms=2000)
        assert refusal.value.code == "upstream_refused" and "expired" in refusal.value.text
        assert broker.rows("SELECT id FROM lease WHERE profile = 'process'") == []
        broker.stop()


def test_revoked_fresh_key_is_replaced_at_once(make_broker, litellm):
    """The pause is for an upstream that takes keys away, not for a person who does."""
    broker = make_broker(timing={**FAST, "upstream_recheck_ms": 60000}).start()
    broker.wait_ready()
    old = broker.acquire(bind="ttl")
    for generation in (2, 3):
        broker.admin("revoke", profile="service")
        reply = broker.acquire(bind="ttl", timeout_ms=3000)
        assert reply["generation"] == generation and reply["api_key"] != old["api_key"]
        assert litellm.chat(reply["api_key"])[0] == 200


def test_fresh_key_that_dies_once_is_replaced_at_once(make_broker, litellm):
    broker = make_broker(timing={**FAST, "upstream_recheck_ms": 60000}).start()
    broker.wait_ready()
    old = broker.acquire(bind="ttl")
    broker.stop()
    litellm.admin("POST", "/key/delete", {"keys": [key_hash(old["api_key"])]})
    broker.start()
    assert broker.acquire(bind="ttl", timeout_ms=3000)["generation"] == 2


@pytest.mark.parametrize("settings", ["mode = shared", "mode = dedicated pool = 2", "mode = dedicated"])
def test_keys_that_look_blocked_at_once_are_made_ever_less_often(make_broker, litellm, settings):
    """Each is burned, and stays upstream for a while."""
    def blocked(path, answer):
        if path == "/key/info":
            answer["info"]["blocked"] = True
    with Proxy(litellm) as proxy:
        proxy.change = blocked
        config = f'profile "p" {{ {settings.replace(" pool", chr(10) + "pool")}\n models = {{ "gpt-5" }}\n alias = "p-%{{profile}}" }}\n'
        broker = make_broker(upstream=proxy, config=config + rule_all(), timing=FAST).start()
        if "pool" not in settings:
            with pytest.raises(RpcError) as refusal:
                broker.acquire(profile="p", bind="ttl")
            assert refusal.value.code == "upstream_refused" and "blocked" in refusal.value.text
        elapse(2.5)
        assert broker.count("SELECT count(*) FROM key") <= 12, proxy.counts
        if settings == "mode = dedicated":
            assert broker.count("SELECT count(*) FROM key") == 1, "one acquire, one key"
        proxy.change = lambda path, answer: None
        broker.admin("reload")
        reply = wait_until(lambda: _granted(broker, profile="p"), what="a key, since upstream is well again")
        assert litellm.chat(reply["api_key"])[0] == 200
        broker.stop()


# --- refused ---

def test_profile_that_upstream_refuses_is_tried_ever_less_often(make_broker, litellm):
    """Each try leaves a row in the store and one in the audit."""
    litellm.fail(path="/key/generate", status=400, body=REFUSED, times=-1)
    broker = make_broker(timing={**FAST, "upstream_recheck_ms": 50}).start()
    wait_until(lambda: litellm.calls("/key/generate"), what="the first try")
    elapse(2.5)  # without growing pauses: 50 tries
    assert 3 <= len(litellm.calls("/key/generate")) <= 8
    assert broker.count("SELECT count(*) FROM key") <= 8
    litellm.clear()
    broker.admin("reload")
    broker.wait_ready()
    assert broker.acquire(bind="ttl")["generation"] == 1, "what was refused was no generation"


def test_callers_of_a_refused_profile_do_not_make_it_be_tried_all_the_time(make_broker, litellm):
    litellm.fail(path="/key/generate", status=400, body=REFUSED, times=-1)
    broker = make_broker(timing={**FAST, "upstream_recheck_ms": 400}).start()
    wait_until(lambda: litellm.calls("/key/generate"), what="the first try")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert _granted(broker) is None
    assert len(litellm.calls("/key/generate")) <= 6
    litellm.clear()
    wait_until(lambda: _granted(broker), 5, "a key, since somebody asks")


# --- the sweep ---

@pytest.mark.parametrize("answered", ["no more keys", "the same keys again"])
def test_sweep_does_not_believe_any_number_of_pages(make_broker, litellm, answered):
    def endless(path, answer):
        if path == "/key/list":
            answer["total_pages"] = 2 ** 53
            if answered == "the same keys again":
                answer["keys"] = answer["keys"] or seen
            seen[:] = answer["keys"]
    seen = []
    with Proxy(litellm) as proxy:
        proxy.change = endless
        broker = make_broker(upstream=proxy, timing=FAST).start()
        broker.wait_ready()
        proxy.counts.clear()
        wait_until(lambda: proxy.counts["/key/list"] >= 2, what="a sweep")
        elapse(1)
        assert proxy.counts["/key/list"] <= 20
        broker.stop()


# --- names ---

def test_outage_while_a_name_is_looked_for_is_not_a_taken_name(make_broker, litellm):
    litellm.add_key("sk-somebody-elses-0123456789abcdef", key_alias="agents-service")
    litellm.fail(path="/key/list", status=500, times=-1)
    broker = make_broker(timing={**FAST, "retry_attempts": 1, "breaker_ms": 1, "upstream_recheck_ms": 80}).start()
    wait_until(lambda: len(litellm.calls("/key/list")) >= 15, what="more looks than names are tried")
    litellm.clear()
    broker.wait_ready()
    assert broker.acquire(bind="ttl")["generation"] == 1 and not broker.audit(event="mint", outcome="refused")
