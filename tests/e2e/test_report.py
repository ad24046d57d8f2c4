"""`report`: a client was refused with its key. Upstream is asked, once for all, and only its proof counts."""

import os

import pytest

from harness.broker import DROPIN, FAST, key_hash, rule_all
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.upstream import row_of, wait_gone
from harness.wait import stays, wait_until

# The sweep would find out by itself.
QUICK = {**FAST, "grace_ms": 300, "info_timeout_ms": 500, "retry_attempts": 1, "sweep_every_ms": 600000}
STATIC = 'profile "provider" {{ mode = static models = {{ "gpt-5" }} key_file = "{}" base_url = "https://api.example/v1" }}\n'


@pytest.fixture
def asked(make_broker, litellm):
    """A running broker, and nothing in the stand-in's journal yet."""
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    broker.acquire()
    litellm.clear_calls()
    return broker


def questions(litellm):
    """How often upstream was asked about a key."""
    return len(litellm.calls("/key/info"))


def end(litellm, key, how):
    """Makes it dead behind the broker's back."""
    if how == "deleted":
        litellm.admin("POST", "/key/delete", {"keys": [key_hash(key)]})
    elif how == "blocked":
        litellm.admin("POST", "/key/block", {"key": key_hash(key)})
    else:
        litellm.admin("POST", "/key/update", {"key": key_hash(key), "duration": "1s"})
        litellm.advance(2)


@pytest.mark.parametrize("how,why", [("deleted", "upstream does not know it"), ("blocked", "blocked upstream")])
def test_proven_death_makes_a_new_generation(asked, litellm, how, why):
    old = asked.acquire()
    end(litellm, old["api_key"], how)
    answer = asked.call("report", lease=old["lease"], status=401)
    assert answer == {"lease": old["lease"], "state": "dead", "why": why}
    new = asked.acquire(lease=old["lease"])
    assert new["generation"] == 2 and litellm.chat(new["api_key"])[0] == 200
    row, = asked.audit(event="report")
    assert (row["outcome"], row["lease"], row["detail"]) == ("dead", old["lease"], why)
    assert row["key_tag"] == asked.tag(old["api_key"]) and row["uid"] == os.getuid()
    assert asked.call("report", lease=old["lease"])["state"] == "alive"


def test_key_that_expired_upstream_is_dead(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    broker.wait_ready()
    old = broker.acquire()
    with broker.frozen():  # so that nothing prolongs it
        litellm.admin("POST", "/key/update", {"key": key_hash(old["api_key"]), "duration": "1s"})
        wait_until(lambda: litellm.chat(old["api_key"])[0] == 401, what="its expiry")
    assert broker.call("report", lease=old["lease"]) == {"lease": old["lease"], "state": "dead", "why": "expired"}
    assert broker.acquire(lease=old["lease"])["generation"] == 2


@pytest.mark.parametrize("profile", ["service", "process"])
def test_date_that_is_wrong_proves_no_death(make_broker, litellm, profile):
    """Some proxy has another clock; the key's end is an hour before its Date, and a quarter after now."""
    durations = {"LITELLM_SERVICE_KEY_DURATION": "15m", "LITELLM_KEY_DURATION": "15m"}
    with Proxy(litellm) as proxy:
        broker = make_broker(upstream=proxy, env=durations, timing=QUICK).start()
        broker.wait_ready()
        reply = broker.acquire(profile=profile)
        proxy.skew = 3600
        answer = broker.call("report", lease=reply["lease"], status=401)
        assert answer["state"] == "unknown" and "clock" in answer["why"]
        broker.restart()
        wait_until(lambda: broker.admin("status")["keys"]["live"] >= 1 and proxy.counts["/key/info"] >= 4, what="its check")
        proxy.skew = 0
        again = broker.acquire(lease=reply["lease"])
        assert again["api_key"] == reply["api_key"] and litellm.chat(reply["api_key"])[0] == 200
        assert broker.audit(event="report") == broker.audit(event="retire") == []
        broker.stop()


def test_living_key_is_alive_and_stays(asked, litellm):
    reply = asked.acquire()
    assert asked.call("report", lease=reply["lease"], status=401) == {"lease": reply["lease"], "state": "alive"}
    assert questions(litellm) == 1 and asked.acquire()["api_key"] == reply["api_key"]


@pytest.mark.parametrize("rule", [
    {"status": 401, "body": {"error": {"message": "Authentication Error", "type": "auth_error", "param": None, "code": "401"}}},
    {"status": 404, "body": "<html>not found</html>"},
    {"status": 404, "body": {"error": {"message": "no such route", "type": "other", "param": None, "code": "404"}}},
    {"status": 500}, {"status": 503}, {"hang": True}, {"drop_after": 0}])
def test_anything_but_proof_proves_nothing(asked, litellm, rule):
    reply = asked.acquire()
    litellm.fail(path="/key/info", times=-1, **rule)
    answer = asked.call("report", lease=reply["lease"], status=401)
    assert answer["state"] == "unknown"
    litellm.clear()
    assert asked.acquire()["api_key"] == reply["api_key"] and litellm.chat(reply["api_key"])[0] == 200
    assert asked.audit(event="report") == []


@pytest.mark.parametrize("status", [429, 500, 404, 200])
def test_refusal_that_is_not_about_the_key_asks_nobody(asked, litellm, status):
    """A budget that is spent is no death."""
    lease = asked.acquire()["lease"]
    assert asked.call("report", lease=lease, status=status)["state"] == "unknown"
    assert questions(litellm) == 0


def test_budget_that_is_spent_is_no_death(make_broker, litellm):
    broker = make_broker(env={"LITELLM_MAX_BUDGET": "0.5"}, timing=QUICK).start()
    broker.wait_ready()
    reply = broker.acquire(profile="process")
    litellm.mode(cost_per_call=1)
    assert [litellm.chat(reply["api_key"])[0] for _ in range(2)] == [200, 429]
    for status in (429, 401):
        assert broker.call("report", lease=reply["lease"], status=status)["state"] == {429: "unknown", 401: "alive"}[status]
    assert broker.acquire(lease=reply["lease"])["api_key"] == reply["api_key"]


def test_storm_of_reports_is_one_question(asked, litellm):
    leases = [asked.acquire(bind="ttl")["lease"] for _ in range(50)]
    litellm.fail(path="/key/info", delay_ms=300, times=1)
    connections = [asked.rpc() for _ in range(50)]
    sent = [[connection.send("report", lease=lease, status=401) for _ in range(20)]
            for connection, lease in zip(connections, leases)]
    for connection, numbers in zip(connections, sent):
        assert {connection.result(number)["state"] for number in numbers} == {"alive"}
        connection.close()
    assert questions(litellm) == 1


def test_storm_of_seconds_is_one_question_a_second(asked, litellm):
    lease = asked.acquire()["lease"]
    count = 0
    with asked.rpc() as connection:
        first = wait_until(lambda: connection.call("report", lease=lease) and litellm.calls("/key/info"), what="a question")
        while len(litellm.calls("/key/info")) < 4:
            assert connection.call("report", lease=lease)["state"] == "alive"
            count += 1
    times = [call["at"] for call in litellm.calls("/key/info")]
    assert count > 20 and len(first) == 1
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[1:]))


def test_each_key_has_its_own_question(asked, litellm):
    leases = [asked.acquire(profile="process")["lease"] for _ in range(3)]
    litellm.clear_calls()
    for lease in leases * 2:
        assert asked.call("report", lease=lease)["state"] == "alive"
    assert questions(litellm) == 3


def test_death_of_a_dedicated_key_ends_its_lease_and_its_holder_is_told(asked, litellm):
    with asked.rpc() as connection:
        reply = connection.call("acquire", profile="process")
        connection.call("watch")
        end(litellm, reply["api_key"], "deleted")
        assert connection.call("report", lease=reply["lease"])["state"] == "dead"
        connection.wait_notifications(1)
        assert connection.notifications == [["revoked", [{"lease": reply["lease"]}]]]
        with pytest.raises(RpcError) as refusal:
            connection.call("acquire", lease=reply["lease"])
        assert refusal.value.code == "unknown_lease"
        assert litellm.chat(connection.call("acquire", profile="process")["api_key"])[0] == 200


def test_death_of_a_retiring_key_ends_the_fixed_lease_that_held_it(asked, litellm):
    with asked.rpc() as connection:
        old = connection.call("acquire", refreshable=False)
        connection.call("watch")
        asked.admin("rotate", profile="service")
        end(litellm, old["api_key"], "blocked")
        assert connection.call("report", lease=old["lease"])["state"] == "dead"
        wait_until(lambda: connection.call("whoami") and ["revoked", [{"lease": old["lease"]}]] in connection.notifications,
                   what="that its lease was revoked")
        wait_gone(litellm, old["api_key"])
    assert asked.acquire()["generation"] == 2


def test_who_is_behind_is_told_so_without_a_question(asked, litellm):
    lease = asked.acquire()["lease"]
    asked.admin("rotate", profile="service")
    litellm.clear_calls()
    assert asked.call("report", lease=lease, status=401)["state"] == "replaced"
    assert questions(litellm) == 0


def test_holders_of_a_dead_key_hear_of_the_next(asked, litellm):
    with asked.rpc() as connection:
        reply = connection.call("acquire")
        connection.call("watch")
        end(litellm, reply["api_key"], "deleted")
        connection.call("report", lease=reply["lease"])
        connection.wait_notifications(1)
        rotated = {params[0]["generation"] for method, params in connection.notifications if method == "rotated"}
        assert rotated == {2}


def test_static_key_cannot_be_judged(make_broker, litellm):
    broker = make_broker(env=DROPIN, timing=QUICK)
    secret = "sk-of-a-provider-0123456789abcdef"
    broker.secrets.add(secret)
    broker.write_config(rule_all() + STATIC.format(broker.write("provider.key", secret)))
    broker.start()
    broker.wait_ready()
    lease = broker.acquire(profile="provider")["lease"]
    litellm.clear_calls()
    answer = broker.call("report", lease=lease, status=401)
    assert answer["state"] == "unknown" and "nobody here can tell" in answer["why"]
    assert questions(litellm) == 0


def test_report_while_the_broker_stops_is_to_be_repeated(asked, litellm):
    lease = asked.acquire(bind="ttl")["lease"]
    litellm.fail(path="/key/info", hang=True, times=1)
    with asked.rpc() as connection:
        number = connection.send("report", lease=lease)
        wait_until(lambda: litellm.calls("/key/info"), what="the question")
        asked.stop()
        assert connection.reply(number)[0]["code"] == "not_leader"
    litellm.clear()


def test_reporter_that_leaves_is_no_obstacle(asked, litellm):
    reply = asked.acquire()
    litellm.fail(path="/key/info", delay_ms=300, times=1)
    with asked.rpc() as leaving, asked.rpc() as staying:
        leaving.send("report", lease=reply["lease"])
        wait_until(lambda: litellm.calls("/key/info"), what="the question")
        number = staying.send("report", lease=reply["lease"])
        leaving.close()
        assert staying.result(number)["state"] == "alive"
    assert row_of(litellm, reply["api_key"]) and stays(lambda: asked.running, 0.1)
