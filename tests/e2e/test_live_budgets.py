"""Pools, budgets and what a key may reach, on a real LiteLLM: LITELLM_BASE_URL, LITELLM_MASTER_KEY."""

import contextlib
import time

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.holder import Holder
from harness.relay import Relay
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, ours, row_of, wait_gone
from harness.wait import stays, wait_until

pytestmark = pytest.mark.live

TIMES = {**FAST, "burn_delete_ms": 3000, "sweep_every_ms": 2000}
# What a leaked key must not reach. (Method, path, body)
MANAGEMENT = [
    ("POST", "/key/generate", {}), ("POST", "/key/update", {"key": "OWN", "max_budget": 1000}),
    ("POST", "/key/delete", {"keys": ["OWN"]}), ("POST", "/key/block", {"key": "OWN"}), ("GET", "/key/info", None),
    ("GET", "/key/list", None), ("GET", "/key/aliases", None), ("POST", "/key/regenerate", {"key": "OWN"}),
    ("POST", "/team/new", {"team_alias": "leaked"}), ("POST", "/team/update", {"team_id": "TEAM", "max_budget": 1000}),
    ("POST", "/team/delete", {"team_ids": ["TEAM"]}), ("GET", "/team/list", None), ("GET", "/v2/team/list", None),
    ("GET", "/team/info?team_id=TEAM", None), ("POST", "/user/new", {"user_role": "proxy_admin"}),
    ("GET", "/user/info", None), ("GET", "/user/list", None), ("GET", "/spend/logs", None), ("GET", "/global/spend", None),
    ("POST", "/model/new", {"model_name": "x", "litellm_params": {"model": "openai/x"}}), ("POST", "/config/update", {}),
    ("GET", "/get/config/callbacks", None), ("POST", "/budget/new", {"max_budget": 1000}), ("POST", "/cache/flushall", None),
]


def config(live, pool=0, team="", key="", team_name=None):
    """One dedicated profile with this run's names."""
    return (MANY + rule_all() + f'profile "{live.tag}" {{ mode = dedicated models = {{ "gpt-5" }} pool = {pool}\n'
            f'alias = "{live.tag}-%{{pid}}" {team_name or f"""team_alias = "{live.tag}" """}\n'
            + (f"team {{ {team} }}\n" if team else "") + (f"key {{ {key} }}\n" if key else "") + "}\n")


@pytest.fixture
def start(make_live_broker, live):
    """Starts a broker of a configuration; what it makes is taken away."""
    def begin(text, **more):
        broker = make_live_broker(text, timing=TIMES, **more)
        broker.start()
        live.keys(broker.user_id)
        return broker
    return begin


def waiting(live, broker):
    """The keys upstream that are called as those of the pool."""
    return [key for key in ours(live, broker.user_id).values() if (key["key_alias"] or "").startswith(live.tag + "-pool-")]


def wait_full(broker, live, n):
    pool = lambda: broker.profile(live.tag)["pool"]  # noqa: E731
    wait_until(lambda: pool()["ready"] == n and pool()["making"] == 0, 30, lambda: f"a full pool: {pool()}\n{broker.log}")


def test_key_reaches_no_management_route(start, live):
    """key_type llm_api, on the real thing: a leaked key makes calls, and nothing else."""
    broker = start(config(live))
    key = broker.acquire(profile=live.tag)["api_key"]
    team = row_of(live, key)["team_id"]
    before = row_of(live, key)
    assert live.chat(key)[0] == 200 and live.request("GET", "/v1/models", None, key)[0] == 200
    open_to_it = []
    for method, path, body in MANAGEMENT:
        path = path.replace("TEAM", team)
        body = body and {name: [key if v == "OWN" else team if v == "TEAM" else v for v in value] if isinstance(value, list)
                         else key if value == "OWN" else team if value == "TEAM" else value for name, value in body.items()}
        status, answer = live.request(method, path, body, key)
        if status not in (401, 403):
            open_to_it.append((method, path, status, answer))
    assert not open_to_it
    assert row_of(live, key)["max_budget"] == before["max_budget"] and live.chat(key)[0] == 200


def test_pool_is_filled_handed_out_named_and_prolonged(start, live):
    broker = start(config(live, pool=3))
    wait_full(broker, live, 3)
    assert len(waiting(live, broker)) == 3
    with Holder(broker) as peer:
        reply = peer.call("acquire", profile=live.tag)
        assert reply["expires_at_ms"] / 1000 - time.time() < 3700
        assert live.chat(reply["api_key"])[0] == 200
        wait_until(lambda: row_of(live, reply["api_key"])["key_alias"] == f"{live.tag}-{peer.pid}", 10, "its name")
        wait_until(lambda: peer.call("acquire", lease=reply["lease"])["expires_at_ms"] / 1000 - time.time() > 29 * 86400, 10,
                   "its life")
        wait_full(broker, live, 3)
        assert len(waiting(live, broker)) == 3
        peer.kill()
        wait_gone(live, reply["api_key"])
    accounted_for(broker, live, 30)


def test_pool_serves_while_the_way_to_litellm_is_cut(make_live_broker, live):
    with Relay(live.url) as way:
        broker = make_live_broker(config(live, pool=2), timing=TIMES, env={"LITELLM_BASE_URL": way.url}).start()
        live.keys(broker.user_id)
        wait_full(broker, live, 2)
        way.cut()
        keys = [broker.acquire(profile=live.tag, timeout_ms=3000)["api_key"] for _ in range(2)]
        with pytest.raises(RpcError) as refusal:
            broker.acquire(profile=live.tag, timeout_ms=500)
        assert refusal.value.code == "upstream_unavailable"
        assert [live.chat(key)[0] for key in keys] == [200, 200]
        way.mend()
        wait_full(broker, live, 2)
        accounted_for(broker, live, 30)


def test_killed_while_the_pool_is_filled(start, live):
    broker = start(config(live, pool=3))
    wait_full(broker, live, 3)
    for point in ("mint.before_post", "mint.after_post"):
        for _ in range(2):
            broker.acquire(profile=live.tag, bind="ttl")
        wait_full(broker, live, 3)
        broker.stop()
        broker.spawn(env={"KEYBROKER_FAIL": f"{point}:kill"})
        wait_until(lambda: "READY" in broker.log_since_start or not broker.running, what="its start")
        with contextlib.suppress(Closed, RpcError, OSError):
            broker.acquire(profile=live.tag, bind="ttl")
        assert broker.wait(20) == -9
        broker.start()
        wait_full(broker, live, 3)
        accounted_for(broker, live, 40)


def test_limits_go_on_team_and_keys_and_follow_the_file(start, live):
    broker = start(config(live, team='max_budget = 10.5 budget_duration = "30d" rpm_limit = 100 tpm_limit = 5000',
                          key='max_budget = 2.5 rpm_limit = 60 tpm_limit = 1000 budget_duration = "7d"'))
    row = row_of(live, broker.acquire(profile=live.tag)["api_key"])
    assert (row["max_budget"], row["rpm_limit"], row["tpm_limit"], row["budget_duration"]) == (2.5, 60, 1000, "7d")
    team, = live.teams()
    assert (team["max_budget"], team["budget_duration"], team["rpm_limit"], team["tpm_limit"]) == (10.5, "30d", 100, 5000)
    assert team["metadata"]["keybroker"]["install"] == broker.install
    broker.write_config(config(live, team='max_budget = 20 budget_duration = "7d"'))
    broker.admin("reload")
    wait_until(lambda: [(t["max_budget"], t["budget_duration"], t["rpm_limit"]) for t in live.teams()] == [(20, "7d", 100)], 10,
               "the new limits")
    assert live.teams()[0]["metadata"]["keybroker"]["install"] == broker.install
    wait_until(lambda: "drift" not in broker.profile(live.tag)["team"], what="no drift")


@pytest.mark.parametrize("by_id", [False, True], ids=["alias", "id"])
def test_team_of_another_is_left_as_it_is(start, live, by_id):
    status, made = live.admin("POST", "/team/new", {"team_id": live.tag + "-id", "team_alias": live.tag, "max_budget": 5})
    assert status == 200, made
    broker = start(config(live, team="max_budget = 10", team_name=f'team_id = "{live.tag}-id"' if by_id else None))
    assert row_of(live, broker.acquire(profile=live.tag)["api_key"])["team_id"] == live.tag + "-id"
    wait_until(lambda: broker.profile(live.tag)["team"].get("drift") == "max_budget is 5, not 10", what="the drift")
    broker.restart()
    stays(lambda: [team["max_budget"] for team in live.teams()] == [5], 3)  # over a sweep


def test_unknown_team_is_said_and_no_key_is_made(start, live):
    broker = start(config(live, team_name=f'team_id = "{live.tag}-nowhere"'))
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile=live.tag)
    assert refusal.value.code == "upstream_refused" and live.tag + "-nowhere" in refusal.value.text
    assert not ours(live, broker.user_id)


def test_budget_of_the_team_outlives_its_keys(start, live):
    broker = start(config(live, team="max_budget = 0.000001"))
    with Holder(broker) as peer:
        first = peer.call("acquire", profile=live.tag)["api_key"]
        assert live.chat(first)[0] == 200
        spent = lambda: sum(t["spend_micros"] for t in broker.admin("spend")["teams"])  # noqa: E731
        if not wait_spent(spent):
            pytest.skip("this LiteLLM counts no cost for its model")
        wait_until(lambda: live.chat(first)[0] == 429, 90, "the end of the budget")
        peer.kill()
        wait_gone(live, first)
    again = broker.acquire(profile=live.tag)["api_key"]
    wait_until(lambda: live.chat(again)[0] == 429, 90, "another key of the team has no budget either")
    shown = broker.cli("status", "--spend").ok()
    assert live.tag in shown and "$0." in shown


def wait_spent(spent, seconds=90):
    """LiteLLM writes what was spent some seconds later. False: not at all."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and spent() == 0:
        time.sleep(0.5)
    return spent() > 0


def test_key_budget_and_variables(start, live):
    broker = start(None, env={"LITELLM_MAX_BUDGET": "1.5", "LITELLM_RPM_LIMIT": "2", "LITELLM_TPM_LIMIT": "90000"})
    key = broker.acquire(profile="process")["api_key"]
    row = row_of(live, key)
    assert (row["max_budget"], row["rpm_limit"], row["tpm_limit"]) == (1.5, 2, 90000)
    assert 429 in [live.chat(key)[0] for _ in range(4)]
    assert live.chat(broker.acquire(profile="process")["api_key"])[0] == 200  # each key has its own
