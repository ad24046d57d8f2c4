"""The warm pool of a dedicated profile: keys that are ready before anybody asks, each for one lease."""

import contextlib
import os
import random
import time

import pytest

from harness.broker import FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.instances import Instances
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, ours, row_of, unread_answers, wait_gone
from harness.users import STRANGER, need_root
from harness.wait import stays, wait_until

HOUR, DAY = 3600, 86400


def config(pool=3, more="", rules=None):
    """One profile with a pool."""
    return (MANY + (rules or rule_all()) +
            f'profile "job" {{ mode = dedicated models = {{ "gpt-5" }} alias = "job-%{{uid}}-%{{pid}}" pool = {pool} {more} }}\n')


def pool_of(broker):
    """The pool in `status`."""
    return broker.profile("job")["pool"]


def wait_full(broker, n=3, timeout=10):
    """Waits until the pool is full."""
    wait_until(lambda: pool_of(broker)["ready"] == n and pool_of(broker)["making"] == 0, timeout,
               lambda: f"a full pool: {pool_of(broker)}\n{broker.log}")


def unassigned(litellm, broker):
    """Keys upstream that work and that no caller has."""
    stored = {row["hash"] for row in broker.rows("SELECT hash FROM key WHERE uid >= 0")}
    return [key for key in ours(litellm, broker.user_id).values() if not key["blocked"] and key["token"] not in stored]


@pytest.fixture
def pooled(make_broker):
    broker = make_broker(config(), timing=FAST).start()
    wait_full(broker)
    return broker


def test_pool_is_full_before_anybody_asks(pooled, litellm):
    keys = unassigned(litellm, pooled)
    assert len(keys) == 3 and pooled.admin("status")["leases"] == 0
    for key in keys:
        assert key["key_alias"].startswith("job-pool-") and len(key["key_alias"]) == len("job-pool-") + 8
        assert key["metadata"]["keybroker"]["install"] == pooled.install and key["allowed_routes"] == ["llm_api_routes"]
    for row in pooled.rows("SELECT * FROM key"):
        assert (row["uid"], row["request_id"], row["state"]) == (-1, "", "live")
        assert 0 < row["expires_at_ms"] / 1000 - time.time() <= HOUR  # the profile's is 30 days
    assert "3 of 3 ready" in pooled.cli("status").ok()


def test_pool_serves_as_many_callers_as_it_has_keys_while_upstream_is_down(pooled, litellm):
    litellm.fail(path="*", hang=True, times=-1)
    litellm.clear_calls()
    with Holder(pooled) as one, Holder(pooled) as two, Holder(pooled) as three, Holder(pooled) as four:
        replies = [peer.call("acquire", profile="job", timeout_ms=2000) for peer in (one, two, three)]
        assert len({reply["api_key"] for reply in replies}) == 3
        with pytest.raises(RpcError) as refusal:
            four.call("acquire", profile="job", timeout_ms=300)
        assert refusal.value.code == "upstream_unavailable"
        litellm.clear()
        assert all(litellm.chat(reply["api_key"])[0] == 200 for reply in replies)
        wait_full(pooled)
        for reply in replies:
            row, = pooled.rows("SELECT * FROM key WHERE hash = ?", key_hash(reply["api_key"]))
            assert row["uid"] == os.getuid() and row["state"] == "live"
        three.kill()
        wait_gone(litellm, replies[2]["api_key"])
    accounted_for(pooled, litellm)


@pytest.mark.parametrize("duration, life", [("30d", 30 * DAY), ("90m", 1.5 * HOUR)])
def test_key_that_is_handed_out_gets_its_name_and_its_life(make_broker, litellm, duration, life):
    broker = make_broker(config(more=f'duration = "{duration}"'), timing=FAST).start()
    wait_full(broker)
    reply = broker.acquire(profile="job")
    assert (reply["expires_at_ms"] / 1000 - time.time()) <= HOUR
    wait_until(lambda: row_of(litellm, reply["api_key"])["key_alias"] == f"job-{os.getuid()}-{os.getpid()}", what="its name")
    wait_until(lambda: broker.acquire(lease=reply["lease"])["expires_at_ms"] / 1000 - time.time() > life - 60, what="its life")
    assert broker.audit(event="extend")


def test_name_that_is_taken_costs_nothing_but_the_name(pooled, litellm):
    name = f"job-{os.getuid()}-{os.getpid()}"
    litellm.add_key("sk-of-somebody-else-0123456789", key_alias=name)
    reply = pooled.acquire(profile="job")
    wait_until(lambda: row_of(litellm, reply["api_key"])["key_alias"].startswith(name + "-"), what="its name")
    assert litellm.chat(reply["api_key"])[0] == 200
    assert row_of(litellm, "sk-of-somebody-else-0123456789")["key_alias"] == name


def test_hand_out_is_on_record_in_one_commit(pooled):
    reply = pooled.acquire(profile="job", request_id="mine")
    lease, = pooled.rows("SELECT * FROM lease")
    key, = pooled.rows("SELECT * FROM key WHERE id = ?", lease["key_id"])
    assert (key["uid"], key["request_id"], key["hash"]) == (os.getuid(), "mine", key_hash(reply["api_key"]))
    row, = pooled.audit(event="acquire")
    assert row["lease"] == reply["lease"] and row["detail"].startswith("from the pool: job-pool-")
    assert row["key_tag"] == pooled.tag(reply["api_key"])
    mints = [row for row in pooled.audit(event="mint") if row.get("key_tag") == pooled.tag(reply["api_key"])]
    assert len(mints) == 1 and "for the pool" in mints[0]["detail"] and "uid" not in mints[0]


def test_kill_between_hand_out_and_reply_gives_the_same_key_to_the_same_caller(pooled, litellm):
    pooled.stop()
    pooled.spawn(env={"KEYBROKER_FAIL": "turn.after_commit:kill:2"})  # 1: the term's row
    wait_until(lambda: "READY" in pooled.log_since_start, what="its start")
    with Holder(pooled) as peer:
        with pytest.raises((RpcError, OSError, Closed)):
            peer.call("acquire", profile="job", request_id="again", timeout_ms=3000)
        assert pooled.wait() == -9
        lease, = pooled.rows("SELECT id, key_id FROM lease")
        pooled.start()
        reply = peer.call("acquire", profile="job", request_id="again")
        assert reply["lease"] == lease["id"]
        assert key_hash(reply["api_key"]) == pooled.rows("SELECT hash FROM key WHERE id = ?", lease["key_id"])[0]["hash"]
        wait_full(pooled)
        assert len(unassigned(litellm, pooled)) == 3
        accounted_for(pooled, litellm)


def test_commit_that_fails_hands_nothing_out_and_the_key_stays(make_broker, litellm):
    broker = make_broker(config(1), timing=FAST).start()
    wait_full(broker, 1)
    before, = (row["hash"] for row in broker.rows("SELECT hash FROM key WHERE state = 'live'"))
    with broker.locked(), pytest.raises(RpcError) as refusal:
        broker.acquire(profile="job", request_id="one")
    assert refusal.value.code == "audit_unavailable"
    assert broker.count("SELECT count(*) FROM lease") == 0 and pool_of(broker)["ready"] == 1
    litellm.fail(path="*", hang=True, times=-1)
    assert key_hash(broker.acquire(profile="job", request_id="two")["api_key"]) == before
    with pytest.raises(RpcError):
        broker.acquire(profile="job", timeout_ms=200)


def test_acquires_of_one_turn_never_share_a_key(pooled):
    with pooled.rpc() as one, pooled.rpc() as two:
        for connection in (one, two):
            connection.call("whoami")
        with pooled.locked():
            with pooled.held_in_a_turn():
                sent = [(c, c.send("acquire", profile="job", request_id=f"r{i}")) for i, c in enumerate((one, two, one))]
        replies = [c.result(number) for c, number in sent]
    assert len({reply["api_key"] for reply in replies}) == len({reply["lease"] for reply in replies}) == 3


def test_repeat_within_one_turn_gets_the_same_key(pooled):
    with pooled.rpc() as one, pooled.rpc() as two:
        for connection in (one, two):
            connection.call("whoami")
        with pooled.locked():
            with pooled.held_in_a_turn():
                sent = [(c, c.send("acquire", profile="job", request_id="same")) for c in (one, two)]
        replies = [c.result(number) for c, number in sent]
    assert replies[0]["api_key"] == replies[1]["api_key"] and replies[0]["lease"] == replies[1]["lease"]
    wait_full(pooled)
    assert pooled.count("SELECT count(*) FROM key WHERE state = 'live'") == 4


def test_callers_of_two_users_get_their_own(make_broker, litellm):
    need_root()
    rules = rule_all() + f'rule "other" {{ uid = {STRANGER} profiles = {{ "job" }} }}\n'
    broker = make_broker(config(2, rules=rules), timing=FAST).start()
    wait_full(broker, 2)
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o666)
    with Holder(broker, uid=STRANGER) as other:
        theirs = other.call("acquire", profile="job")
        mine = broker.acquire(profile="job")
        assert theirs["api_key"] != mine["api_key"]
        owners = {row["hash"]: row["uid"] for row in broker.rows("SELECT hash, uid FROM key WHERE uid >= 0")}
        assert owners == {key_hash(theirs["api_key"]): STRANGER, key_hash(mine["api_key"]): os.getuid()}
        with pytest.raises(RpcError):
            broker.acquire(lease=theirs["lease"])


def test_hand_out_counts_as_a_mint_of_its_user(make_broker):
    broker = make_broker("limits { mints_per_minute = 2 }\n" + config().removeprefix(MANY), timing=FAST).start()
    wait_full(broker)
    for _ in range(2):
        broker.acquire(profile="job")
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="job")
    assert refusal.value.code == "limit_exceeded"


def test_longer_life_than_the_pools_is_minted(pooled, litellm):
    litellm.clear_calls()
    reply = pooled.acquire(profile="job", min_valid_ms=2 * HOUR * 1000)
    assert reply["expires_at_ms"] / 1000 - time.time() > 29 * DAY and pool_of(pooled)["ready"] == 3
    assert len(litellm.calls("/key/generate")) == 1


def test_pool_outlives_a_restart_as_it_is(pooled, litellm):
    before = set(ours(litellm, pooled.user_id))
    for end in (pooled.stop, pooled.kill):
        end()
        pooled.start()
        stays(lambda: set(ours(litellm, pooled.user_id)) == before, 0.7)  # over a sweep
    litellm.fail(path="*", hang=True, times=-1)
    assert key_hash(pooled.acquire(profile="job")["api_key"]) in before


@pytest.mark.parametrize("point", ["mint.after_intent", "mint.before_post", "mint.after_post", "mint.after_info"])
def test_intents_without_a_caller_are_burned(make_broker, litellm, point):
    """The next leader has as many as it may, never more, and none of the one before that nobody knows."""
    broker = make_broker(config(), timing=FAST)
    broker.spawn(env={"KEYBROKER_FAIL": f"{point}:kill:2"})
    assert broker.wait() == -9
    broker.start()
    intents = {row["id"] for row in broker.rows("SELECT id FROM key WHERE created_at_ms < ?", int(broker.admin("status")["started_at_ms"]))}
    most = 0

    def settled():
        nonlocal most
        most = max(most, len(unassigned(litellm, broker)))
        return pool_of(broker) == {"size": 3, "ready": 3, "making": 0}
    wait_until(settled, 15, lambda: f"a full pool: {pool_of(broker)}\n{broker.log}")
    accounted_for(broker, litellm)
    assert most <= 3 and len(ours(litellm, broker.user_id)) == 3
    assert intents and broker.audit(event="burn")


def test_intent_that_cannot_be_burned_yet_keeps_its_place(make_broker, litellm):
    """It may work upstream: with it there would be one too many."""
    broker = make_broker(config(), timing=FAST)
    broker.spawn(env={"KEYBROKER_FAIL": "mint.after_post:kill"})
    assert broker.wait() == -9
    litellm.fail(path="/key/block", status=503, times=-1)
    broker.start()
    wait_until(lambda: litellm.calls("/key/block"), what="the first burn")
    stays(lambda: len(unassigned(litellm, broker)) <= 3, 1)
    litellm.clear()
    wait_full(broker)
    accounted_for(broker, litellm)


def test_killed_at_random_times_there_are_never_more_than_n(make_broker, litellm):
    """Hand-outs, refills and kills: no key has two leases, none without a lease is one too many, none is unknown."""
    chance, broker = random.Random(7), make_broker(config(), timing={**FAST, "takeover_ms": 100})
    for _ in range(12):
        broker.start()
        with contextlib.suppress(RpcError, OSError, Closed), broker.rpc() as connection:
            for number in range(chance.randrange(5)):
                connection.send("acquire", profile="job", bind="ttl", ttl_ms=60000, request_id=f"{chance.random()}-{number}")
            time.sleep(chance.random() * 0.06)  # the kill falls anywhere
        broker.kill()
        shared = "SELECT count(*) FROM (SELECT key_id FROM lease WHERE state = 'active' GROUP BY key_id HAVING count(*) > 1)"
        assert broker.count(shared) == 0
        assert broker.count("SELECT count(*) FROM key WHERE uid < 0 AND state = 'live'") <= 3
        assert broker.count("SELECT count(*) FROM key WHERE state = 'live' AND uid >= 0 AND id NOT IN "
                            "(SELECT key_id FROM lease WHERE state = 'active')") == 0
    broker.start()
    wait_full(broker, timeout=20)
    accounted_for(broker, litellm)
    assert len(unassigned(litellm, broker)) == 3


def test_failover_takes_the_pool_over(make_broker, litellm):
    instances = Instances(make_broker(config(), timing=FAST))
    try:
        a, _ = instances.start("a", "b")
        broker = instances.broker
        wait_full(broker)
        before = set(ours(litellm, broker.user_id))
        a.kill()
        keys = {key_hash(broker.acquire(profile="job", request_id=f"r{i}")["api_key"]) for i in range(3)}
        assert keys == before
        wait_full(broker)
        assert len(unassigned(litellm, broker)) == 3
        accounted_for(broker, litellm)
    finally:
        instances.close()


def test_smaller_pool_retires_the_surplus(pooled, litellm):
    pooled.write_config(config(1))
    pooled.admin("reload")
    wait_until(lambda: len(ours(litellm, pooled.user_id)) == 1, what="one key")
    pooled.write_config(config(0))
    pooled.admin("reload")
    wait_until(lambda: not ours(litellm, pooled.user_id), what="none")
    assert len(pooled.audit(event="retire")) == 3 and "pool" not in pooled.profile("job")
    pooled.write_config(config(2))
    pooled.admin("reload")
    wait_full(pooled, 2)


@pytest.mark.parametrize("first", ["answer", "reload"])
def test_smaller_pool_while_a_key_becomes_live(make_broker, litellm, first):
    """Reload and answer of the mint come in one turn: the key goes again."""
    broker = make_broker(config(1), timing={**FAST, "info_timeout_ms": 20000})
    litellm.fail(path="/key/info", delay_ms=700)
    broker.start()
    wait_until(lambda: litellm.calls("/key/info"), what="the question that ends the mint")
    broker.write_config(config(0))
    with broker.rpc(admin=True) as connection:
        connection.call("whoami")
        with broker.locked():
            with broker.held_in_a_turn():
                if first == "answer":
                    wait_until(lambda: unread_answers(litellm), what="the answer")
                number = connection.send("reload")
                wait_until(lambda: unread_answers(litellm), what="the answer")
        connection.result(number)
    wait_until(lambda: not ours(litellm, broker.user_id), 15, "none upstream")
    accounted_for(broker, litellm)


def test_smaller_pool_after_a_restart(pooled, litellm):
    pooled.stop()
    pooled.write_config(config(1))
    pooled.start()
    wait_until(lambda: len(ours(litellm, pooled.user_id)) == 1, what="one key")
    pooled.stop()
    pooled.write_config(MANY + rule_all() + 'profile "else" { mode = dedicated models = { "gpt-5" } }\n')
    pooled.start()
    wait_until(lambda: not ours(litellm, pooled.user_id), what="none: the profile is gone")


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_changed_profile_gets_other_keys(pooled, litellm, how):
    """A key with the limits of yesterday is not handed out today."""
    before = set(ours(litellm, pooled.user_id))
    text = config(more="key { max_budget = 2.5 }")
    if how == "restart":
        pooled.stop()
        pooled.write_config(text)
        pooled.start()
    else:
        pooled.write_config(text)
        pooled.admin("reload")
    reply = pooled.acquire(profile="job")
    assert key_hash(reply["api_key"]) not in before
    assert row_of(litellm, reply["api_key"])["max_budget"] == 2.5
    wait_full(pooled)
    wait_until(lambda: not before & set(ours(litellm, pooled.user_id)), what="the old ones' deletion")
    assert {key["max_budget"] for key in unassigned(litellm, pooled)} == {2.5}


def test_waiting_keys_are_prolonged(make_broker, litellm):
    broker = make_broker(config(2, 'duration = "1h"'), timing={**FAST, "pool_life_ms": 3000, "extend_floor_ms": 0}).start()
    wait_full(broker, 2)
    before = {row["hash"]: row["expires_at_ms"] for row in broker.rows("SELECT hash, expires_at_ms FROM key")}
    end = max(before.values()) / 1000
    wait_until(lambda: time.time() > end + 0.5, 10, "the first expiry")
    reply = broker.acquire(profile="job")
    assert key_hash(reply["api_key"]) in before and litellm.chat(reply["api_key"])[0] == 200


@pytest.mark.parametrize("death", ["delete", "block"])
def test_key_that_upstream_lost_is_replaced_before_it_is_handed_out(pooled, litellm, death):
    lost = next(iter(ours(litellm, pooled.user_id)))
    if death == "delete":
        litellm.admin("POST", "/key/delete", {"keys": [lost]})
    else:
        litellm.admin("POST", "/key/block", {"key": lost})
    wait_until(lambda: pooled.count("SELECT count(*) FROM key WHERE hash = ? AND state = 'deleted'", lost) == 1, 10,
               "its end, found by a sweep")
    wait_full(pooled)
    for _ in range(3):
        assert litellm.chat(pooled.acquire(profile="job")["api_key"])[0] == 200


def test_key_in_doubt_is_not_handed_out(make_broker, litellm):
    broker = make_broker(config(1), timing={**FAST, "info_timeout_ms": 5000}).start()
    wait_full(broker, 1)
    doubted, = ours(litellm, broker.user_id)
    litellm.clear_calls()
    litellm.fail(path="/key/info", delay_ms=1500)
    litellm.admin("POST", "/key/block", {"key": doubted})
    wait_until(lambda: litellm.calls("/key/info"), what="the question, after a sweep saw that it is blocked")
    reply = broker.acquire(profile="job")
    assert key_hash(reply["api_key"]) != doubted and litellm.chat(reply["api_key"])[0] == 200


def test_revoked_profile_gets_a_new_pool(pooled, litellm):
    before = set(ours(litellm, pooled.user_id))
    assert pooled.admin("revoke", profile="job") == {"leases": 0, "keys": 3}
    wait_until(lambda: not before & set(ours(litellm, pooled.user_id)), what="their deletion")
    wait_full(pooled)


def test_pool_of_a_lost_state_is_swept(pooled, litellm):
    before = set(ours(litellm, pooled.user_id))
    pooled.stop()
    pooled.delete_state()
    pooled.start()
    wait_full(pooled)
    wait_until(lambda: not before & set(ours(litellm, pooled.user_id)), 15, "the sweep of the old ones")
    accounted_for(pooled, litellm)


def test_upstream_that_refuses_is_not_pestered_and_status_says_so(make_broker, litellm):
    litellm.fail(path="/key/generate", status=400, times=-1, body={"error": {
        "message": "no such thing", "type": "bad_request_error", "param": None, "code": "400"}})
    broker = make_broker(config(), timing=FAST).start()
    wait_until(lambda: "no such thing" in pool_of(broker).get("error", ""), what="the error in status")
    assert "its pool is not full: no such thing" in broker.cli("status").ok()
    stays(lambda: len(litellm.calls("/key/generate")) <= 12, 1)  # the pauses double
    wait_until(lambda: len(litellm.calls("/key/generate")) >= 7, 7, "more attempts: failures of one time count once")
    litellm.clear()
    broker.admin("reload")
    wait_full(broker)
    assert "error" not in pool_of(broker)


def test_upstream_that_is_down_is_asked_for_one_key_at_a_time(make_broker, litellm):
    litellm.fail(path="*", status=503, times=-1)
    broker = make_broker(config(8), timing=FAST).start()
    wait_until(lambda: pool_of(broker)["making"] > 0 and "error" in pool_of(broker), what="an attempt")
    stays(lambda: pool_of(broker)["making"] <= 4, 0.5)
    litellm.clear()
    wait_full(broker, 8)
    assert len(unassigned(litellm, broker)) == 8


def test_pool_where_upstream_chooses_the_keys(make_broker, litellm):
    litellm.mode(forbid_custom_keys=True)
    broker = make_broker(config(2), timing=FAST).start()
    wait_full(broker, 2)
    broker.restart()
    litellm.clear_calls()
    with Holder(broker) as peer:
        assert litellm.chat(peer.call("acquire", profile="job")["api_key"])[0] == 200
        wait_full(broker, 2)
        assert len(unassigned(litellm, broker)) == 2
    accounted_for(broker, litellm)


def test_pool_is_for_dedicated_profiles(make_broker):
    broker = make_broker(MANY + rule_all() + 'profile "s" {\n mode = shared\n models = { "gpt-5" }\n pool = 2\n}\n')
    done = broker.run_daemon("--check")
    assert done.code == 78 and "keybroker.conf:" in done.stderr and "pool is for dedicated profiles only" in done.stderr


def test_key_of_a_dead_holder_does_not_wait_for_its_name(pooled, litellm):
    """Its renaming hangs; nothing else does."""
    litellm.fail(path="/key/update", hang=True, times=-1)
    litellm.clear_calls()
    with Holder(pooled) as holder:
        reply = holder.call("acquire", profile="job")
        wait_until(lambda: litellm.calls("/key/update"), what="the renaming")
        holder.kill()
        wait_gone(litellm, reply["api_key"])


def test_deletion_that_another_failure_holds_up_is_tried_as_soon_as_it_may(make_broker, litellm):
    """The renaming's failure opens the breaker, which refuses the deletion; that itself has not failed."""
    broker = make_broker(config(), timing={**FAST, "breaker_ms": 1000, "delete_retry_ms": 600000}).start()
    wait_full(broker)
    litellm.clear_calls()
    litellm.fail(path="/key/update", times=3, status=500)
    with Holder(broker) as holder:
        reply = holder.call("acquire", profile="job")
        wait_until(lambda: len(litellm.calls("/key/update")) == 3 and not broker.admin("status")["upstream"]["reachable"],
                   what="the breaker")
        holder.kill()
        wait_gone(litellm, reply["api_key"])
