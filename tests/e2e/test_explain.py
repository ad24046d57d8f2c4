"""Why somebody may have a profile, or may not: for callers, for administrators, at the load of the rules."""

import grp
import os

import pytest

from harness.broker import MANY, rule_all
from harness.rpc import RpcError
from harness.users import STRANGER, as_user, need_root

MODELS = {"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"}
RULES = f'''
rule "web" {{ uid = {STRANGER} unit = "web-*.service" profiles = {{ "service" }} }}
rule "ops" {{ group = "games" profiles = {{ "service" }} }}
rule "agent" {{ uid = {STRANGER} exe = "/usr/bin/no-agent" profiles = {{ "s*" }} }}
rule "batch" {{ uid = {STRANGER} profiles = {{ "process" }} }}
'''


@pytest.fixture
def ruled(make_broker):
    """Makes a running broker with these rules that everybody can reach."""
    def make(rules=RULES):
        broker = make_broker(config=MANY + rules, env=MODELS).start()
        os.chmod(os.path.dirname(broker.socket), 0o755)
        os.chmod(broker.path("run/keybroker"), 0o755)
        os.chmod(broker.socket, 0o666)
        return broker
    return make


def test_caller_learns_which_rule_decides_and_not_what_the_others_want(ruled):
    need_root()
    broker = ruled()
    told = broker.call_as(STRANGER, "explain", profile="process")
    assert (told["allowed"], told["rule"]) == (True, "batch") and told["sees"]["uid"] == STRANGER
    assert [(r["rule"], r["decides"]) for r in told["rules"]] == \
        [("web", False), ("ops", False), ("agent", False), ("batch", True)]
    told = broker.call_as(STRANGER, "explain", profile="service")
    assert told["allowed"] is False and "rule" not in told
    assert [r["why"] for r in told["rules"]] == [
        "it is for another systemd unit", "it is for a group that you are not in", "it is for another executable, or the broker cannot see yours",
        "it does not name this profile"]
    with pytest.raises(RpcError) as refusal:
        broker.call_as(STRANGER, "explain", profile="nosuch")
    assert refusal.value.code == "unknown_profile"


def test_rule_behind_the_one_that_decides(ruled):
    broker = ruled(rule_all() + 'rule "group" { group = 0 profiles = { "*" } }\n')
    told = broker.call("explain", profile="service")
    assert [r.get("why") for r in told["rules"]] == [None, "a rule before it decides"]


def test_command_says_it_and_exits_accordingly(ruled):
    need_root()
    broker = ruled()
    done = broker.cli("explain", "process", user=STRANGER)
    assert done.code == 0 and "yes, by rule batch" in done.stdout and "this rule decides" in done.stdout
    done = broker.cli("explain", user=STRANGER)
    assert done.code == 77 and "no rule allows it" in done.stdout and str(STRANGER) in done.stdout
    assert "web-*" not in done.stdout and done.stderr == ""


def test_administrator_asks_about_anybody(ruled):
    need_root()
    broker = ruled()
    told = broker.cli("explain", "service", "--as", f"uid={STRANGER},unit=web-1.service").ok()
    assert "yes, by rule web" in told
    done = broker.cli("explain", "service", "--as", f"uid={STRANGER},unit=db.service,exe=/bin/sh")
    assert done.code == 77
    for why in ("unit is db.service, not web-*.service", f"it is not in group {grp.getgrnam('games').gr_gid}",
                "exe is /bin/sh, not /usr/bin/no-agent", "it does not name this profile"):
        assert why in done.stdout, done
    assert f"uid is 7, not {STRANGER}" in broker.cli("explain", "--as", "uid=7").stdout
    for who in ("user=games", "uid=7,group=games", f"uid={STRANGER},gid={grp.getgrnam('games').gr_gid}"):
        assert "yes, by rule ops" in broker.cli("explain", "--as", who).ok(), who
    told = broker.cli("--json", "explain", "process", "--as", f"uid={STRANGER}").json()
    assert told["allowed"] and told["sees"] == {"uid": STRANGER, "groups": []}
    assert "foreign pid namespace" in broker.cli("explain", "process", "--as", f"uid={STRANGER},foreign_pid=yes").stdout


@pytest.mark.parametrize("who", ["", "unit=a.service", "uid", "uid=x", "user=no-such-user", "colour=red", "gid=7"])
def test_bad_as_is_a_usage_error(ruled, who):
    done = ruled().cli("explain", "--as", who)
    assert done.code == 64 and "--as" in done.stderr, done


def test_others_are_none_of_a_caller_s_business(ruled):
    need_root()
    broker = ruled()
    with pytest.raises(RpcError) as refusal:
        as_user(STRANGER, lambda: broker.call("explain", profile="service", uid=0))
    assert refusal.value.code == "denied" and broker.admin_socket in refusal.value.text
    row, = broker.audit(event="explain")
    assert row["outcome"] == "denied" and row["uid"] == STRANGER
    for params in ({"unit": "a.service"}, {"groups": []}, {"foreign_pid": True}, {"gid": 0}):
        with pytest.raises(RpcError) as refusal:
            broker.admin("explain", profile="service", **params)
        assert refusal.value.code == "invalid_request" and "uid" in refusal.value.text
    for groups in (["x"], 7, [-1], [2 ** 32 - 1]):
        with pytest.raises(RpcError) as refusal:
            broker.admin("explain", profile="service", uid=1, groups=groups)
        assert refusal.value.code == "invalid_request"


def test_many_rules_come_in_pages(ruled):
    rules = "".join(f'rule "r{n}" {{ uid = {10000 + n} profiles = {{ "*" }} }}\n' for n in range(120))
    broker = ruled(rules + rule_all("last"))
    told = broker.call("explain", profile="service", limit=100)
    assert told["rule"] == "last" and len(told["rules"]) == 100 and told["next"] == 100
    told = broker.call("explain", profile="service", after=100)
    assert [r["rule"] for r in told["rules"]][-2:] == ["r119", "last"] and "next" not in told
    lines = broker.cli("explain").ok().splitlines()
    assert sum(line.startswith("r") and "another user" in line for line in lines) == 120


def test_denial_says_what_was_seen_and_its_record_which_rule_was_missing(ruled):
    need_root()
    broker = ruled()
    with pytest.raises(RpcError) as refusal:
        broker.call_as(STRANGER, "acquire", profile="service", bind="ttl")
    assert f"to uid {STRANGER}, gid {STRANGER}, pid " in refusal.value.text
    assert f"exe {os.readlink('/proc/self/exe')}" in refusal.value.text and "web-*" not in refusal.value.text
    row, = broker.audit(event="acquire", outcome="denied")
    assert row["detail"].startswith("no rule allows it: web: unit is unknown, not web-*.service; ops: it is not in group")
    assert "batch" not in row["detail"] and "agent: exe is " in row["detail"]
    with pytest.raises(RpcError):
        broker.call_as(STRANGER + 1, "acquire", profile="process")
    row, = broker.audit(uid=STRANGER + 1)
    assert row["detail"] == f"no rule allows it: batch: uid is {STRANGER + 1}, not {STRANGER}"


# --- the rule set at its load ---

FAULTS = {
    'rule "a" { uid = 1 profiles = { "*" } }\nrule "b" { uid = 1 profiles = { "service" } }\n':
        '2: rule "b" is never reached: rule "a"',
    'rule "a" { uid = 1 profiles = { "*" } }\nrule "a" { uid = 2 profiles = { "*" } }\n': '2: "a" is already defined on line 1',
    'rule "a" { user = "no-such-user" profiles = { "*" } }\n': '1: user "no-such-user" is not known here',
    'rule "a" {\n group = "no-such-group" profiles = { "*" } }\n': '2: group "no-such-group" is not known here',
}


@pytest.mark.parametrize("text", FAULTS, ids=["unreachable", "duplicate", "user", "group"])
def test_fault_of_the_rules_is_named_with_its_line(make_broker, text):
    broker = make_broker(config=text, env=MODELS)
    done = broker.run_daemon("--check")
    assert done.code == 78 and f"{broker.config_path}:{FAULTS[text]}" in done.stderr, done
    broker.write_config(rule_all())
    broker.start()
    broker.write_config(text)
    with pytest.raises(RpcError) as refusal:
        broker.admin("reload")
    assert FAULTS[text] in refusal.value.text
    assert broker.call("whoami")["rules"] == ["all"]


def test_what_matches_nothing_today_is_a_warning(make_broker):
    broker = make_broker(config=rule_all() + 'rule "later" { uid = 7 exe = "/no/such/file" profiles = { "batch-*" } }\n', env=MODELS)
    done = broker.run_daemon("--check")
    assert done.code == 0 and "matches nothing today: /no/such/file: No such file" in done.stdout
    assert 'no profile matches "batch-*" today' in done.stdout
    broker.start()
    assert broker.call("whoami")["rules"] == ["all"]
