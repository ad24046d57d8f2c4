"""The shared key: made or checked when the broker starts to lead, made once, kept over restarts."""

import os
import time

import pytest

from harness.broker import FAST, MANY, key_hash, machine_id, rule_all
from harness.rpc import RpcError
from harness.upstream import ours, row_of
from harness.wait import stays, wait_until


def test_leader_mints_before_any_acquire(make_broker, litellm):
    make_broker().start()
    wait_until(litellm.keys, what="a key at the start")
    assert litellm.keys()[0]["key_alias"] == "agents-service"


def test_acquire_of_a_live_key_asks_upstream_nothing(broker, litellm):
    litellm.clear_calls()
    keys = {broker.acquire()["api_key"] for _ in range(10)}
    assert len(keys) == 1 and litellm.calls() == []


def test_thousand_simultaneous_acquires_make_one_key(make_broker, litellm):
    litellm.fail(path="/key/generate", delay_ms=1500)
    broker = make_broker().start()
    connections = [broker.rpc() for _ in range(1000)]
    sent = [connection.send("acquire") for connection in connections]
    keys = {connection.result(number)["api_key"] for connection, number in zip(connections, sent)}
    for connection in connections:
        connection.close()
    assert len(keys) == 1
    assert len(litellm.calls("/key/generate")) == 1 and len(litellm.keys()) == 1


def test_thousand_pipelined_acquires_on_one_connection_are_all_answered(broker, litellm):
    with broker.rpc() as connection:
        leases = set()
        for _ in range(10):
            sent = [connection.send("acquire") for _ in range(100)]
            leases |= {connection.result(number)["lease"] for number in sent}
    assert len(leases) == 1000 and len(litellm.keys()) == 1


# --- upstream away ---

def test_ready_does_not_wait_for_upstream_and_service_comes_by_itself(make_broker, own_litellm):
    own_litellm.stop()
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    profile = broker.profile()
    assert profile["state"] == "waiting"
    wait_until(lambda: broker.profile().get("error"), what="status says why")
    assert broker.admin("status")["upstream"]["reachable"] is False
    with pytest.raises(RpcError) as refusal:
        broker.acquire(timeout_ms=300)
    assert refusal.value.code == "upstream_unavailable" and refusal.value.retry_after_ms > 0
    own_litellm.start()
    broker.wait_ready()
    assert broker.admin("status")["upstream"]["reachable"] is True
    assert own_litellm.chat(broker.acquire()["api_key"])[0] == 200


def test_waiting_acquire_is_served_when_upstream_comes_back(make_broker, own_litellm):
    own_litellm.stop()
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    with broker.rpc() as connection:
        waiting = connection.send("acquire", timeout_ms=20000)
        assert not connection.has_reply(waiting)
        own_litellm.start()
        assert connection.result(waiting)["generation"] == 1


def test_live_key_is_served_while_upstream_is_down(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    own_litellm.stop()
    assert broker.acquire()["api_key"] == key
    broker.restart()
    assert broker.acquire()["api_key"] == key


# --- restart ---

def test_restart_validates_and_reuses(broker, litellm):
    before = broker.acquire()
    litellm.clear_calls()
    broker.restart()
    wait_until(lambda: litellm.calls("/key/info"), what="the key's validation")
    assert litellm.calls("/key/info")[0]["targets"] == [key_hash(before["api_key"])]
    after = broker.acquire()
    assert (after["api_key"], after["generation"]) == (before["api_key"], 1)
    assert not litellm.calls("/key/generate") and len(litellm.keys()) == 1


def test_kill_and_restart_reuses_too(broker, litellm):
    key = broker.acquire()["api_key"]
    broker.kill()
    broker.start()
    broker.wait_ready()
    assert broker.acquire()["api_key"] == key
    assert len(litellm.calls("/key/generate")) == 1


@pytest.mark.parametrize("failure", [{"status": 500}, {"status": 503}, {"status": 401}, {"status": 429},
                                     {"hang": True}, {"drop_after": 0}, {"status": 200, "body": "nonsense"}],
                         ids=["500", "503", "401", "429", "hang", "drop", "nonsense"])
def test_what_proves_nothing_keeps_the_key(make_broker, litellm, failure):
    broker = make_broker(timing={**FAST, "info_timeout_ms": 200}).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    litellm.fail(path="/key/info", times=-1, **failure)
    broker.restart()
    wait_until(lambda: litellm.calls("/key/info"), what="the key's validation")
    wait_until(lambda: sum(rule["hits"] for rule in litellm.failures()) >= 3, what="three attempts")
    assert broker.acquire()["api_key"] == key
    litellm.clear()
    broker.wait_ready()
    assert broker.acquire()["api_key"] == key
    assert len(litellm.calls("/key/generate")) == 1 and len(litellm.keys()) == 1


def test_database_down_at_restart_keeps_the_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    litellm.mode(db_down=True)
    broker.restart()
    wait_until(lambda: litellm.calls("/key/info"), what="the key's validation")
    assert broker.acquire()["api_key"] == key
    litellm.mode(db_down=False)
    broker.wait_ready()
    assert broker.acquire()["api_key"] == key and len(litellm.keys()) == 1


def _delete(litellm, token):
    assert litellm.admin("POST", "/key/delete", {"keys": [token]})[0] == 200


def _block(litellm, token):
    assert litellm.admin("POST", "/key/block", {"key": token})[0] == 200


def _expire(litellm, token):
    assert litellm.admin("POST", "/key/update", {"key": token, "duration": "1s"})[0] == 200
    end = time.time() + 1.1
    wait_until(lambda: time.time() > end, what="its end by both clocks")


@pytest.mark.parametrize("kill", [_delete, _block, _expire], ids=["deleted", "blocked", "expired"])
def test_dead_key_is_replaced_under_its_name(make_broker, litellm, kill):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    old = broker.acquire()["api_key"]
    broker.stop()
    kill(litellm, key_hash(old))
    litellm.clear_calls()
    broker.start()
    wait_until(lambda: litellm.calls("/key/generate"), what="a replacement")
    broker.wait_ready()
    new = broker.acquire()
    assert new["api_key"] != old and new["generation"] == 2
    assert row_of(litellm, new["api_key"])["key_alias"] == "agents-service"
    assert litellm.chat(new["api_key"])[0] == 200
    wait_until(lambda: row_of(litellm, old) is None, what="the dead key's deletion")
    _only_by_hash(litellm)


def _only_by_hash(litellm):
    """A delete by alias would take retiring keys and other hosts' along."""
    for call in litellm.calls("/key/delete"):
        assert call["body_fields"] == ["keys"] and len(call["targets"]) == 1


def test_team_is_ensured_before_a_dead_key_is_replaced(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    broker.stop()
    litellm.admin("POST", "/team/delete", {"team_ids": [litellm.teams()[0]["team_id"]]})
    litellm.clear_calls()
    broker.start()
    broker.wait_ready()
    wait_until(lambda: litellm.calls("/key/generate"), what="a replacement")
    paths = [call["path"] for call in litellm.calls()]
    assert paths.index("/team/new") < paths.index("/key/generate")
    wait_until(lambda: broker.profile()["state"] == "ready" and broker.profile()["generation"] == 2, what="generation 2")


def test_deleted_state_forces_a_new_key(broker, litellm):
    old = broker.acquire()["api_key"]
    broker.stop()
    broker.delete_state()
    broker.start()
    broker.wait_ready()
    new = broker.acquire()
    assert new["api_key"] != old and new["generation"] == 1
    assert litellm.chat(new["api_key"])[0] == 200
    name = "agents-service"  # freed by our own key; without a machine id that is another install's
    if not machine_id():
        name += f"-{broker.install[:6]}"
    assert row_of(litellm, new["api_key"])["key_alias"] == name


# --- other profiles than the drop-in's ---

def test_profiles_of_the_file_stand_beside_the_dropin(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_ALIAS": "agents-service"}, config=rule_all() + '''
profile "ci" {
  mode = shared
  models = { "gpt-5-mini" }
  alias = "ci-%{profile}"
  duration = "30d"
  key { max_budget = 2.5 rpm_limit = 9 budget_duration = "1d" }
}
''').start()
    broker.wait_ready("ci")
    reply = broker.acquire(profile="ci")
    row = row_of(litellm, reply["api_key"])
    assert (row["key_alias"], row["models"], row["team_id"]) == ("ci-ci", ["gpt-5-mini"], None)
    assert (row["max_budget"], row["rpm_limit"]) == (2.5, 9)
    assert "expires_at_ms" in reply
    broker.wait_ready("service")
    assert len(ours(litellm, broker.user_id)) == 2


def test_static_key_of_the_file_is_handed_out_as_it_is(make_broker, litellm):
    broker = make_broker()
    path = broker.write("provider.key", "provider-secret-0123456789\n")
    broker.secrets.add("provider-secret-0123456789")
    broker.write_config(rule_all() + f'''
profile "openai" {{ mode = static key_file = "{path}" base_url = "https://llm.example.org/v1" }}
''')
    broker.start()
    reply = broker.acquire(profile="openai")
    assert reply["api_key"] == "provider-secret-0123456789" and reply["mode"] == "static"
    assert reply["base_url"] == "https://llm.example.org/v1" and reply["generation"] == 0
    assert "expires_at_ms" not in reply


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_lease_of_the_static_time_is_unknown_once_the_profile_has_keys_of_its_own(make_broker, mode):
    broker = make_broker()
    path = broker.write("provider.key", "provider-secret-0123456789\n")
    broker.secrets.add("provider-secret-0123456789")
    broker.write_config(MANY + rule_all() + f'''
profile "openai" {{ mode = static key_file = "{path}" base_url = "https://llm.example.org/v1" }}
''')
    broker.start()
    asked = {"profile": "openai", "bind": "ttl", "request_id": "one"}
    before = broker.acquire(**asked)
    broker.write_config(MANY + rule_all() + f'''
profile "openai" {{ mode = {mode} models = {{ "gpt-5" }} }}
''')
    broker.reload()
    wait_until(lambda: broker.profile("openai")["mode"] == mode, what="the reload")
    with pytest.raises(RpcError) as refusal:
        broker.acquire(lease=before["lease"])
    assert refusal.value.code == "unknown_lease"
    now = broker.acquire(**asked)
    assert now["mode"] == mode and now["lease"] != before["lease"]
    assert broker.acquire(**asked)["lease"] == now["lease"]
    assert broker.call("release", lease=before["lease"])["released"] is True
    assert broker.acquire(**asked)["lease"] == now["lease"]


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_lease_of_a_key_of_our_own_is_unknown_once_the_profile_has_a_providers(make_broker, mode):
    """Its key must not go to the provider's URL."""
    broker = make_broker(timing={**FAST, "grace_ms": 60000})
    path = broker.write("provider.key", "provider-secret-0123456789\n")
    broker.secrets.add("provider-secret-0123456789")
    broker.write_config(MANY + rule_all() + f'profile "openai" {{ mode = {mode} models = {{ "gpt-5" }} }}\n')
    broker.start()
    asked = {"profile": "openai", "bind": "ttl", "request_id": "one"}
    before = broker.acquire(**asked)
    broker.write_config(MANY + rule_all() + f'''
profile "openai" {{ mode = static key_file = "{path}" base_url = "https://llm.example.org/v1" }}
''')
    broker.admin("reload")
    with pytest.raises(RpcError) as refusal:
        broker.acquire(lease=before["lease"])
    assert refusal.value.code == "unknown_lease"
    now = broker.acquire(**asked)
    assert now["api_key"] == "provider-secret-0123456789" and now["lease"] != before["lease"]
    assert broker.acquire(**asked)["lease"] == now["lease"]


def test_static_key_file_that_others_can_read_is_refused(make_broker):
    broker = make_broker()
    path = broker.write("provider.key", "provider-secret-0123456789", 0o644)
    broker.write_config(rule_all() + f'profile "openai" {{ mode = static key_file = "{path}" }}\n')
    refused = broker.run_daemon()
    assert refused.code == 78 and path in refused.stderr and "provider-secret" not in refused.stderr


def test_openai_key_in_the_environment_makes_service_static(make_broker, litellm):
    broker = make_broker(env={"OPENAI_API_KEY": "sk-proj-of-the-operator-0123456789"})
    broker.secrets.add("sk-proj-of-the-operator-0123456789")
    broker.start()
    assert broker.profile()["state"] == "static" and "OPENAI_API_KEY" in broker.log and "nothing is provisioned" in broker.log
    reply = broker.acquire()
    assert reply["api_key"] == "sk-proj-of-the-operator-0123456789" and reply["mode"] == "static"
    stays(lambda: not litellm.calls("/key/generate"), 0.3)


def test_openai_key_alone_needs_no_litellm(make_broker):
    broker = make_broker(upstream=None, env={"OPENAI_API_KEY": "sk-proj-of-the-operator-0123456789"})
    broker.secrets.add("sk-proj-of-the-operator-0123456789")
    broker.start()
    assert broker.acquire()["mode"] == "static"


def test_base_url_of_the_daemon_profile_and_rule(make_broker, litellm):
    broker = make_broker(env={"OPENAI_BASE_URL": "http://127.0.0.1:9/of-the-daemon/", "LITELLM_MODELS": "gpt-5",
                              "LITELLM_SERVICE_MODELS": "gpt-5"}, config=f'''
profile "own" {{ mode = shared models = {{ "gpt-5" }} base_url = "http://127.0.0.1:9/of-the-profile" }}
rule "ruled" {{ uid = {os.getuid()} profiles = {{ "process" }} base_url = "http://127.0.0.1:9/of-the-rule" }}
''' + rule_all()).start()
    urls = {name: broker.acquire(profile=name)["base_url"] for name in ("service", "own", "process")}
    assert urls == {"service": "http://127.0.0.1:9/of-the-daemon", "own": "http://127.0.0.1:9/of-the-profile",
                    "process": "http://127.0.0.1:9/of-the-rule"}


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_is_trimmed(make_broker, litellm, suffix):
    broker = make_broker(env={"LITELLM_BASE_URL": litellm.url + suffix}).start()
    broker.wait_ready()
    assert broker.acquire()["base_url"] == litellm.url + "/v1"
