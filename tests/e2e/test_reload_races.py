"""A reload takes a profile away while something is under way for it."""

import os
import signal

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.upstream import accounted_for
from harness.wait import wait_until

OLD = "sk-of-the-old-provisioner-0123456789"
BASE = MANY + rule_all()
PROFILE = 'profile "x" {{\n mode = {}\n alias = "xx"\n models = {{ "gpt-5" }}\n}}\n'
AFTER = {"gone": BASE, "dedicated": BASE + PROFILE.format("dedicated")}


@pytest.mark.parametrize("after", AFTER)
def test_import_of_a_profile_that_goes_meanwhile_is_refused(make_broker, own_litellm, after):
    litellm = own_litellm
    litellm.add_key(OLD, key_alias="xx-old")
    broker = make_broker(config=BASE + PROFILE.format("shared"), upstream=litellm, timing=FAST,
                         env={**DROPIN, "LITELLM_KEY_VALIDATION_TIMEOUT_MS": "60000"}).start()
    broker.secrets.add(OLD)
    broker.wait_ready("x")
    litellm.clear_calls()
    litellm.fail(path="/key/info", delay_ms=500)
    with broker.rpc(admin=True) as connection:
        waiting = connection.send("import", profile="x", token=OLD, alias="xx-old")
        wait_until(lambda: [call for call in litellm.calls("/key/info") if key_hash(OLD) in call["targets"]], what="the question")
        os.kill(litellm.pid, signal.SIGSTOP)
        broker.write_config(AFTER[after])
        broker.admin("reload")
        os.kill(litellm.pid, signal.SIGCONT)
        assert connection.reply(waiting)[0]["code"] == "unknown_profile"
    assert broker.running and broker.acquire()["api_key"]
    assert not broker.rows("SELECT id FROM key WHERE source = 'imported'") and litellm.chat(OLD)[0] == 200


@pytest.mark.parametrize("mode", ["dedicated", "shared"])
@pytest.mark.parametrize("to", ["gone", "other mode"])
def test_profile_that_goes_during_the_post_which_learns_that_chosen_keys_are_forbidden(make_broker, litellm, mode, to):
    """The second POST, for a key that upstream chooses, must not be made for a profile that isn't there."""
    other = {"dedicated": "shared", "shared": "dedicated"}[mode]
    broker = make_broker(config=BASE, env=DROPIN, timing=FAST).start()
    broker.wait_ready()
    litellm.mode(forbid_custom_keys=True)
    litellm.clear_calls()
    litellm.fail(path="/key/generate", delay_ms=400)
    broker.write_config(BASE + PROFILE.format(mode))
    broker.admin("reload")
    with broker.rpc() as connection:
        waiting = connection.send("acquire", profile="x", bind="ttl", timeout_ms=3000)
        wait_until(lambda: litellm.calls("/key/generate"), what="its POST")
        broker.write_config(BASE if to == "gone" else BASE + PROFILE.format(other))
        broker.admin("reload")
        error, _ = connection.reply(waiting)
        assert to != "gone" or error["code"] == "unknown_profile"
    assert broker.running and broker.acquire()["api_key"]
    accounted_for(broker, litellm, 5)


@pytest.mark.parametrize("after", AFTER)
def test_callers_of_a_profile_that_is_no_longer_shared_are_answered(make_broker, litellm, after):
    """Who waits for its first key, and who comes back with a lease of it."""
    broker = make_broker(config=BASE + PROFILE.format("shared"), env=DROPIN, timing={**FAST, "grace_ms": 60000}).start()
    broker.wait_ready("x")
    lease = broker.acquire(profile="x", bind="ttl")["lease"]
    litellm.fail(path="/key/generate", hang=True, times=-1)
    broker.admin("revoke", profile="x")
    with broker.rpc() as connection:
        waiting = connection.send("acquire", profile="x", bind="ttl", timeout_ms=20000)
        wait_until(lambda: [call for call in litellm.calls("/key/generate") if call["fault"]], what="the mint it waits for")
        broker.write_config(AFTER[after])
        broker.admin("reload")
        assert connection.reply(waiting, 3)[0]["code"] == "unknown_profile"
        again = connection.send("acquire", lease=lease, timeout_ms=20000)
        assert connection.reply(again, 3)[0], "the lease's key is gone"
    litellm.clear()


@pytest.mark.parametrize("after", AFTER)
def test_lease_of_a_profile_that_is_no_longer_shared_keeps_its_retiring_key(make_broker, litellm, after):
    broker = make_broker(config=BASE + PROFILE.format("shared"), env=DROPIN, timing={**FAST, "grace_ms": 60000}).start()
    broker.wait_ready("x")
    old = broker.acquire(profile="x", bind="ttl")
    broker.write_config(AFTER[after])
    broker.admin("reload")
    with broker.rpc() as connection:
        error, reply = connection.reply(connection.send("acquire", lease=old["lease"], timeout_ms=20000), 3)
    assert error or litellm.chat(reply["api_key"])[0] == 200


def test_key_that_is_made_while_its_profile_goes_is_not_kept(make_broker, litellm):
    broker = make_broker(config=BASE, env=DROPIN, timing={**FAST, "grace_ms": 100}).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/generate", delay_ms=400)
    broker.write_config(BASE + PROFILE.format("shared"))
    broker.admin("reload")
    wait_until(lambda: litellm.calls("/key/generate"), what="its POST")
    broker.write_config(BASE)
    broker.admin("reload")
    wait_until(lambda: not broker.count("SELECT count(*) FROM key WHERE profile = 'x' AND state <> 'deleted'"),
               what=lambda: str(broker.rows("SELECT * FROM key")))
    accounted_for(broker, litellm)


def waiting_acquires(connection, litellm, count, **params):
    """So many, that wait since upstream makes no keys; -> their numbers."""
    numbers = [connection.send("acquire", timeout_ms=20000, **params) for _ in range(count)]
    wait_until(lambda: connection.unread() == 0 and litellm.calls("/key/generate"), what="that they wait")
    connection.call("whoami")
    return numbers


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_acquire_that_waits_is_denied_once_its_rule_is_gone(make_broker, litellm, mode):
    litellm.fail(path="/key/generate", status=503, times=-1)
    broker = make_broker(config=BASE + PROFILE.format(mode), env=DROPIN, timing=FAST).start()
    with broker.rpc() as connection:
        waiting, = waiting_acquires(connection, litellm, 1, profile="x")
        broker.write_config(BASE.replace('"*"', '"service"') + PROFILE.format(mode))
        broker.admin("reload")
        litellm.clear()
        assert connection.reply(waiting)[0]["code"] == "denied"
    assert broker.audit(event="acquire", outcome="denied") and not broker.audit(event="acquire", outcome="ok")


def test_acquires_that_wait_get_what_their_rule_allows_by_then(make_broker, litellm):
    litellm.fail(path="/key/generate", status=503, times=-1)
    broker = make_broker(config=BASE, env=DROPIN, timing=FAST).start()
    with broker.rpc() as connection:
        waiting = waiting_acquires(connection, litellm, 4, bind="ttl", ttl_ms=60000)
        broker.write_config(MANY + rule_all(max_leases=2, ttl_cap="5s"))
        broker.admin("reload")
        litellm.clear()
        replies = [connection.reply(number) for number in waiting]
    given = [reply for error, reply in replies if not error]
    assert [reply["ttl_ms"] for reply in given] == [5000] * 2
    assert [error["code"] for error, _ in replies if error] == ["limit_exceeded"] * 2


def test_key_that_is_made_for_a_profile_that_becomes_static_is_not_handed_out(make_broker, litellm):
    litellm.fail(path="/key/generate", status=503, times=-1)
    broker = make_broker(config=BASE + PROFILE.format("dedicated"), env=DROPIN, timing=FAST).start()
    path = broker.write("provider.key", "provider-secret-0123456789\n")
    broker.secrets.add("provider-secret-0123456789")
    with broker.rpc() as connection:
        waiting, = waiting_acquires(connection, litellm, 1, profile="x", bind="ttl")
        broker.write_config(BASE + f'profile "x" {{ mode = static key_file = "{path}" base_url = "https://llm.example.org/v1" }}\n')
        broker.admin("reload")
        litellm.clear()
        assert connection.reply(waiting)[0]["code"] == "upstream_unavailable"
        assert connection.call("acquire", profile="x", bind="ttl")["api_key"] == "provider-secret-0123456789"


@pytest.mark.parametrize("mode", ["shared", "static"])
def test_acquire_in_the_turn_that_takes_its_profile_away_leaves_no_lease(make_broker, mode):
    broker = make_broker(env=DROPIN, timing=FAST)
    path = broker.write("provider.key", "provider-secret-0123456789\n")
    broker.secrets.add("provider-secret-0123456789")
    key = f'key_file = "{path}" base_url = "https://llm.example.org/v1"' if mode == "static" else ""
    broker.write_config(BASE + f'profile "x" {{ mode = {mode} models = {{ "gpt-5" }} {key} }}\n')
    broker.start()
    assert broker.call("release", lease=broker.acquire(profile="x", bind="ttl")["lease"])
    broker.write_config(BASE)
    with broker.rpc(admin=True) as connection:
        connection.call("whoami")
        with broker.frozen():
            reloading, asked = connection.send("reload"), connection.send("acquire", profile="x", bind="ttl")
        connection.result(reloading)
        assert connection.reply(asked)[0]["code"] == "unknown_profile"
    wait_until(lambda: broker.admin("status")["leases"] == 0, what="the lease's end")
