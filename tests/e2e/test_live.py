"""The main path against a real LiteLLM: LITELLM_BASE_URL, LITELLM_MASTER_KEY. Its database may hold anything."""

import json
import os
import time

import pytest

from harness import build
from harness.broker import FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.instances import mint_through_a_failover
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, ours, row_of, wait_gone
from harness.wait import stays, wait_until

pytestmark = pytest.mark.live

TIMES = {**FAST, "grace_ms": 300, "burn_delete_ms": 3000}
SDK = """
import os
from openai import OpenAI
answer = OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "ping"}])
print(answer.choices[0].message.content)
"""


@pytest.fixture
def started(make_live_broker, live):
    """A running broker with its shared key; its install is remembered, so that its keys are cleaned up."""
    broker = make_live_broker(config=MANY + rule_all(), timing=TIMES).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    return broker


def test_exec_completes_a_chat_with_the_unmodified_openai_sdk(started):
    python = os.environ.get("KEYBROKER_OPENAI_PYTHON")
    if not python:
        pytest.skip("needs KEYBROKER_OPENAI_PYTHON: a Python with the OpenAI SDK")
    script = started.write("chat.py", SDK)
    done = started.cli("exec", "--", python, script, timeout=120)
    assert done.code == 0 and done.stdout.strip(), done


LOOP = """
from openai import OpenAI
client = OpenAI(max_retries=0)
while True:
    answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "ping"}])
    print("ok" if answer.choices[0].message.content else "empty", flush=True)
"""


def test_unmodified_openai_sdk_survives_three_rotations_and_the_grace(make_live_broker, live):
    python = os.environ.get("KEYBROKER_OPENAI_PYTHON")
    if not python:
        pytest.skip("needs KEYBROKER_OPENAI_PYTHON: a Python with the OpenAI SDK")
    broker = make_live_broker(config=MANY + rule_all(), timing={**TIMES, "grace_ms": 2000}).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    keys = [broker.acquire()["api_key"]]
    with broker.cli_running("exec", "--", python, broker.write("loop.py", LOOP)) as program:
        assert program.stdout.readline() == "ok\n", program.stderr.read()
        for _ in range(3):
            broker.admin("rotate", profile="service")
            keys.append(broker.acquire()["api_key"])
            assert program.stdout.readline() == "ok\n"
        for gone in keys[1:3]:
            wait_gone(live, gone, 10)
        assert [program.stdout.readline() for _ in range(10)] == ["ok\n"] * 10
        assert row_of(live, keys[0])["key_alias"] == live.tag + ".g1"
    wait_gone(live, keys[0], 10)


def test_report_is_proved_by_the_real_litellm(started, live):
    reply = started.acquire()
    assert started.call("report", lease=reply["lease"], status=401)["state"] == "alive"
    live.admin("POST", "/key/block", {"key": key_hash(reply["api_key"])})
    wait_until(lambda: started.call("report", lease=reply["lease"])["state"] in ("dead", "replaced"), 10, "the proof")
    new = started.acquire(lease=reply["lease"], timeout_ms=20000)
    assert new["generation"] == 2 and live.chat(new["api_key"])[0] == 200
    live.admin("POST", "/key/delete", {"keys": [key_hash(new["api_key"])]})
    wait_until(lambda: started.call("report", lease=reply["lease"])["state"] in ("dead", "replaced"), 10, "the proof")


def test_ack_deletes_the_old_key_and_rotate_now_all(started, live):
    with Holder(started) as peer:
        old = peer.call("acquire")
        started.admin("rotate", profile="service")
        new = peer.call("acquire", lease=old["lease"])
        assert live.chat(old["api_key"])[0] == live.chat(new["api_key"])[0] == 200
        peer.call("ack", lease=old["lease"], generation=2)
        wait_gone(live, old["api_key"], 5)
        started.admin("rotate", profile="service", now=True)
        wait_gone(live, new["api_key"], 5)
    assert live.chat(started.acquire()["api_key"])[0] == 200


def test_shared_key_chats_and_cannot_manage(started, live):
    reply = started.acquire()
    assert live.chat(reply["api_key"])[0] == 200
    assert live.request("POST", "/key/generate", {}, reply["api_key"])[0] in (401, 403)
    row = row_of(live, reply["api_key"])
    assert row["user_id"] == started.user_id and row["key_alias"] == live.tag
    assert row["metadata"]["keybroker"]["install"] == started.install
    assert row["team_id"] == live.teams()[0]["team_id"]


def test_thousand_acquires_make_one_key(make_live_broker, live):
    broker = make_live_broker(timing=TIMES).start()
    live.keys(broker.user_id)
    connections = [broker.rpc() for _ in range(1000)]
    sent = [connection.send("acquire") for connection in connections]
    keys = {connection.result(number)["api_key"] for connection, number in zip(connections, sent)}
    for connection in connections:
        connection.close()
    assert len(keys) == 1 and len(ours(live, broker.user_id)) == 1


def test_dedicated_key_lives_as_long_as_its_process(started, live):
    with Holder(started) as peer:
        reply = peer.call("acquire", profile="process")
        assert live.chat(reply["api_key"])[0] == 200
        assert abs(reply["expires_at_ms"] / 1000 - time.time() - 30 * 86400) < 60
        peer.kill()
        wait_gone(live, reply["api_key"], 1.5)
    assert live.chat(reply["api_key"])[0] == 401


def test_restart_reuses_the_key(started, live):
    before = started.acquire()
    started.restart()
    started.wait_ready(timeout=30)
    assert started.acquire()["api_key"] == before["api_key"]
    started.kill()
    started.start()
    assert started.acquire()["api_key"] == before["api_key"]
    assert len(ours(live, started.user_id)) == 1


@pytest.mark.parametrize("death", ["delete", "block"])
def test_dead_key_is_replaced_at_restart(started, live, death):
    old = started.acquire()["api_key"]
    started.stop()
    if death == "delete":
        live.admin("POST", "/key/delete", {"keys": [key_hash(old)]})
    else:
        live.admin("POST", "/key/block", {"key": key_hash(old)})
    started.start()
    wait_until(lambda: started.acquire(timeout_ms=20000)["api_key"] != old, 20, "a replacement")
    new = started.acquire()
    assert live.chat(new["api_key"])[0] == 200 and row_of(live, new["api_key"])["key_alias"] == live.tag


@pytest.mark.parametrize("point", ["mint.before_post", "mint.after_post", "mint.after_info"])
def test_failover_in_the_middle_of_a_mint(make_live_broker, live, point):
    broker = make_live_broker(config=MANY + rule_all(), timing=TIMES)
    mint_through_a_failover(broker, live, point)


def test_rotation_makes_before_it_breaks(started, live):
    with Holder(started) as peer:
        old = peer.call("acquire", refreshable=False)["api_key"]
        assert started.admin("rotate", profile="service")["generation"] == 2
        new = started.acquire()["api_key"]
        assert row_of(live, old)["key_alias"] == live.tag + ".g1" and row_of(live, new)["key_alias"] == live.tag
        assert live.chat(old)[0] == live.chat(new)[0] == 200
        peer.kill()
        wait_gone(live, old)


def test_revoke(started, live):
    key = started.acquire(profile="process")["api_key"]
    assert started.admin("revoke", key_hash=key_hash(key)) == {"leases": 1, "keys": 1}
    wait_gone(live, key)
    assert live.chat(key)[0] == 401


def test_prolongation(make_live_broker, live):
    broker = make_live_broker(env={"LITELLM_SERVICE_KEY_DURATION": "6s"},
                              timing={**TIMES, "duration_min_ms": 1000, "extend_floor_ms": 0}).start()
    live.keys(broker.user_id)
    reply = broker.acquire()
    wait_until(lambda: time.time() * 1000 > reply["expires_at_ms"] + 500, 15, "the first expiry")
    assert live.chat(reply["api_key"])[0] == 200
    assert broker.acquire()["api_key"] == reply["api_key"]


def test_import_of_the_old_provisioners_file(started, live):
    old = "sk-" + live.tag + "-imported-0123456789"
    started.secrets.add(old)
    live.add_key(old, key_alias=live.tag + "-old")
    before = started.acquire()["api_key"]
    path = started.write("service_token.json", json.dumps({"token": old, "alias": live.tag + "-old", "team_id": "t",
                                                           "created_at": "2026-01-01T00:00:00Z"}))
    done = started.cli("import", path)
    assert done.code == 0, done
    assert started.acquire()["api_key"] == old
    wait_until(lambda: row_of(live, old)["key_alias"] == live.tag, what="its name")
    assert live.chat(old)[0] == 200
    wait_gone(live, before)
    started.restart()
    started.wait_ready(timeout=30)
    assert started.acquire()["api_key"] == old


def test_old_key_under_our_name_is_renamed_and_works(make_live_broker, live):
    old = "sk-" + live.tag + "-legacy-0123456789"
    live.add_key(old, key_alias=live.tag)
    broker = make_live_broker(timing={**TIMES, "legacy_delete_ms": 2500}).start()
    broker.secrets.add(old)
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    assert row_of(live, broker.acquire()["api_key"])["key_alias"] == live.tag
    assert live.chat(old)[0] == 200 and row_of(live, old)["key_alias"] != live.tag
    wait_gone(live, old, 10)


def test_refusal_reaches_the_caller(make_live_broker, live):
    broker = make_live_broker(env={"LITELLM_TEAM_ID": live.tag + "-no-such-team"}, timing=TIMES).start()
    live.keys(broker.user_id)
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process")
    assert refusal.value.code == "upstream_refused" and live.tag in refusal.value.text


def test_model_outside_the_keys_is_litellms_word(started, live):
    key = started.acquire(profile="process")["api_key"]
    assert live.chat(key)[0] == 200
    assert live.chat(key, "gpt-5-mini")[0] in (401, 403)


def test_lost_answer_of_a_mint_is_the_same_key_repeated(make_live_broker, live):
    """400 'already exists' meets the repeat on a real LiteLLM: success only because /key/info shows our intent."""
    broker = make_live_broker(config=MANY + rule_all(), timing={**TIMES, "takeover_ms": 10000}).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    broker.stop()
    broker.spawn(env={"KEYBROKER_FAIL": "mint.after_post:kill"})
    wait_until(lambda: "READY" in broker.log_since_start, what="its start")
    with pytest.raises((Closed, RpcError, OSError)):
        broker.acquire(profile="process", request_id="again")
    assert broker.wait() == -9
    broker.start()
    reply = broker.acquire(profile="process", request_id="again")
    assert live.chat(reply["api_key"])[0] == 200
    assert len(ours(live, broker.user_id)) == 2
    accounted_for(broker, live, 30)


@pytest.mark.parametrize("point", ["mint.after_intent", "mint.before_post", "mint.after_post", "mint.after_info",
                                   "turn.before_commit", "turn.after_commit", "rotate.after_rename", "delete.after_post"])
def test_killed_in_the_middle_leaves_nothing_unknown(make_live_broker, live, point):
    if point not in build.fail_points():
        pytest.fail(f"{point} is gone: name another")
    broker = make_live_broker(config=MANY + rule_all(), timing=TIMES)
    broker.start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    broker.stop()
    broker.spawn(env={"KEYBROKER_FAIL": f"{point}:kill"})
    wait_until(lambda: "READY" in broker.log_since_start or not broker.running, what="its start")
    steps = (lambda: broker.acquire(profile="process", bind="ttl", ttl_ms=1000),
             lambda: broker.admin("rotate", profile="service"),
             lambda: broker.call("release", lease=broker.acquire(profile="process", bind="ttl")["lease"]))
    for step in steps:
        try:
            step()
        except (Closed, RpcError, OSError):
            break
    assert broker.wait(20) == -9
    broker.start()
    live.keys(broker.user_id)
    accounted_for(broker, live, 40)
    wait_until(lambda: len(ours(live, broker.user_id)) == 1, 30, "nothing but the shared key")
    assert live.chat(broker.acquire()["api_key"])[0] == 200


def test_killed_at_random_times_during_mints(make_live_broker, live):
    broker = make_live_broker(config=MANY + rule_all(), timing=TIMES)
    broker.start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    broker.kill()
    for round_number in range(8):
        broker.start()
        with broker.rpc() as connection:
            for _ in range(4):
                connection.send("acquire", profile="process", bind="ttl", ttl_ms=1000)
            time.sleep(0.012 * round_number)
            broker.kill()
    broker.start()
    accounted_for(broker, live, 40)
    wait_until(lambda: len(ours(live, broker.user_id)) == 1, 40, "nothing but the shared key")


def test_sweep_deletes_what_has_no_row_and_nothing_else(started, live):
    stray, foreign = f"sk-{live.tag}-stray-0123456789", f"sk-{live.tag}-foreign-0123456789"
    live.add_key(stray, key_alias=live.tag + "-stray", user_id=started.user_id)
    live.add_key(foreign, key_alias=live.tag + "-foreign", user_id="keybroker:" + live.tag)
    wait_gone(live, stray, 15)
    assert row_of(live, foreign)
    stays(lambda: row_of(live, started.acquire()["api_key"]) is not None, 0.5)


def test_nothing_leaks(started, live):
    started.cli("get")
    started.cli("exec", "--profile", "process", "--", "true")
    started.admin("rotate", profile="service")
    started.cli("status")
    started.cli("audit", "read", "--json")
    unreadable = []
    assert started.find_leaks(unreadable) == [] and started.issued and live.master_key in started.secrets
    if unreadable:
        pytest.skip(f"{', '.join(unreadable)}: unreadable for this user, so that a secret there would not be seen")
