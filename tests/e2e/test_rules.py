"""Who may have what: rules on what the kernel says, and deny by default."""

import grp
import os
import pwd
import time

import pytest

from harness.broker import MANY, rule_all
from harness.rpc import RpcError
from harness.users import STRANGER, as_user, need_root
from harness.wait import wait_until


def open_socket(broker):
    """Lets every uid connect, so that the rules alone decide."""
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o666)


@pytest.fixture
def ruled(make_broker):
    """Makes a running broker with these rules that everybody can reach."""
    def make(rules, **options):
        broker = make_broker(config=MANY + rules, **options).start()
        open_socket(broker)
        return broker
    return make


def denied(broker, uid, profile="service", **who):
    """Asserts that this uid is refused."""
    with pytest.raises(RpcError) as refusal:
        broker.call_as(uid, "acquire", profile=profile, **who)
    assert refusal.value.code == "denied", refusal.value
    return refusal.value


def test_without_a_rule_nobody_gets_anything(ruled):
    broker = ruled("")
    with pytest.raises(RpcError) as refusal:
        broker.acquire()
    assert refusal.value.code == "denied"
    assert broker.call("list")["profiles"] == [] and broker.call("whoami")["rules"] == []


def test_rule_by_uid(ruled):
    need_root()
    broker = ruled(f'rule "them" {{ uid = {STRANGER} profiles = {{ "service" }} }}\n')
    assert broker.call_as(STRANGER, "acquire", profile="service", bind="ttl")["api_key"]
    assert broker.call_as(STRANGER, "whoami")["rules"] == ["them"]
    denied(broker, STRANGER, "process")
    denied(broker, STRANGER + 1)
    with pytest.raises(RpcError):
        broker.acquire()  # root has no rule either


def test_rule_by_user_name(ruled):
    need_root()
    games = pwd.getpwnam("games")
    broker = ruled('rule "players" { user = "games" profiles = { "*" } }\n')
    assert broker.call_as(games.pw_uid, "acquire", profile="service", bind="ttl")["api_key"]
    denied(broker, STRANGER)


def test_rule_by_group_primary_or_supplementary(ruled):
    need_root()
    group = grp.getgrnam("games").gr_gid
    broker = ruled('rule "players" { group = "games" profiles = { "*" } }\n')
    assert broker.call_as(STRANGER, "acquire", gid=group, profile="service", bind="ttl")["api_key"]
    assert broker.call_as(STRANGER, "acquire", groups=[7, group], profile="service", bind="ttl")["api_key"]
    denied(broker, STRANGER, groups=[7])


def test_all_that_a_rule_names_must_match(ruled):
    need_root()
    group = grp.getgrnam("games").gr_gid
    broker = ruled(f'rule "both" {{ uid = {STRANGER} group = "games" profiles = {{ "*" }} }}\n')
    denied(broker, STRANGER)
    denied(broker, STRANGER + 1, groups=[group])
    assert broker.call_as(STRANGER, "acquire", groups=[group], profile="service", bind="ttl")["api_key"]


def test_first_rule_that_matches_decides(ruled):
    broker = ruled(f'''
rule "first" {{ uid = {os.getuid()} profiles = {{ "service" }} base_url = "http://127.0.0.1:9/first" }}
rule "second" {{ uid = {os.getuid()} profiles = {{ "*" }} base_url = "http://127.0.0.1:9/second" }}
''')
    assert broker.acquire()["base_url"].endswith("/first")
    assert broker.acquire(profile="process")["base_url"].endswith("/second")
    assert {p["name"]: p["rule"] for p in broker.call("list")["profiles"]} == {"service": "first", "process": "second"}


def test_without_a_file_the_own_uid_may_and_others_may_not(make_broker):
    need_root()
    broker = make_broker().start()
    open_socket(broker)
    assert broker.acquire()["api_key"]
    denied(broker, STRANGER)


def test_nobody_never_matches(ruled):
    need_root()
    broker = ruled('rule "nobody" { uid = 65534 profiles = { "*" } }\n')
    denied(broker, 65534)


def test_denial_is_on_record(ruled):
    broker = ruled("")
    with pytest.raises(RpcError):
        broker.acquire()
    row, = [row for row in broker.audit() if row["outcome"] == "denied"]
    assert (row["uid"], row["pid"], row["profile"]) == (os.getuid(), os.getpid(), "service")


def test_denials_of_one_minute_are_coalesced(ruled):
    broker = ruled("")
    if time.time() % 60 > 55:
        wait_until(lambda: time.time() % 60 < 50, 10, "a new minute, in which all of this fits")
    with broker.rpc() as connection:
        for _ in range(50):
            with pytest.raises(RpcError):
                connection.call("acquire")
        with pytest.raises(RpcError):
            connection.call("acquire", profile="process")
    rows = [row for row in broker.audit() if row["outcome"] == "denied"]
    assert len(rows) == 2 and {row["profile"] for row in rows} == {"service", "process"}
    broker.stop()
    details = broker.rows("SELECT detail FROM audit WHERE outcome = 'denied' AND profile = 'service' ORDER BY sequence")
    assert len(details) == 2 and "49" in details[1]["detail"], "a clean stop writes the count down"


def test_denial_explains_itself_to_the_caller(ruled):
    broker = ruled("")
    with pytest.raises(RpcError) as refusal:
        broker.acquire()
    assert "service" in refusal.value.text and str(os.getuid()) in refusal.value.text


# --- the admin socket ---

ADMIN_METHODS = [("status", {}), ("leases", {}), ("rotate", {"profile": "service"}), ("revoke", {"profile": "service"}),
                 ("import", {"token": "sk-anything-at-all-0123", "alias": "x"}), ("audit_read", {}), ("reload", {})]


@pytest.mark.parametrize("method,params", ADMIN_METHODS, ids=[name for name, _ in ADMIN_METHODS])
def test_admin_method_on_the_client_socket_is_denied(broker, method, params):
    with broker.rpc() as connection:
        with pytest.raises(RpcError) as refusal:
            connection.call(method, **params)
        assert refusal.value.code == "denied" and broker.admin_socket in refusal.value.text
        assert connection.call("whoami")


def test_client_methods_work_on_the_admin_socket(broker):
    assert broker.admin("whoami")["pid"] == os.getpid()
    assert broker.admin("acquire")["api_key"]


def test_sockets_have_the_modes_that_they_must(broker):
    directory = os.path.dirname(broker.admin_socket)
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.stat(broker.admin_socket).st_mode & 0o777 == 0o600
    assert os.stat(broker.path("state/keybroker")).st_mode & 0o777 == 0o700
    for name in os.listdir(broker.path("state/keybroker")):
        assert os.stat(broker.path("state/keybroker/" + name)).st_mode & 0o777 == 0o600, name
    assert os.stat(broker.path("config/keybroker/seal.key")).st_mode & 0o777 == 0o600
    assert os.stat(broker.socket).st_mode & 0o007 == 0


def test_admin_socket_is_closed_to_others(make_broker):
    need_root()
    broker = make_broker().start()
    open_socket(broker)
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: broker.rpc(admin=True))


def test_cli_of_another_user_is_denied_by_rule(make_broker):
    need_root()
    broker = make_broker(config=MANY + rule_all()).start()
    open_socket(broker)
    os.chmod(broker.path("run/keybroker"), 0o755)
    done = broker.cli("get", user=STRANGER)
    assert done.code == 77 and done.stdout == "" and "sk-" not in done.stderr


def test_limit_hurts_only_the_user_who_meets_it(make_broker):
    need_root()
    broker = make_broker(config="limits { connections = 3 leases = 5 mints_per_minute = 2 }\n" + rule_all() +
                         f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n').start()
    broker.wait_ready()
    open_socket(broker)

    def exhaust():
        held = [broker.rpc() for _ in range(3)]
        codes = set()
        for _ in range(8):
            for profile in ("service", "process"):
                error, _ = held[0].reply(held[0].send("acquire", profile=profile, bind="ttl"))
                codes.add(error and error["code"])
        return codes
    assert as_user(STRANGER, exhaust) == {None, "limit_exceeded"}
    assert broker.acquire(profile="process")["api_key"] and broker.acquire()["api_key"]
