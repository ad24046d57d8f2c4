"""The sweep's list also tells of keys that were changed behind the broker's back, and of what it never saw before."""

import pytest

from harness.broker import FAST, MANY, key_hash, rule_all
from harness.upstream import row_of
from harness.wait import stays, wait_until


@pytest.fixture
def limited(make_broker):
    """A broker whose shared key ends in an hour."""
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "1h"}, timing=FAST).start()
    broker.wait_ready()
    return broker


def test_end_that_was_changed_upstream_is_taken_over(limited, litellm):
    reply = limited.acquire(bind="ttl")
    litellm.admin("POST", "/key/update", {"key": reply["api_key"], "duration": "2h"})
    ends = "SELECT expires_at_ms FROM key WHERE state = 'live'"
    wait_until(lambda: limited.count(ends) - reply["expires_at_ms"] > 3000000, 5, "the new end")
    assert limited.acquire(bind="ttl")["api_key"] == reply["api_key"]


def test_key_that_was_blocked_upstream_is_replaced(limited, litellm):
    key = limited.acquire(bind="ttl")["api_key"]
    litellm.admin("POST", "/key/block", {"key": key_hash(key)})
    reply = wait_until(lambda: limited.profile().get("generation") == 2 and limited.acquire(bind="ttl"), 5, "the next generation")
    assert reply["api_key"] != key and litellm.chat(reply["api_key"])[0] == 200


def test_upstream_that_comes_with_a_reload_is_swept(make_broker, litellm):
    static = 'profile "fixed" {{\n mode = static\n key_file = "{}"\n base_url = "http://127.0.0.1:9/v1"\n}}\n'
    broker = make_broker(upstream=None, timing=FAST)
    path = broker.write("key", "sk-static-0123456789abcdef")
    broker.write_config(MANY + rule_all() + static.format(path))
    broker.start()
    stray = "sk-stray-of-this-install-0123456789"
    litellm.add_key(stray, key_alias="stray", user_id=broker.user_id)
    master = broker.write("master", litellm.master_key)
    upstream = f'upstream {{\n url = "{litellm.url}"\n master_key_file = "{master}"\n}}\n'
    broker.write_config(upstream + MANY + rule_all() + static.format(path))
    broker.admin("reload")
    wait_until(lambda: row_of(litellm, stray) is None, 5, "the sweep")


def test_stray_that_is_imported_while_another_is_deleted_stays(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    strays = [f"sk-stray-{n}-of-this-install-0123456789" for n in range(2)]
    litellm.fail(path="/key/delete", delay_ms=1500, times=1)
    for stray in strays:
        broker.secrets.add(stray)
        litellm.add_key(stray, key_alias=stray[:11], user_id=broker.user_id)
    call = wait_until(lambda: litellm.calls("/key/delete"), 5, "the first deletion")[0]
    going, kept = sorted(strays, key=lambda stray: key_hash(stray) not in call["targets"])
    broker.admin("import", profile="service", token=kept, alias="kept")
    assert row_of(litellm, going), "the deletion was still under way"
    wait_until(lambda: row_of(litellm, going) is None, 5, "the first deletion")
    stays(lambda: row_of(litellm, kept) is not None, 1.2)
    assert broker.acquire(bind="ttl")["api_key"] == kept and litellm.chat(kept)[0] == 200


@pytest.mark.parametrize("status, times", [(403, 1), (500, 3)], ids=["refused", "failed"])
def test_stray_that_cannot_be_deleted_is_in_no_other_ones_way(make_broker, litellm, status, times):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    user_id = broker.user_id
    broker.stop()  # so that the first sweep sees them all
    strays = [f"sk-stray-{n}-of-this-install-0123456789" for n in range(3)]
    litellm.fail(path="/key/delete", status=status, times=times,
                 body={"error": {"message": "no", "type": "auth_error", "param": None, "code": str(status)}})
    litellm.clear_calls()
    for stray in strays:
        broker.secrets.add(stray)
        litellm.add_key(stray, key_alias=stray[:10], user_id=user_id)
    broker.start()
    wait_until(lambda: not any(row_of(litellm, stray) for stray in strays), 10, "the end of all three")
    calls = [call for call in litellm.calls() if call["path"] in ("/key/delete", "/key/list")]
    deletions = [call for call in calls if call["path"] == "/key/delete"]
    kept = deletions[0]["targets"]
    assert [call["targets"] == kept for call in deletions] == [True] * times + [False, False, True]
    if status == 403:
        assert calls[calls.index(deletions[0]) + 1] is deletions[1], "in the same sweep"
    assert broker.log.count("a stray key could not be deleted (sk-stray-") == 1
    assert len(broker.audit(event="sweep")) == 3
