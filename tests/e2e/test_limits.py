"""What one uid makes the broker hold or do is limited; who is at a limit is told so, and nobody else notices."""

import contextlib
import os
import resource
import time

import pytest

from harness.broker import FAST
from harness.holder import Holder
from harness.rpc import Closed, RpcError
from harness.users import as_user, need_root
from harness.wait import wait_until

GREEDY, OTHER = 54321, 54322  # no such users anywhere

RULES = """
rule "greedy" {{ uid = {greedy} profiles = {{ "*" }} {limits} }}
rule "other" {{ uid = {other} profiles = {{ "*" }} }}
rule "root" {{ uid = 0 profiles = {{ "*" }} }}
"""


@pytest.fixture
def limited(make_broker):
    """limited(limits="…", rule="…"): a running broker with these limits for all, and for the greedy uid."""
    need_root()

    def make(limits="", rule="", timing=FAST):
        config = f"limits {{ {limits} }}\n" + RULES.format(greedy=GREEDY, other=OTHER, limits=rule)
        broker = make_broker(config=config, timing=timing).start()
        broker.wait_ready()
        os.chmod(os.path.dirname(broker.socket), 0o755)
        os.chmod(broker.socket, 0o666)
        return broker
    return make


class Peers:
    """Processes of one uid, each with one connection."""

    def __init__(self, broker, uid):
        self.broker, self.uid, self.stack = broker, uid, contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def add(self):
        return self.stack.enter_context(Holder(self.broker, self.uid))


def refused(peer, method, **params):
    """The refusal for being over a limit; it says when to come back."""
    with pytest.raises(RpcError) as refusal:
        peer.call(method, **params)
    assert refusal.value.code == "limit_exceeded", refusal.value
    assert refusal.value.retry_after_ms > 0, refusal.value
    return refusal.value


LIMITS = {
    # name: (of all, of the rule, what the greedy does until it is refused)
    "leases": ("leases = {}", "max_leases = {}", {"method": "acquire", "bind": "ttl"}),
    "mints": ("mints_per_minute = {}", "mints_per_minute = {}", {"method": "acquire", "bind": "ttl", "profile": "process"}),
}


@pytest.mark.parametrize("where", ["all", "rule"])
@pytest.mark.parametrize("name", LIMITS)
def test_leases_and_mints(limited, name, where):
    of_all, of_rule, wish = LIMITS[name]
    broker = limited(limits=of_all.format(3)) if where == "all" else limited(of_all.format(100), of_rule.format(3))
    with Peers(broker, GREEDY) as greedy, Peers(broker, OTHER) as other:
        one, two = greedy.add(), other.add()
        for _ in range(3):
            one.call(**wish)
        refused(one, **wish)
        for _ in range(3):
            assert two.call(**wish)["api_key"]


def test_mints_of_a_rule_are_its_own(make_broker):
    """Neither do other rules of the uid fill them up, nor do they use up theirs."""
    profiles = "".join(f'profile "{name}" {{ mode = dedicated duration = 30m models = {{"m"}} }}\n' for name in ("gold", "cheap"))
    rules = (f'rule "gold" {{ uid = {os.getuid()} profiles = {{ "gold" }} mints_per_minute = 1 }}\n'
             f'rule "cheap" {{ uid = {os.getuid()} profiles = {{ "cheap" }} }}\n')
    broker = make_broker(config=profiles + rules, timing=FAST).start()
    with broker.rpc() as peer:
        for profile in ("cheap", "gold", "cheap", "cheap"):
            assert peer.call("acquire", profile=profile)["api_key"]
        assert refused(peer, "acquire", profile="gold").retry_after_ms > 30000
        assert peer.call("acquire", profile="cheap")["api_key"]


def test_a_rules_limit_may_be_higher_than_the_daemons(limited):
    broker = limited("leases = 2 connections = 2 mints_per_minute = 2", "max_leases = 5 connections = 5 mints_per_minute = 5")
    with Peers(broker, GREEDY) as greedy, Peers(broker, OTHER) as other:
        for _ in range(5):
            assert greedy.add().call("acquire", profile="process", bind="ttl")["api_key"]
        refused(other_after_two(other), "whoami")


def other_after_two(other):
    for _ in range(2):
        other.add().call("whoami")
    return other.add()


@pytest.mark.parametrize("where", ["all", "rule"])
def test_connections(limited, where):
    broker = limited("connections = 4") if where == "all" else limited("connections = 400", "connections = 4")
    with Peers(broker, GREEDY) as greedy, Peers(broker, OTHER) as other:
        served = [greedy.add() for _ in range(4)]
        for peer in served:
            peer.call("whoami")
        assert "too many connections" in refused(greedy.add(), "whoami").text
        assert other.add().call("acquire")["api_key"]
        served[0].kill()
        wait_until(lambda: _is_served(greedy.add()), 5, "a free place")


def test_who_is_hung_up_on_is_told_why_that_may_be(limited):
    broker = limited("connections = 4")

    def crowded():
        with contextlib.ExitStack() as crowd:
            for _ in range(8):  # twice the limit: more are not even told
                crowd.enter_context(broker.rpc())
            done = broker.cli("get", "--ttl", "1m")
            return done.code, done.stdout, done.stderr
    code, stdout, stderr = as_user(GREEDY, crowded)
    assert (code, stdout) == (69, "") and "was lost" in stderr and "too many connections" in stderr, stderr


def _is_served(peer):
    try:
        return peer.call("whoami")
    except (RpcError, Closed, OSError):
        return False


def test_requests_that_wait_for_litellm(limited, litellm):
    broker = limited("requests = 3")
    litellm.fail(path="/key/generate", hang=True, times=-1)
    with broker.rpc() as greedy, Peers(broker, OTHER) as other:
        hanging = [greedy.send("acquire", profile="process", timeout_ms=20000) for _ in range(3)]
        wait_until(lambda: broker.admin("status")["keys"]["intent"] == 3, 5, "what hangs")
        with pytest.raises(RpcError) as refusal:
            greedy.call("whoami")
        assert refusal.value.code == "limit_exceeded" and refusal.value.retry_after_ms > 0
        assert other.add().call("acquire")["api_key"], "another uid"
        litellm.clear()
        assert all(greedy.result(identity)["api_key"] for identity in hanging)
        assert greedy.call("whoami")["uid"] == 0


def test_the_administrator_is_not_shut_out_by_his_own_programs(limited, litellm):
    broker = limited("connections = 2 requests = 2 requests_per_second = 2")
    litellm.fail(path="/key/generate", hang=True, times=-1)
    clients = [broker.rpc() for _ in range(2)]
    for client in clients:
        client.send("acquire", profile="process", timeout_ms=20000)
    wait_until(lambda: broker.admin("status")["keys"]["intent"] == 2, 5, "what hangs")
    for _ in range(5):
        assert broker.cli("status").code == 0
    assert broker.admin("revoke", uid=0)["keys"] == 2
    for client in clients:
        client.close()


def test_requests_over_the_rate_wait_and_nobody_else_does(limited):
    broker = limited("requests_per_second = 50")
    with broker.rpc() as greedy, Peers(broker, OTHER) as other:
        quiet = other.add()
        quiet.call("whoami")
        start = time.monotonic()
        sent = [greedy.send("whoami") for _ in range(150)]
        for _ in range(10):
            quiet.call("acquire", bind="ttl")
        assert not greedy.has_reply(sent[-1]), "the other had its ten while this one waits"
        assert all(greedy.result(identity)["uid"] == 0 for identity in sent)
        assert time.monotonic() - start > 1.9, "50 at once, the other hundred in two seconds"


def test_bytes_that_nobody_takes_cost_their_uid_the_connection(limited):
    broker = limited("buffered_bytes = 65536 requests_per_second = 1000000")
    with Peers(broker, OTHER) as other:
        greedy = broker.rpc()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(20000):
                greedy.send("list")
        assert other.add().call("acquire")["api_key"]
        greedy.close()


def test_descriptors_are_shared(limited):
    """Of 400 less its own 128 one uid may have half: 68 connections. What is left is for others."""
    broker = limited("connections = 1000")
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (400, 400))
    broker.admin("reload")
    with Peers(broker, OTHER) as other:
        crowd = [broker.rpc() for _ in range(100)]
        answers = []
        for connection in crowd:
            try:
                answers.append(connection.call("whoami")["uid"])
            except RpcError as refusal:
                answers.append((refusal.code, refusal.retry_after_ms))
            except (Closed, BrokenPipeError, ConnectionResetError):
                answers.append("closed")
        assert answers[:67] == [0] * 67 and ("limit_exceeded", 1000) in answers and 0 not in answers[69:], answers
        peers = [other.add() for _ in range(15)]
        for peer in peers:
            assert peer.call("acquire")["api_key"], "a connection, and its process watched for the lease"
        with pytest.raises(RpcError) as refusal:
            crowd[0].call("acquire")
        assert refusal.value.code == "limit_exceeded" and "TTL lease" in refusal.value.text
        assert crowd[0].call("acquire", bind="ttl")["api_key"]
        for connection in crowd:
            connection.close()
    wait_until(lambda: _is_served_root(broker), 5, "what was given back")


def _is_served_root(broker):
    with contextlib.suppress(RpcError, Closed, OSError):
        return broker.call("acquire")
    return False
