"""Rotation: a new key under the constant alias before the old one goes."""

import contextlib
import os
import sqlite3
import time

import pytest

from harness.broker import DROPIN, FAST, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import accounted_for, row_of, wait_gone
from harness.wait import stays, wait_until

QUICK = {**FAST, "grace_ms": 300}


def test_new_generation_takes_the_constant_alias(broker, litellm):
    old = broker.acquire()
    made = broker.admin("rotate", profile="service")
    new = broker.acquire()
    assert made["generation"] == new["generation"] == 2 and new["api_key"] != old["api_key"]
    assert made["key_hash"] == new["key_hash"] and made["alias"] == "agents-service"
    assert row_of(litellm, new["api_key"])["key_alias"] == "agents-service"
    assert row_of(litellm, old["api_key"])["key_alias"] == "agents-service.g1"
    assert litellm.chat(old["api_key"])[0] == litellm.chat(new["api_key"])[0] == 200
    assert made["retiring"]["generation"] == 1 and made["retiring"]["alias"] == "agents-service.g1"


def test_old_key_is_renamed_before_the_new_one_is_made(broker, litellm):
    litellm.clear_calls()
    broker.admin("rotate", profile="service")
    calls = [(call["path"], call["alias"]) for call in litellm.calls(method="POST")]
    assert calls.index(("/key/update", "agents-service.g1")) < calls.index(("/key/generate", "agents-service"))
    assert len(litellm.calls("/key/generate")) == 1


def test_record_of_the_old_key_names_its_generation(broker):
    keys = [broker.acquire()["api_key"]]
    broker.admin("rotate", profile="service")
    keys.append(broker.acquire()["api_key"])
    broker.admin("revoke", profile="service")
    rows = wait_until(lambda: len(broker.audit(event="retire")) == 2 and broker.audit(event="retire"), what="both rows")
    assert [row["key_tag"] for row in rows] == [broker.tag(key) for key in keys]
    assert rows[0]["detail"] == "generation 1, agents-service.g1: a newer generation is live"
    assert rows[1]["detail"].startswith("generation 2, agents-service") and rows[1]["detail"].endswith(": revoked")


def test_old_key_goes_by_hash_when_its_grace_is_over(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    old = broker.acquire()["api_key"]
    broker.admin("rotate", profile="service")
    wait_gone(litellm, old)
    assert [call["targets"] for call in litellm.calls("/key/delete")] == [[key_hash(old)]]
    assert litellm.calls("/key/delete")[0]["body_fields"] == ["keys"]


def test_old_key_stays_for_its_grace(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 1500}).start()
    with Holder(broker) as peer:
        old = peer.call("acquire")["api_key"]
        broker.admin("rotate", profile="service")
        stays(lambda: row_of(litellm, old) is not None, 0.8)
        wait_gone(litellm, old)


def test_fixed_lease_keeps_the_old_key_until_it_ends(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    with Holder(broker) as peer:
        old = peer.call("acquire", refreshable=False)["api_key"]
        made = broker.admin("rotate", profile="service")
        assert made["retiring"]["fixed"] == 1
        stays(lambda: litellm.chat(old)[0] == 200, 1.0)
        retiring, = broker.profile()["retiring"]
        assert retiring["generation"] == 1 and retiring["fixed"] == 1 and retiring["key_hash"] == key_hash(old)[:8]
        peer.kill()
        wait_gone(litellm, old)
    wait_until(lambda: broker.profile()["retiring"] == [], what="no key is retiring")


def test_fixed_lease_keeps_it_over_a_restart(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    with Holder(broker) as peer:
        old = peer.call("acquire", refreshable=False)["api_key"]
        broker.admin("rotate", profile="service")
        broker.kill()
        broker.start()
        stays(lambda: row_of(litellm, old) is not None, 1.0)
        peer.kill()
        wait_gone(litellm, old)


def test_fixed_lease_keeps_it_to_fixed_max_only(make_broker, litellm):
    broker = make_broker(timing={**QUICK, "fixed_max_ms": 800}).start()
    with Holder(broker) as peer:
        old = peer.call("acquire", refreshable=False)["api_key"]
        broker.admin("rotate", profile="service")
        wait_gone(litellm, old)


def test_lowered_fixed_max_goes_for_those_that_wait_already(make_broker, litellm):
    text = rule_all() + 'lease { grace = "1s" fixed_max = "%s" }\n'
    broker = make_broker(config=text % "24h").start()
    broker.wait_ready()
    with Holder(broker) as peer:
        old = peer.call("acquire", refreshable=False)["api_key"]
        broker.admin("rotate", profile="service")
        stays(lambda: row_of(litellm, old) is not None, 1.5)  # the grace is over
        broker.write_config(text % "2s")
        broker.admin("reload")
        wait_gone(litellm, old)


def test_old_key_is_prolonged_while_a_fixed_lease_holds_it(make_broker, litellm):
    broker = make_broker(timing={**QUICK, "duration_min_ms": 1000, "extend_floor_ms": 0}, env={"LITELLM_SERVICE_KEY_DURATION": "3s"}).start()
    broker.wait_ready()
    with Holder(broker) as peer:
        old = peer.call("acquire", refreshable=False)
        broker.admin("rotate", profile="service")
        wait_until(lambda: time.time() * 1000 > old["expires_at_ms"] + 1500, what="a time after its first end")
        assert litellm.chat(old["api_key"])[0] == 200
        peer.kill()
        wait_gone(litellm, old["api_key"])


def test_holder_reads_the_new_key_with_its_lease(broker):
    with Holder(broker) as peer:
        old = peer.call("acquire")
        broker.admin("rotate", profile="service")
        new = peer.call("acquire", lease=old["lease"])
        assert new["lease"] == old["lease"] and new["generation"] == 2 and new["api_key"] != old["api_key"]


def test_failed_mint_leaves_the_old_key_alive(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    old = broker.acquire()
    litellm.fail(path="/key/generate", status=500, times=-1)
    with pytest.raises(RpcError) as refusal:
        broker.admin("rotate", profile="service", timeout_ms=1500)
    assert refusal.value.code == "upstream_unavailable"
    assert litellm.chat(old["api_key"])[0] == 200
    assert broker.acquire()["api_key"] == old["api_key"]
    stays(lambda: row_of(litellm, old["api_key"]) is not None, 0.6)
    litellm.clear()
    wait_until(lambda: broker.acquire()["generation"] == 2, 10, "the rotation goes on")
    accounted_for(broker, litellm)


def test_refused_mint_says_why_and_the_old_key_lives(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    old = broker.acquire()["api_key"]
    litellm.fail(path="/key/generate", status=400, times=-1,
                 body={"error": {"message": "budget is spent", "type": "bad_request_error", "param": None, "code": "400"}})
    with pytest.raises(RpcError) as refusal:
        broker.admin("rotate", profile="service", timeout_ms=3000)
    assert refusal.value.code == "upstream_refused" and "budget is spent" in refusal.value.text
    assert broker.acquire()["api_key"] == old and litellm.chat(old)[0] == 200


def test_rotating_twice_numbers_the_old_ones(broker, litellm):
    keys = [broker.acquire()["api_key"]]
    for _ in range(2):
        broker.admin("rotate", profile="service")
        keys.append(broker.acquire()["api_key"])
    assert [row_of(litellm, key)["key_alias"] for key in keys] == ["agents-service.g1", "agents-service.g2", "agents-service"]


def test_concurrent_rotations_are_one_or_in_order(broker, litellm):
    with broker.rpc(admin=True) as connection:
        sent = [connection.send("rotate", profile="service") for _ in range(5)]
        generations = [connection.result(number)["generation"] for number in sent]
    assert generations == sorted(generations) and generations[0] == 2
    assert broker.acquire()["generation"] == generations[-1]
    assert [key["key_alias"] for key in litellm.keys()].count("agents-service") == 1


@pytest.mark.parametrize("waits", [(30000, 50), (50, 30000)])
def test_each_who_asked_for_a_rotation_waits_as_long_as_it_said(make_broker, litellm, waits):
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", status=503, times=-1)
    with broker.rpc(admin=True) as one, broker.rpc(admin=True) as other:
        sent = [(connection, connection.send("rotate", profile="service", timeout_ms=wait), wait)
                for connection, wait in zip((one, other), waits)]
        for connection, number, _ in sorted(sent, key=lambda each: each[2])[:1]:
            error, _ = connection.reply(number, 10)
            assert error["code"] == "upstream_unavailable" and "goes on by itself" in error["message"]
        connection, number, _ = max(sent, key=lambda each: each[2])
        assert not connection.has_reply(number)
        litellm.clear()
        assert connection.result(number, 20)["generation"] == 2


def test_old_key_deleted_behind_our_back_is_no_obstacle(broker, litellm):
    old = broker.acquire()["api_key"]
    litellm.admin("POST", "/key/delete", {"keys": [key_hash(old)]})
    assert broker.admin("rotate", profile="service")["generation"] == 2
    assert litellm.chat(broker.acquire()["api_key"])[0] == 200


@pytest.mark.parametrize("profile,code", [("process", "invalid_request"), ("nothing", "unknown_profile")])
def test_only_shared_profiles_rotate(broker, profile, code):
    with pytest.raises(RpcError) as refusal:
        broker.admin("rotate", profile=profile)
    assert refusal.value.code == code


def test_rotate_every_makes_generations_by_itself(make_broker, litellm):
    broker = make_broker(timing={**QUICK, "duration_min_ms": 1000}, env=DROPIN, config=rule_all() + '''
profile "often" { mode = shared models = { "gpt-5" } rotate_every = "2s" }
''').start()
    broker.wait_ready("often")
    wait_until(lambda: broker.acquire(profile="often")["generation"] >= 2, 6, "generation 2")


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_changed_profile_makes_a_generation_by_itself(make_broker, litellm, how):
    """What clients are told of the key is what it can do; other changes leave it alone."""
    text = rule_all() + 'profile "own" { mode = shared models = { "%s" } rotate_every = "%s" key { max_budget = %s } }\n'
    broker = make_broker(timing=QUICK, env=DROPIN, config=text % ("gpt-5", "7d", 0.5)).start()
    broker.wait_ready("own")

    def change(*values):
        broker.write_config(text % values)
        if how == "restart":
            broker.restart()
            broker.wait_ready("own")
        else:
            broker.admin("reload")

    change("gpt-5", "8d", 0.5)
    stays(lambda: broker.profile("own")["generation"] == 1, 0.5)
    old = broker.acquire(profile="own")["api_key"]
    change("gpt-5-mini", "8d", 0.7)
    wait_until(lambda: broker.profile("own")["generation"] == 2, what="generation 2")
    row = row_of(litellm, broker.acquire(profile="own")["api_key"])
    assert row["models"] == ["gpt-5-mini"] and row["max_budget"] == 0.7
    wait_gone(litellm, old)
    assert "generation 1 was made by other settings" in broker.log
    stays(lambda: broker.profile("own")["generation"] == 2, 0.5)


def test_exec_holds_the_old_key_until_its_program_ends(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    old = broker.acquire()["api_key"]
    with broker.cli_running("exec", "--", "sleep", "60") as program:
        wait_until(lambda: [l for l in broker.admin("leases")["leases"] if l["pid"] == program.pid], what="its lease")
        broker.admin("rotate", profile="service")
        stays(lambda: litellm.chat(old)[0] == 200, 1.0)
        os.kill(program.pid, 9)
        wait_gone(litellm, old)


# Reads its environment once, as any SDK does, and calls and calls.
UNMODIFIED = """
import http.client, json, os, urllib.parse
url, key = urllib.parse.urlsplit(os.environ["OPENAI_BASE_URL"]), os.environ["OPENAI_API_KEY"]
body = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "ping"}]})
while True:
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.request("POST", url.path + "/chat/completions", body, {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    answer = connection.getresponse()
    print(answer.status, flush=True)
    answer.read()
"""


def test_unmodified_program_survives_three_rotations_and_the_grace(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 1000}).start()
    broker.wait_ready()
    keys = [broker.acquire()["api_key"]]
    with broker.cli_running("exec", "--", "/usr/bin/python3", "-c", UNMODIFIED) as program:
        assert program.stdout.readline() == "200\n"
        for _ in range(3):
            broker.admin("rotate", profile="service")
            keys.append(broker.acquire()["api_key"])
        for gone in keys[1:3]:
            wait_gone(litellm, gone)  # held by refreshable leases: the grace is over
        assert [key["generation"] for key in broker.profile()["retiring"]] == [1]
        assert [program.stdout.readline() for _ in range(200)] == ["200\n"] * 200, "since the first rotation too"
    wait_gone(litellm, keys[0])


def test_restart_amid_a_rotation_with_litellm_away_serves_the_live_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    old = broker.acquire()["api_key"]
    litellm.fail(path="*", status=503, times=-1)
    with pytest.raises(RpcError):
        broker.admin("rotate", profile="service", timeout_ms=300)
    broker.restart()
    assert broker.acquire(timeout_ms=3000)["api_key"] == old
    litellm.clear()
    wait_until(lambda: broker.profile().get("generation") == 2, what="the rotation goes on")


def test_reread_and_release_in_one_turn_leave_no_phantom(make_broker, litellm):
    """The new generation must not count a lease that ended while it moved there."""
    broker = make_broker(timing=QUICK).start()
    lease = broker.acquire(bind="ttl")["lease"]
    broker.admin("rotate", profile="service")
    with broker.rpc() as connection:
        sent = [connection.send("acquire", lease=lease), connection.send("release", lease=lease)]
        for number in sent:
            connection.reply(number)
    assert broker.admin("status")["leases"] == 0
    key = broker.acquire(bind="process")["api_key"]
    broker.admin("rotate", profile="service")
    wait_gone(litellm, key)


def test_refreshable_lease_outlives_its_generation_and_a_restart(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    first = broker.acquire(bind="ttl")
    broker.admin("rotate", profile="service")
    wait_gone(litellm, first["api_key"])
    broker.restart()
    assert broker.acquire(lease=first["lease"])["generation"] == 2


@pytest.mark.parametrize("asked", [1, 2])
def test_rotation_at_once_is_so_for_who_leads_next(make_broker, litellm, asked):
    """Also where another that was asked for before is under way already."""
    broker = make_broker(timing={**FAST, "grace_ms": 600000}).start()
    broker.wait_ready()
    with Holder(broker) as holder, broker.rpc(admin=True) as admin:
        old = holder.call("acquire", refreshable=False)["api_key"]
        litellm.fail(path="/key/generate", delay_ms=1500)
        for n in range(1, asked + 1):
            admin.send("rotate", profile="service", now=n == asked)
            wait_until(lambda n=n: len(broker.audit(event="rotate", outcome="asked")) == n, what="its record")
            wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the mint")
        broker.kill()
        broker.start()
        wait_gone(litellm, old, 15)
        assert broker.profile()["generation"] == 2


def test_rotation_at_once_after_a_restart_takes_older_generations_too(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 600000}).start()
    broker.wait_ready()
    with Holder(broker) as holder:
        old = holder.call("acquire", refreshable=False)
        broker.admin("rotate", profile="service")
        broker.restart()
        broker.wait_ready()
        watcher = broker.rpc()
        watcher.call("watch", scope="uid")
        assert broker.admin("rotate", profile="service", now=True)["older"] == {"keys": 2, "leases": 1, "fixed": 1}
        wait_gone(litellm, old["api_key"], 10)
        watcher.wait_notifications(1, timeout=10)
        assert watcher.notifications == [["revoked", [{"lease": old["lease"]}]]] and not broker.admin("leases")["leases"]
        watcher.close()


def test_fixed_lease_ends_though_its_key_can_only_be_blocked(make_broker, litellm):
    """Its POST had no answer at first: it may still come, so the key cannot be deleted for ten minutes."""
    litellm.fail(path="/key/generate", times=1, drop_after=0, when="after")
    broker = make_broker(timing={"retry_base_ms": 20, "breaker_ms": 100}).start()
    broker.wait_ready()
    with Holder(broker) as holder:
        old = holder.call("acquire", refreshable=False)
        assert broker.admin("rotate", profile="service", now=True)["older"]["fixed"] == 1
        wait_until(lambda: not broker.admin("leases")["leases"], what="the lease's end")
        assert litellm.chat(old["api_key"])[0] == 401
        row, = broker.audit(event="revoke", lease=old["lease"])
        assert row["outcome"] == "ok"


def test_rotation_at_once_that_came_no_further_than_the_new_key(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 600000}).start()
    broker.wait_ready()
    with Holder(broker) as holder:
        old = holder.call("acquire", refreshable=False)["api_key"]
        broker.admin("rotate", profile="service")
        broker.kill()
        with contextlib.closing(sqlite3.connect(broker.db)) as database, database:
            for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE tbl_name = 'key' AND type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {name}")
            database.execute("UPDATE key SET at_once = 1 WHERE generation = 2")
        broker.start()
        wait_until(lambda: litellm.chat(old)[0] != 200, what="the old key's end or block")
