"""The numbered traps of a real LiteLLM (docs of the recorded answers): one test each, through the real daemon."""

import datetime
import time

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import accounted_for, ours, row_of, wait_gone
from harness.wait import stays, wait_until

OLD = "1.80.11"
both = pytest.mark.parametrize("version", [pytest.param("1.102.4", marks=pytest.mark.standin(litellm="1.102.4")),
                                           pytest.param(OLD, marks=pytest.mark.standin(litellm=OLD))])


@both
@pytest.mark.parametrize("death", ["block", "expire"])
def test_trap_01_info_says_200_for_a_blocked_and_an_expired_key(make_broker, litellm, version, death):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    broker.stop()
    if death == "block":
        litellm.admin("POST", "/key/block", {"key": key_hash(key)})
    else:
        litellm.admin("POST", "/key/update", {"key": key_hash(key), "duration": "1s"})
        end = time.time() + 1.1
        wait_until(lambda: time.time() > end, what="its end by both clocks")
    assert litellm.admin("GET", f"/key/info?key={key_hash(key)}")[0] == 200
    broker.start()
    new = wait_until(lambda: (broker.acquire()["api_key"] != key) and broker.acquire()["api_key"], what="a replacement")
    assert litellm.chat(new)[0] == 200


@both
def test_trap_02_database_down_is_not_a_dead_key_or_team(make_broker, litellm, version):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    litellm.mode(db_down=True)
    broker.restart()
    wait_until(lambda: litellm.calls("/key/info"), what="the validation")
    assert broker.acquire()["api_key"] == key
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", timeout_ms=500)
    assert refusal.value.code == "upstream_unavailable"
    litellm.mode(db_down=False)
    wait_until(lambda: _works(broker, litellm, "process"), what="the mint after it")
    assert broker.acquire()["api_key"] == key
    assert len(litellm.teams()) == 1, "the team was not made again"


def _works(broker, litellm, profile):
    try:
        return litellm.chat(broker.acquire(profile=profile, timeout_ms=2000)["api_key"])[0] == 200
    except RpcError:
        return False


@pytest.mark.standin(litellm=OLD)
@pytest.mark.parametrize("duration,seconds", [("30m", 1800), ("1w", 604800), ("1h", 3600)])
def test_trap_03_expiry_is_read_and_corrected_not_reckoned(make_broker, litellm, duration, seconds):
    broker = make_broker(env={"LITELLM_KEY_DURATION": duration}).start()
    reply = broker.acquire(profile="process")
    info = litellm.admin("GET", "/key/info?key=" + key_hash(reply["api_key"]))[1]["info"]
    stored = datetime.datetime.fromisoformat(info["expires"].replace("Z", "+00:00")).timestamp()
    assert abs(reply["expires_at_ms"] / 1000 - stored) < 2
    assert 0.9 * seconds - 10 < stored - time.time() < 1.05 * seconds + 10


def test_trap_04_no_null_is_sent_and_prolonging_keeps_an_expiry(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "3s"},
                         timing={**FAST, "duration_min_ms": 1000, "extend_floor_ms": 0}).start()
    broker.wait_ready()
    wait_until(lambda: litellm.calls("/key/update"), 5, "a prolongation")
    wait_until(lambda: litellm.calls("/key/update")[0]["status"] == 200, what="its answer")
    assert litellm.keys()[0]["expires"] is not None
    broker.acquire()  # a key that nobody has would go at once
    broker.admin("rotate", profile="service")
    renamed = next(key for key in litellm.keys() if key["key_alias"] == "agents-service.g1")
    assert renamed["expires"] is not None, "renaming leaves the expiry alone"


def test_trap_05_name_of_an_expired_key_is_freed(make_broker, litellm):
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "2s"},
                         timing={**FAST, "duration_min_ms": 1000, "extend_floor_ms": 0}).start()
    broker.wait_ready()
    old = broker.acquire()["api_key"]
    broker.kill()
    wait_until(lambda: litellm.chat(old)[0] == 401, what="its expiry")
    broker.start()
    broker.wait_ready()
    new = broker.acquire()["api_key"]
    assert new != old and row_of(litellm, new)["key_alias"] == "agents-service"
    wait_gone(litellm, old)


def test_trap_06_concurrent_mints_of_one_name(make_broker, litellm):
    """LiteLLM may let two keys have one name; deleting goes by hash, so that only the right one goes."""
    litellm.mode(alias_race=2)
    broker = make_broker(config=MANY + rule_all() + '''
profile "twins" { mode = dedicated models = { "gpt-5" } alias = "one-name" }
''', env=DROPIN, timing=FAST).start()
    litellm.mode(alias_race=0)
    broker.wait_ready()
    litellm.mode(alias_race=2)
    with Holder(broker) as one, Holder(broker) as two:
        with broker.rpc() as a, broker.rpc() as b:
            sent = [(c, c.send("acquire", profile="twins", bind="ttl")) for c in (a, b)]
            first, second = [c.result(number) for c, number in sent]
        assert first["api_key"] != second["api_key"]
        litellm.mode(alias_race=0)
        assert one.call("whoami") and two.call("whoami")
    broker.call("release", lease=first["lease"])
    wait_gone(litellm, first["api_key"])
    assert litellm.chat(second["api_key"])[0] == 200
    for call in litellm.calls("/key/delete"):
        assert call["body_fields"] == ["keys"] and call["targets"] == [key_hash(first["api_key"])]


@pytest.mark.parametrize("operator", [True, False])
def test_trap_07_unknown_team_is_noticed_before_the_mint(make_broker, litellm, operator):
    """/key/generate takes any team_id: the broker must look, or the caller gets a key that cannot work."""
    env = {"LITELLM_TEAM_ID": "no-such-team"} if operator else {}
    broker = make_broker(env=env, timing=FAST).start()
    if not operator:
        reply = broker.acquire()
        assert litellm.chat(reply["api_key"])[0] == 200 and len(litellm.teams()) == 1
        return
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", timeout_ms=2000)
    assert refusal.value.code == "upstream_refused" and "no-such-team" in refusal.value.text
    assert not [key for key in litellm.keys() if key["team_id"] == "no-such-team"]
    assert "no-such-team" not in {team["team_id"] for team in litellm.teams()}


def test_trap_08_all_team_models_without_a_team_is_said_and_no_models_refused(make_broker):
    """Both mean every model there is."""
    config = rule_all() + 'profile "open" { mode = shared models = { "all-team-models" } }\n'
    checks = [make_broker(config=config).run_daemon("--check"),
              make_broker(env={"LITELLM_MODELS": "all-team-models"}).run_daemon("--check"),
              make_broker(env={"LITELLM_SERVICE_MODELS": "all-team-models"}).run_daemon("--check")]
    warned = ["every model" in check.stdout + check.stderr for check in checks]
    assert warned == [True, True, False], checks
    refused = make_broker(config=rule_all() + 'profile "open" { mode = shared models = { } }\n').run_daemon("--check")
    assert refused.code == 78


@pytest.mark.standin(second=True)
def test_trap_09_other_processes_cache_a_minute(make_broker, litellm):
    """A prolonged key must not be refused where the old expiry is cached; a revoked one is said to have a tail."""
    broker = make_broker(env={"LITELLM_SERVICE_KEY_DURATION": "300s"}, timing=FAST).start()
    key = broker.acquire()["api_key"]
    assert litellm.chat(key, second=True)[0] == 200  # the second process has it cached now
    litellm.advance(205)  # our clock did not move: the broker must go by what upstream says
    broker.restart()
    wait_until(lambda: litellm.calls("/key/update"), what="the prolongation")
    wait_until(lambda: litellm.calls("/key/update")[0]["status"] == 200, what="its answer")
    litellm.advance(30)
    assert litellm.chat(key, second=True)[0] == 200
    assert 300 - 205 >= 90, "prolonged while more was left than another process may honour the old expiry"
    done = broker.cli("revoke", "--profile", "service")
    assert "60" in done.stdout + done.stderr


def test_trap_10_one_delete_for_each_key_and_404_is_done(make_broker, litellm):
    broker = make_broker(config=MANY + rule_all(), timing=FAST).start()
    broker.wait_ready()
    replies = [broker.acquire(profile="process") for _ in range(3)]
    litellm.admin("POST", "/key/delete", {"keys": [key_hash(replies[0]["api_key"])]})
    litellm.clear_calls()
    broker.admin("revoke", profile="process")
    for reply in replies:
        wait_gone(litellm, reply["api_key"])
    left = "SELECT count(*) FROM key WHERE mode = 'dedicated' AND state <> 'deleted'"
    wait_until(lambda: broker.count(left) == 0, what="all rows done")
    deletes = litellm.calls("/key/delete")
    assert sorted(call["targets"][0] for call in deletes) == sorted(key_hash(reply["api_key"]) for reply in replies)
    assert all(len(call["targets"]) == 1 and call["body_fields"] == ["keys"] for call in deletes)


def test_trap_11_abandoned_mint_is_carried_out_and_still_leaves_no_key(make_broker, litellm):
    """The broker is killed right after its POST left; LiteLLM carries it out later: the late key meets a burned row."""
    broker = make_broker(timing={**FAST, "burn_delete_ms": 2500}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=1500, when="before")
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the POST")
        broker.kill()
    broker.start()
    wait_until(lambda: litellm.calls("/key/block"), what="the burning")
    accounted_for(broker, litellm)
    stays(lambda: True, 0.5)
    wait_until(lambda: len(ours(litellm, broker.user_id)) == 1, 10, "nothing but the shared key")
    for call in litellm.calls("/key/delete"):
        assert call["body_fields"] == ["keys"]


def test_trap_12_a_repeated_key_answers_what_is_not_stored(make_broker, litellm):
    """The repeat's 200 shows an alias and an expiry that the database hasn't: only /key/info counts."""
    broker = make_broker(env={"LITELLM_KEY_DURATION": "1h"}, timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", drop_after=0)  # carried out, its answer lost
    reply = broker.acquire(profile="process")
    row = row_of(litellm, reply["api_key"])
    assert len(ours(litellm, broker.user_id)) == 2
    assert litellm.calls("/key/info"), "asked what is stored"
    stored = broker.rows("SELECT alias FROM key WHERE hash = ?", key_hash(reply["api_key"]))[0]["alias"]
    assert stored == row["key_alias"]


def test_trap_13_rotation_needs_no_licence(broker, litellm):
    broker.admin("rotate", profile="service")
    assert not [call for call in litellm.calls() if "regenerate" in call["path"]]
    assert broker.acquire()["generation"] == 2


def test_trap_14_team_is_found_by_the_list_that_can(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_alias": "agents-service-other"})
    team = litellm.admin("POST", "/team/new", {"team_alias": "agents-service"})[1]["team_id"]
    litellm.clear_calls()
    broker = make_broker().start()
    assert row_of(litellm, broker.acquire()["api_key"])["team_id"] == team
    for call in litellm.calls("/team/info"):
        assert call["query_fields"] == ["team_id"]
    assert not [call for call in litellm.calls("/team/list")]


@pytest.mark.standin(litellm=OLD)
def test_trap_15_error_bodies_carry_credentials_that_go_nowhere(make_broker, litellm):
    """The old version repeats the whole master key in its 401; the search after each test finds it anywhere."""
    wrong = "sk-not-the-master-0123456789"
    broker = make_broker(env={"LITELLM_MASTER_KEY": wrong}, timing=FAST)
    broker.secrets.add(wrong)
    broker.start()
    with pytest.raises(RpcError) as refusal:
        broker.acquire(timeout_ms=1500)
    assert wrong not in refusal.value.text
    done = broker.cli("status")
    assert wrong not in done.stdout + done.stderr
