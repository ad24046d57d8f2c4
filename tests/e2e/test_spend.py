"""`status --spend`: what LiteLLM has counted, read at the call."""

import pytest

from harness.broker import FAST, MANY, key_hash, rule_all
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.upstream import ours
from harness.wait import wait_until

CONFIG = MANY + rule_all() + """
profile "job" { mode = dedicated models = { "gpt-5" } alias = "job-%{pid}" team_alias = "jobs" team { max_budget = 100 budget_duration = "30d" }
  key { max_budget = 9.5 } }
profile "mine" { mode = dedicated models = { "gpt-5" } alias = "mine-%{pid}" team_id = "my-team" }
profile "again" { mode = dedicated models = { "gpt-5" } alias = "again-%{pid}" team_alias = "jobs" }
"""


@pytest.fixture
def spent(make_broker, litellm):
    """A broker whose keys have made calls of 1.25 dollars; -> (broker, key of job, key of mine)"""
    litellm.admin("POST", "/team/new", {"team_id": "my-team", "team_alias": "mine"})
    litellm.mode(cost_per_call=1.25)
    broker = make_broker(CONFIG, timing={**FAST, "sweep_every_ms": 600000}).start()
    job, mine = (broker.acquire(profile=name)["api_key"] for name in ("job", "mine"))
    for key, calls in ((job, 1), (mine, 3)):
        for _ in range(calls):
            assert litellm.chat(key)[0] == 200
    return broker, job, mine


def test_spend_of_teams_profiles_and_keys(spent, litellm):
    broker, job, mine = spent
    broker.acquire(profile="again")
    gone = broker.acquire(profile="job", bind="ttl")
    assert litellm.chat(gone["api_key"])[0] == 200
    broker.call("release", lease=gone["lease"])
    wait_until(lambda: len(ours(litellm, broker.user_id)) == 3, what="its deletion")
    team = broker.profile("job")["team"]["id"]
    answer = broker.admin("spend")
    assert sorted(answer["teams"], key=lambda t: t["alias"]) == [
        {"id": team, "alias": "jobs", "spend_micros": 2500000, "max_budget_micros": 100000000, "budget_duration": "30d"},
        {"id": "my-team", "alias": "mine", "spend_micros": 3750000}]
    assert sorted(answer["profiles"], key=lambda p: p["profile"]) == [
        {"profile": "again", "keys": 1, "spend_micros": 0}, {"profile": "job", "keys": 1, "spend_micros": 1250000},
        {"profile": "mine", "keys": 1, "spend_micros": 3750000}]
    assert [(k["profile"], k["key_hash"], k["spend_micros"], k.get("max_budget_micros")) for k in answer["keys"]][:2] == [
        ("mine", key_hash(mine)[:8], 3750000, None), ("job", key_hash(job)[:8], 1250000, 9500000)]


def test_command_shows_it(spent):
    broker, job, _ = spent
    text = broker.cli("status", "--spend").ok()
    lines = [line.split() for line in text.splitlines()]
    assert ["team", "jobs", "$1.2500", "$100.0000", "30d"] in lines
    assert ["profile", "mine", "1", "$3.7500"] in lines
    assert any(line[:1] == ["key"] and line[2:] == [key_hash(job)[:8], "$1.2500", "$9.5000"] for line in lines), text
    assert "SPENT" not in broker.cli("status").ok()
    done = broker.cli("--json", "status", "--spend").json()
    assert done["spend"] == broker.admin("spend") and done["install"] == broker.install
    assert "spend" not in broker.cli("--json", "status").json()


def test_command_says_so_while_upstream_is_down(spent, litellm):
    broker, _, _ = spent
    litellm.fail(path="*", status=503, times=-1)
    for arguments in (("status", "--spend"), ("--json", "status", "--spend")):
        done = broker.cli(*arguments)
        assert done.code == 75 and "LiteLLM does not tell what was spent" in done.stderr, done
        assert "my-team" in done.stdout or "mine" in done.stdout  # the rest of the status is there
    litellm.clear()
    wait_until(lambda: broker.cli("status", "--spend").code == 0, what="an answer")


def test_only_the_fifty_that_spent_most_are_named(make_broker, litellm):
    broker = make_broker(CONFIG, timing={**FAST, "sweep_every_ms": 600000}).start()
    user = broker.user_id
    for number in range(230):  # three pages
        litellm.add_key(f"sk-spender-{number:04d}-0123456789", key_alias=f"k{number}", user_id=user, spend=(number * 7919 % 230) / 4)
    litellm.add_key("sk-of-another-0123456789", key_alias="other", user_id="keybroker:another", spend=1000)
    answer = broker.admin("spend")
    assert [key["spend_micros"] for key in answer["keys"]] == [(229 - i) * 250000 for i in range(50)]
    assert answer["profiles"] == [{"keys": 230, "spend_micros": sum(range(230)) * 250000}]
    assert "(unknown to the broker)" in broker.cli("status", "--spend").ok()


def test_keys_of_others_are_not_counted_whatever_the_list_has(make_broker, litellm):
    def to_another(path, answer):
        if path == "/key/list":
            for key in answer["keys"]:
                key["user_id"] = "keybroker:another"
    with Proxy(litellm) as proxy:
        broker = make_broker(CONFIG, upstream=proxy, timing={**FAST, "sweep_every_ms": 600000}).start()
        litellm.add_key("sk-spender-0123456789", user_id=broker.user_id, spend=3)
        assert [profile["keys"] for profile in broker.admin("spend")["profiles"]] == [1]
        proxy.change = to_another
        assert broker.admin("spend")["profiles"] == [] == broker.admin("spend")["keys"]


def test_absurd_amounts_are_no_trouble(make_broker, litellm):
    broker = make_broker(CONFIG, timing={**FAST, "sweep_every_ms": 600000}).start()
    for number in range(2):
        litellm.add_key(f"sk-spender-{number:04d}-0123456789", user_id=broker.user_id, spend=1e30)
    assert broker.admin("spend")["profiles"] == [{"keys": 2, "spend_micros": 2**63 - 1}]
    assert broker.cli("status", "--spend").code == 0


def test_several_who_ask_at_once_are_one_reading(spent, litellm):
    broker, _, _ = spent
    litellm.clear_calls()
    litellm.fail(path="/key/list", delay_ms=300)
    with broker.rpc(admin=True) as one, broker.rpc(admin=True) as two, broker.rpc(admin=True) as three:
        sent = [(c, c.send("spend")) for c in (one, two, three)]
        wait_until(lambda: litellm.calls("/key/list"), what="the reading")
        three.close()
        answers = [c.result(number) for c, number in sent[:2]]
    assert answers[0] == answers[1] and len(litellm.calls("/key/list")) == 1


def test_nobody_waits_for_it_any_more(spent, litellm):
    broker, _, _ = spent
    litellm.fail(path="/key/list", hang=True, times=-1)
    connection = broker.rpc(admin=True)
    connection.send("spend")
    wait_until(lambda: any(c["path"].startswith("/key/list") for c in litellm.calls("/key/list")), what="the reading")
    connection.close()
    litellm.clear()
    wait_until(lambda: broker.admin("spend")["teams"], what="another reading")


def test_stop_while_it_is_read(spent, litellm):
    broker, _, _ = spent
    litellm.clear_calls()
    litellm.fail(path="/key/list", hang=True, times=-1)
    with broker.rpc(admin=True) as connection:
        number = connection.send("spend")
        wait_until(lambda: litellm.calls("/key/list"), what="the reading")
        broker.stop()
        with pytest.raises(RpcError) as refusal:
            connection.result(number)
        assert refusal.value.code == "not_leader"


def test_it_is_the_admins(broker):
    with pytest.raises(RpcError) as refusal:
        broker.call("spend")
    assert refusal.value.code == "denied"


def test_without_upstream(make_broker):
    broker = make_broker(upstream=None, env={"OPENAI_API_KEY": "sk-provider-0123456789"}).start()
    broker.secrets.add("sk-provider-0123456789")
    with pytest.raises(RpcError) as refusal:
        broker.admin("spend")
    assert "no LiteLLM is configured" in refusal.value.text
