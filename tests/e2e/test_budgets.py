"""Budgets that outlive keys: limits of teams and keys; teams that are the operator's, or another's."""

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.rpc import RpcError
from harness.upstream import ours, row_of
from harness.wait import stays, wait_until

LIMITS = "max_budget = 10.5 budget_duration = \"30d\" rpm_limit = 100 tpm_limit = 5000"
COLUMNS = {"max_budget": 10.5, "budget_duration": "30d", "rpm_limit": 100, "tpm_limit": 5000}


def config(team=LIMITS, key="", name='team_alias = "agents"', more=""):
    """One dedicated profile of one team."""
    section = f"team {{ {team} }}" if team else ""
    return (MANY + rule_all() +
            f'profile "job" {{ mode = dedicated models = {{ "gpt-5" }} {name} {section} {key and "key { " + key + " }"} }}\n' + more)


def team_of(litellm, **columns):
    """The stand-in's one team, and what of it was asked for."""
    team, = litellm.teams()
    return {name: team[name] for name in columns}


def changes(litellm):
    """Calls that change teams."""
    return [call["path"] for call in litellm.calls("/team/") if call["method"] == "POST"]


def drift(broker, profile="job"):
    """What `status` says of the team."""
    return broker.profile(profile).get("team", {}).get("drift")


def start(make_broker, text, **more):
    return make_broker(text, timing=FAST, **more).start()


# --- teams of our making ---

def test_team_is_made_with_its_limits_and_our_mark(make_broker, litellm):
    broker = start(make_broker, config())
    wait_until(litellm.teams, what="the team, before anybody asks")
    key = broker.acquire(profile="job")["api_key"]
    assert team_of(litellm, **COLUMNS) == COLUMNS
    team, = litellm.teams()
    assert team["metadata"] == {"keybroker": {"install": broker.install}} and team["team_alias"] == "agents"
    assert row_of(litellm, key)["team_id"] == team["team_id"]
    assert broker.profile("job")["team"] == {"id": team["team_id"], "alias": "agents", "ours": True}
    row, = broker.audit(event="team")
    assert row["outcome"] == "made" and row["detail"] == f"agents ({team['team_id']})" and row["profile"] == "job"


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_changed_limits_go_on_our_team(make_broker, litellm, how):
    broker = make_broker(config(), timing={**FAST, "sweep_every_ms": 600000}).start()
    broker.acquire(profile="job")
    if how == "restart":
        broker.stop()
    broker.write_config(config(LIMITS.replace("10.5", "20").replace("100 ", "200 ")))
    broker.start() if how == "restart" else broker.admin("reload")
    wait_until(lambda: team_of(litellm, **COLUMNS) == {**COLUMNS, "max_budget": 20, "rpm_limit": 200}, what="the new limits")
    row, = broker.audit(event="team", outcome="changed")
    assert "max_budget is 10.5, not 20; rpm_limit is 100, not 200" in row["detail"]
    assert ") was changed; found: max_budget is 10.5, not 20; " in broker.log
    wait_until(lambda: drift(broker) is None, what="no drift")
    assert litellm.teams()[0]["metadata"]["keybroker"]["install"] == broker.install


def test_limits_that_are_not_configured_are_left_alone(make_broker, litellm):
    broker = start(make_broker, config("max_budget = 1"))
    broker.acquire(profile="job")
    team, = litellm.teams()
    litellm.admin("POST", "/team/update", {"team_id": team["team_id"], "rpm_limit": 7, "max_budget": 2})
    wait_until(lambda: team_of(litellm, max_budget=1) == {"max_budget": 1}, what="the configured limit, at the next sweep")
    assert team_of(litellm, rpm_limit=7) == {"rpm_limit": 7}


def test_refused_change_is_drift_and_keys_are_made_all_the_same(make_broker, litellm):
    broker = start(make_broker, config())
    broker.acquire(profile="job")
    litellm.fail(path="/team/update", status=400, times=-1, body={"error": {
        "message": "no more than 15", "type": "internal_server_error", "param": None, "code": "400"}})
    broker.write_config(config(LIMITS.replace("10.5", "20")))
    broker.admin("reload")
    wait_until(lambda: drift(broker) == "max_budget is 10.5, not 20; LiteLLM refuses the change: no more than 15",
               what=lambda: f"the drift, not {drift(broker)}")
    assert "drift" in broker.cli("status").ok() and "no more than 15" in broker.cli("status").ok()
    assert broker.acquire(profile="job")["api_key"]


def test_budget_of_the_team_outlives_its_keys(make_broker, litellm):
    litellm.mode(cost_per_call=6.0)
    broker = start(make_broker, config("max_budget = 10"))
    first = broker.acquire(profile="job", bind="ttl")
    assert [litellm.chat(first["api_key"])[0] for _ in range(3)] == [200, 200, 429]
    broker.call("release", lease=first["lease"])
    wait_until(lambda: not ours(litellm, broker.user_id), what="the key's end")
    assert litellm.chat(broker.acquire(profile="job")["api_key"])[0] == 429


# --- teams of others ---

@pytest.mark.parametrize("metadata", [None, {"keybroker": {"install": "another"}}], ids=["by hand", "another broker's"])
def test_team_that_we_did_not_make_is_never_changed(make_broker, litellm, metadata):
    litellm.admin("POST", "/team/new", {"team_id": "theirs", "team_alias": "agents", "max_budget": 5, **(
        {"metadata": metadata} if metadata else {})})
    litellm.clear_calls()
    broker = start(make_broker, config())
    key = broker.acquire(profile="job")["api_key"]
    assert row_of(litellm, key)["team_id"] == "theirs"
    said = "max_budget is 5, not 10.5; budget_duration is none, not 30d; rpm_limit is none, not 100; tpm_limit is none, not 5000"
    wait_until(lambda: drift(broker) == said, what="the drift in status")
    assert broker.profile("job")["team"]["ours"] is False
    assert "job: team agents, which this broker did not make and does not change: " + said in " ".join(
        broker.cli("status").ok().split())
    broker.admin("reload")
    broker.restart()
    stays(lambda: changes(litellm) == [], 0.8)  # over a sweep
    litellm.admin("POST", "/team/update", {"team_id": "theirs", **COLUMNS})
    wait_until(lambda: drift(broker) is None, what="no drift once its owner has changed it")


def test_spend_shows_how_a_team_differs_now(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_id": "theirs", "team_alias": "agents", **COLUMNS})
    broker = make_broker(config(), timing={**FAST, "sweep_every_ms": 600000}).start()
    broker.acquire(profile="job")
    assert drift(broker) is None
    for budget, said in ((9, "max_budget is 9, not 10.5"), (10.5, None)):
        litellm.admin("POST", "/team/update", {"team_id": "theirs", "max_budget": budget})
        told = broker.cli("status", "--spend").ok()
        assert drift(broker) == said and ("drift" in told) == (said is not None), told


def test_team_by_id_is_the_operators(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_id": "mine", "team_alias": "agents"})
    litellm.clear_calls()
    broker = start(make_broker, config("max_budget = 3", name='team_id = "mine"'))
    assert "its team { } is compared with LiteLLM's, never set" in broker.log
    key = broker.acquire(profile="job")["api_key"]
    assert row_of(litellm, key)["team_id"] == "mine"
    wait_until(lambda: drift(broker) == "max_budget is none, not 3", what="the drift")
    stays(lambda: changes(litellm) == [], 0.8)


def test_team_that_we_made_is_the_operators_once_it_is_named_by_id(make_broker, litellm):
    broker = start(make_broker, config("max_budget = 3"))
    broker.acquire(profile="job")
    team, = litellm.teams()
    litellm.clear_calls()
    name = f'team_id = "{team["team_id"]}"'
    broker.write_config(config("max_budget = 4", name=name))
    broker.admin("reload")
    wait_until(lambda: drift(broker) == "max_budget is 3, not 4", what="the drift")
    stays(lambda: changes(litellm) == [], 0.8)


def test_unknown_team_by_id_is_said_at_once_and_nothing_is_made(make_broker, litellm):
    """LiteLLM itself would mint a key of a team that it does not know."""
    broker = start(make_broker, config("", name='team_id = "not-there"'))
    for _ in range(3):
        with pytest.raises(RpcError) as refusal:
            broker.acquire(profile="job")
        assert refusal.value.code == "upstream_refused"
        assert "does not know the team not-there" in refusal.value.text and "LITELLM_TEAM_ID" in refusal.value.text
    assert litellm.teams() == [] and changes(litellm) == [] and not litellm.calls("/key/generate")
    litellm.admin("POST", "/team/new", {"team_id": "not-there"})
    wait_until(lambda: _mints(broker), 5, "a key, once the team is there")


def _mints(broker):
    try:
        return broker.acquire(profile="job")["api_key"]
    except RpcError as refusal:
        assert refusal.code == "upstream_refused"
        return None


def test_answer_about_a_team_is_kept(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_id": "mine"})
    broker = make_broker(config("", name='team_id = "mine"'), timing={**FAST, "sweep_every_ms": 600000}).start()
    for _ in range(5):
        broker.acquire(profile="job")
    assert len([call for call in litellm.calls("/v2/team/list")]) == 1


def test_team_that_cannot_be_asked_about_is_not_unknown(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_id": "mine"})
    litellm.mode(db_down=True)
    broker = start(make_broker, config("", name='team_id = "mine"'))
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="job", timeout_ms=500)
    assert refusal.value.code == "upstream_unavailable"
    litellm.mode(db_down=False)
    assert broker.acquire(profile="job")["api_key"]


# --- keys ---

def test_limits_go_on_each_key(make_broker, litellm):
    broker = start(make_broker, config(key='max_budget = 2.5 rpm_limit = 60 tpm_limit = 1000 budget_duration = "7d"'))
    for _ in range(2):
        row = row_of(litellm, broker.acquire(profile="job")["api_key"])
        assert (row["max_budget"], row["rpm_limit"], row["tpm_limit"]) == (2.5, 60, 1000)
    assert all("budget_duration" in call["body_fields"] for call in litellm.calls("/key/generate"))
    assert team_of(litellm, **COLUMNS) == COLUMNS  # one does not go into the other


def test_variables_limit_each_key_and_no_team(make_broker, litellm):
    broker = make_broker(timing=FAST, env={"LITELLM_MAX_BUDGET": "1.5", "LITELLM_RPM_LIMIT": "30", "LITELLM_TPM_LIMIT": "900"}).start()
    broker.wait_ready()
    for _ in range(2):
        row = row_of(litellm, broker.acquire(profile="process")["api_key"])
        assert (row["max_budget"], row["rpm_limit"], row["tpm_limit"]) == (1.5, 30, 900)
    shared = row_of(litellm, broker.acquire()["api_key"])
    assert (shared["max_budget"], shared["rpm_limit"], shared["tpm_limit"]) == (None, None, None)
    assert team_of(litellm, max_budget=0, rpm_limit=0, tpm_limit=0) == {"max_budget": None, "rpm_limit": None, "tpm_limit": None}


# --- the configuration ---

@pytest.mark.parametrize("text, said", [
    (config(name=""), 'profile "job" has team { } but no team: name it in team_alias'),
    (config(more='profile "b" { mode = shared models = { "m" } team_alias = "agents" team { max_budget = 1 } }\n'),
     'profile "b" has the team of profile "job" with other limits'),
    (config("max_budget = -1"), "number"),
    (config("seats = 4"), "unknown key seats"),
])
def test_bad_limits_of_a_team_are_refused(make_broker, text, said):
    done = make_broker(text).run_daemon("--check")
    assert done.code == 78 and said in done.stderr and "keybroker.conf:" in done.stderr


def test_one_profile_may_speak_for_the_team_of_several(make_broker, litellm):
    other = 'profile "b" { mode = dedicated models = { "gpt-5" } team_alias = "agents" }\n'
    broker = start(make_broker, config(more=other))
    broker.acquire(profile="b")
    assert team_of(litellm, **COLUMNS) == COLUMNS
    done = broker.run_daemon("--check")
    assert "max_budget = 10.5" in done.stdout and "team {" in done.stdout
