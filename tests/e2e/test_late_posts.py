"""A POST that was answered, or that may yet be carried out: its key is never forgotten, and never comes back to life."""

import contextlib

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.rpc import RpcError
from harness.upstream import accounted_for, ours, row_of
from harness.wait import stays, wait_until

# No sweep in sight: it would tidy up what these tests are about.
TIMES = {**FAST, "sweep_every_ms": 600000, "takeover_ms": 200, "burn_delete_ms": 600}
GENERATE = "/key/generate"
REFUSED = {"error": {"message": "model not allowed", "type": "bad_request_error", "param": None, "code": "400"}}
EXTRA = MANY + rule_all() + 'profile "extra" {\n mode = dedicated\n alias = "extra"\n models = { "gpt-5" }\n}\n'


def info(**changed):
    """A body of /key/info that isn't about our key."""
    body = {"key_alias": "x", "expires": None, "blocked": None, "user_id": "x", "models": [], "team_id": None,
            "metadata": {"keybroker": {"install": "x", "intent": "x"}}}
    return {"key": "0" * 64, "info": {**body, **changed}}


UNUSABLE = {
    "unavailable": {"status": 500},
    "somebody else's": {"status": 200, "body": info()},
    "without our mark": {"status": 200, "body": info(metadata={})},
    "blocked": {"status": 200, "body": info(blocked=True)},
    "refused": {"status": 403, "body": REFUSED},
}


def given_up(broker, profile):
    """Is the intent gone, or on its way out by being blocked upstream?"""
    states = [row["state"] for row in broker.rows("SELECT state FROM key WHERE profile = ?", profile)]
    return states and "intent" not in states or broker.litellm.calls("/key/block")


def nothing_left(broker, litellm, user_id):
    """Upstream has the key of `service` and no other."""
    wait_until(lambda: len(ours(litellm, user_id)) == 1, 5, lambda: f"only one key\n{ours(litellm, user_id)}")
    accounted_for(broker, litellm, 5)


# --- answered, yet given up ---

@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("chosen_by", ["us", "upstream"])
def test_minted_key_that_nobody_gets_does_not_stay_upstream(make_broker, litellm, name, chosen_by):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    user_id = broker.user_id
    litellm.mode(forbid_custom_keys=chosen_by == "upstream")
    litellm.fail(path="/key/info", times=-1, **UNUSABLE[name])
    with pytest.raises(RpcError):
        broker.acquire(profile="process", timeout_ms=300)
    wait_until(lambda: given_up(broker, "process") or len(ours(litellm, user_id)) == 1, what="the end of the intent")
    litellm.clear()
    nothing_left(broker, litellm, user_id)


def test_minted_key_of_a_profile_that_goes_does_not_stay_upstream(make_broker, litellm):
    broker = make_broker(config=EXTRA, env=DROPIN, timing=TIMES).start()
    broker.wait_ready()
    user_id = broker.user_id
    litellm.fail(path="/key/info", status=500, times=-1)
    with broker.rpc() as connection:
        waiting = connection.send("acquire", profile="extra", timeout_ms=3000)
        wait_until(lambda: [key for key in litellm.keys() if key["key_alias"] == "extra"], what="the key upstream")
        broker.write_config(MANY + rule_all())
        broker.admin("reload")
        assert connection.reply(waiting)[0]["code"] in ("unknown_profile", "upstream_unavailable")
    wait_until(lambda: given_up(broker, "extra"), what="the end of the intent")
    litellm.clear()
    nothing_left(broker, litellm, user_id)


def test_imported_key_leaves_no_minted_one_behind(make_broker, litellm):
    """It takes the place of an intent whose POST was answered already."""
    old = "sk-of-the-old-provisioner-0123456789"
    litellm.add_key(old, key_alias="old-name")
    litellm.fail(path="/key/info", status=500, times=-1)
    broker = make_broker(timing={**TIMES, "upstream_recheck_ms": 8000, "breaker_ms": 1}).start()
    broker.secrets.add(old)
    wait_until(lambda: len(litellm.keys()) == 2 and len(litellm.calls("/key/info")) >= 3, what="a mint without its info")
    litellm.clear()
    broker.admin("import", token=old, alias="old-name")
    wait_until(lambda: [key["token"] for key in litellm.keys()] == [key_hash(old)], 5, "only the imported key")
    wait_until(lambda: [row["hash"] for row in broker.rows("SELECT hash FROM key WHERE state <> 'deleted'")] == [key_hash(old)],
               5, "and in the store")


# --- late ---

@pytest.mark.parametrize("end", ["released", "revoked", "restarted"])
def test_late_first_post_does_not_bring_a_dedicated_key_back(make_broker, litellm, end):
    """The second POST makes the key; the first, given up long ago, comes when its lease is over."""
    times = {**TIMES, "upstream_timeout_ms": 300, "burn_delete_ms": 2500}
    broker = make_broker(timing=times).start()
    broker.wait_ready()
    user_id = broker.user_id
    litellm.clear_calls()
    litellm.fail(path=GENERATE, delay_ms=1500, times=1)
    reply = broker.acquire(profile="process", bind="ttl")
    key = reply["api_key"]
    assert litellm.chat(key)[0] == 200
    if end == "revoked":
        broker.admin("revoke", profile="process")
    else:
        broker.call("release", lease=reply["lease"])
    if end == "restarted":
        broker.kill()
        broker.start()
    wait_until(lambda: litellm.chat(key)[0] == 401, what="the end of its life")
    first = litellm.calls(GENERATE)[0]
    assert first["status"] == 0, "the first POST is still on its way"
    wait_until(lambda: litellm.calls(GENERATE)[0]["status"] != 0, what="the first POST")
    stays(lambda: litellm.chat(key)[0] == 401, 0.5)
    nothing_left(broker, litellm, user_id)


def test_late_first_post_does_not_bring_a_revoked_shared_key_back(make_broker, litellm):
    times = {**TIMES, "upstream_timeout_ms": 300, "burn_delete_ms": 2500}
    litellm.fail(path=GENERATE, delay_ms=1500, times=1)
    broker = make_broker(timing=times).start()
    broker.wait_ready()
    key = broker.acquire(bind="ttl")["api_key"]
    litellm.fail(path=GENERATE, status=503, times=-1)  # no new generation takes the name meanwhile
    broker.admin("revoke", profile="service")
    wait_until(lambda: litellm.chat(key)[0] == 401, what="the end of its life")
    assert litellm.calls(GENERATE)[0]["status"] == 0, "the first POST is still on its way"
    wait_until(lambda: litellm.calls(GENERATE)[0]["status"] != 0, what="the first POST")
    stays(lambda: litellm.chat(key)[0] == 401, 0.5)
    litellm.clear()
    wait_until(lambda: row_of(litellm, key) is None, what="its deletion")
    nothing_left(broker, litellm, broker.user_id)


# --- whose secret it is ---

def test_key_that_we_chose_counts_as_ours(broker):
    broker.acquire(profile="process", bind="ttl")
    assert {row["source"] for row in broker.rows("SELECT source FROM key")} == {"minted"}


def test_repeated_post_asks_for_the_same_key(make_broker, litellm):
    """After a 200 whose /key/info failed: without our key in it, the repeat would be a second mint."""
    litellm.fail(path="/key/info", status=500, times=3)
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    posts = litellm.calls(GENERATE)
    assert len(posts) >= 2 and all("key" in post["body_fields"] for post in posts)
    assert len({tuple(post["targets"]) for post in posts}) == 1 and len(litellm.keys()) == 1


def test_other_key_in_the_answer_is_not_handed_out(make_broker, litellm):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    litellm.clear_calls()
    other = {"key": "sk-something-else-0123456789abcdef", "token": "a" * 64, "expires": None}
    litellm.fail(path=GENERATE, when="after", status=200, body=other)
    reply = broker.acquire(profile="process", bind="ttl")
    assert reply["api_key"] != other["key"] and litellm.chat(reply["api_key"])[0] == 200
    assert len(litellm.calls(GENERATE)) == 1


# --- no attempt that nobody knows of ---

def test_post_is_not_repeated_behind_our_back(make_broker, litellm):
    """A kept-alive connection that ends without an answer invites HTTP libraries to send it again by themselves."""
    broker = make_broker(timing={**TIMES, "retry_base_ms": 60000}).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path=GENERATE, drop_after=0, times=1)
    with contextlib.suppress(RpcError):
        broker.acquire(profile="process", timeout_ms=500)
    assert [call["status"] for call in litellm.calls(GENERATE)] == [0]


def test_refusal_after_a_lost_answer_does_not_end_the_intent(make_broker, litellm):
    """Only the second attempt was refused: the first may still be carried out, so its place is taken."""
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path=GENERATE, drop_after=0, times=1)
    litellm.fail(path=GENERATE, status=400, body=REFUSED, times=1)
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", timeout_ms=3000)
    assert refusal.value.code == "upstream_refused"
    wait_until(lambda: broker.audit(event="burn"), 5, "it is burned, not dropped")
    assert len(litellm.calls(GENERATE)) == 3 and "blocked" in litellm.calls(GENERATE)[2]["body_fields"]
