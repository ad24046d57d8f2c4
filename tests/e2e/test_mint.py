"""What the broker asks of LiteLLM when it makes a key."""

import os
import re
import time

import pytest

from harness.broker import key_hash
from harness.rpc import RpcError
from harness.upstream import ours, row_of

SECRET = re.compile(r"sk-[0-9A-Za-z]{43}")


def test_shared_key_carries_our_mark_and_only_llm_routes(broker, litellm):
    reply = broker.acquire()
    row = row_of(litellm, reply["api_key"])
    stored = broker.rows("SELECT id FROM key WHERE hash = ?", key_hash(reply["api_key"]))
    assert row["user_id"] == broker.user_id
    assert row["allowed_routes"] == ["llm_api_routes"]
    assert row["metadata"]["keybroker"] == {"install": broker.install, "intent": stored[0]["id"]}
    assert (row["key_alias"], row["models"], row["expires"]) == ("agents-service", ["all-team-models"], None)


def test_broker_chooses_the_secret(broker, litellm):
    reply = broker.acquire()
    assert SECRET.fullmatch(reply["api_key"])
    assert "key" in litellm.calls("/key/generate")[0]["body_fields"]
    assert litellm.chat(reply["api_key"])[0] == 200


def test_reply_describes_the_key(broker, litellm):
    reply = broker.acquire()
    assert reply["profile"] == "service" and reply["mode"] == "shared" and reply["generation"] == 1
    assert reply["base_url"] == litellm.url + "/v1"
    assert reply["models"] == ["all-team-models"]
    assert reply["key_hash"] == key_hash(reply["api_key"])[:8]
    assert "expires_at_ms" not in reply and "lease_ends_at_ms" not in reply


def test_master_key_makes_the_call_and_no_field_is_null(make_broker, litellm):
    broker = make_broker().start()
    broker.wait_ready()
    broker.acquire(profile="process")
    for call in litellm.calls():
        assert call["caller"] == "master", call["path"]
    shared, dedicated = litellm.calls("/key/generate")
    assert "duration" not in shared["body_fields"]
    assert "duration" in dedicated["body_fields"]
    assert not {"max_budget", "rpm_limit", "tpm_limit", "budget_duration"} & set(shared["body_fields"])


def test_dedicated_key_takes_every_variable(make_broker, litellm):
    broker = make_broker(env={
        "LITELLM_MODELS": " gpt-5 , gpt-5-mini ", "LITELLM_KEY_DURATION": "2h", "LITELLM_KEY_ALIAS": "agents-${pid}",
        "LITELLM_MAX_BUDGET": "1.5", "LITELLM_RPM_LIMIT": "7", "LITELLM_TPM_LIMIT": "8000"}).start()
    reply = broker.acquire(profile="process")
    row = row_of(litellm, reply["api_key"])
    assert row["models"] == ["gpt-5", "gpt-5-mini"] == reply["models"]
    assert row["key_alias"] == f"agents-{os.getpid()}"
    assert (row["max_budget"], row["rpm_limit"], row["tpm_limit"]) == (1.5, 7, 8000)
    assert reply["generation"] == 0 and reply["mode"] == "dedicated"
    assert abs(reply["expires_at_ms"] / 1000 - time.time() - 7200) < 10


@pytest.mark.parametrize("template", ["agents-${pid}", "agents-${process.pid}"])
def test_alias_variable_keeps_both_old_spellings(make_broker, litellm, template):
    broker = make_broker(env={"LITELLM_KEY_ALIAS": template}).start()
    reply = broker.acquire(profile="process")
    assert row_of(litellm, reply["api_key"])["key_alias"] == f"agents-{os.getpid()}"


def test_shared_key_takes_every_variable(make_broker, litellm):
    broker = make_broker(env={
        "LITELLM_SERVICE_TEAM_ALIAS": "blue team", "LITELLM_SERVICE_KEY_ALIAS": "blue-service",
        "LITELLM_SERVICE_MODELS": "gpt-5,gpt-5-mini", "LITELLM_SERVICE_KEY_DURATION": "1h"}).start()
    broker.wait_ready()
    row = row_of(litellm, broker.acquire()["api_key"])
    team, = litellm.teams()
    assert team["team_alias"] == "blue team" and row["team_id"] == team["team_id"]
    assert (row["key_alias"], row["models"]) == ("blue-service", ["gpt-5", "gpt-5-mini"])
    assert row["expires"] is not None


def test_empty_variables_count_as_unset(make_broker, litellm):
    names = ("LITELLM_SERVICE_TEAM_ALIAS", "LITELLM_SERVICE_KEY_ALIAS", "LITELLM_SERVICE_MODELS",
             "LITELLM_SERVICE_KEY_DURATION", "LITELLM_MAX_BUDGET", "LITELLM_TEAM_ID", "OPENAI_API_KEY",
             "OPENAI_BASE_URL", "LITELLM_MASTER_KEY_FILE")
    broker = make_broker(env={name: "" for name in names}).start()
    broker.wait_ready()
    row = row_of(litellm, broker.acquire()["api_key"])
    assert (row["key_alias"], row["models"]) == ("agents-service", ["all-team-models"])


# --- teams ---

def test_team_is_made_with_an_id_of_its_alias(broker, litellm):
    team, = litellm.teams()
    assert team["team_alias"] == "agents-service"
    assert re.fullmatch(r"keybroker-[0-9a-f]{32}", team["team_id"])
    assert row_of(litellm, broker.acquire()["api_key"])["team_id"] == team["team_id"]


def test_team_that_carries_the_alias_is_adopted(make_broker, litellm):
    status, team = litellm.admin("POST", "/team/new", {"team_alias": "agents-service"})
    assert status == 200
    broker = make_broker().start()
    broker.wait_ready()
    assert len(litellm.teams()) == 1
    assert row_of(litellm, broker.acquire()["api_key"])["team_id"] == team["team_id"]
    assert not litellm.calls("/team/update")


def test_alias_is_compared_exactly_before_a_team_is_adopted(make_broker, litellm):
    for alias in ("Agents-Service", "agents-service-2"):
        litellm.admin("POST", "/team/new", {"team_alias": alias})
    broker = make_broker().start()
    broker.wait_ready()
    assert sorted(team["team_alias"] for team in litellm.teams()) == ["Agents-Service", "agents-service", "agents-service-2"]


def test_several_teams_with_the_alias_are_an_error_that_names_them(make_broker, litellm):
    ids = [litellm.admin("POST", "/team/new", {"team_alias": "agents-service"})[1]["team_id"] for _ in range(2)]
    broker = make_broker().start()
    with pytest.raises(RpcError) as refusal:
        broker.acquire(timeout_ms=2000)
    assert refusal.value.code == "upstream_refused"
    assert all(team in refusal.value.text for team in ids) and "LITELLM_TEAM_ID" in refusal.value.text
    assert not litellm.calls("/key/generate") and len(litellm.teams()) == 2


def test_operators_team_is_used_and_never_made(make_broker, litellm):
    litellm.admin("POST", "/team/new", {"team_id": "the-operators", "team_alias": "ops"})
    litellm.clear_calls()
    broker = make_broker(env={"LITELLM_TEAM_ID": "the-operators"}).start()
    reply = broker.acquire(profile="process")
    assert row_of(litellm, reply["api_key"])["team_id"] == "the-operators"
    assert not litellm.calls("/team/update")
    assert "the-operators" in {team["team_id"] for team in litellm.teams()}


def test_team_deleted_between_two_mints_is_made_again(make_broker, litellm):
    broker = make_broker().start()
    broker.wait_ready()
    team = litellm.teams()[0]["team_id"]
    litellm.admin("POST", "/team/delete", {"team_ids": [team]})
    assert litellm.teams() == [] and litellm.keys() == []  # a team takes its keys along
    broker.restart()
    broker.wait_ready()
    reply = broker.acquire()
    assert row_of(litellm, reply["api_key"])["team_id"] == litellm.teams()[0]["team_id"]
    assert litellm.chat(reply["api_key"])[0] == 200


# --- names ---

def test_alias_of_another_install_gets_a_suffix(make_broker, litellm):
    first = make_broker().start()
    first.wait_ready()
    second = make_broker().start()
    second.wait_ready()
    names = sorted(key["key_alias"] for key in litellm.keys())
    assert names[0] == "agents-service" and re.fullmatch(r"agents-service-\w+", names[1])
    assert len(ours(litellm, first.user_id)) == len(ours(litellm, second.user_id)) == 1


def test_two_dedicated_keys_of_one_process_have_different_names(broker, litellm):
    with broker.rpc() as connection:
        keys = [connection.call("acquire", profile="process")["api_key"] for _ in range(2)]
    names = {row_of(litellm, key)["key_alias"] for key in keys}
    assert len(names) == 2
