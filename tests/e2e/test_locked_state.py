"""Another process holds the state's locks: nothing is lost by it, and nothing half done."""

import contextlib
import fcntl
import os
import pathlib
import signal
import time

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.rpc import RpcError
from harness.upstream import accounted_for, row_of, unread_answers, wait_gone
from harness.wait import stays, wait_until

OLD = "sk-of-the-old-provisioner-0123456789"
BASE = MANY + rule_all()
EXTRA = BASE + 'profile "x" {\n mode = shared\n alias = "xx"\n models = { "gpt-5" }\n}\n'
UNRECORDED = "cannot be recorded now"


def unrecorded(broker):
    """Waits, while the state is locked, until a turn could not be committed."""
    wait_until(lambda: UNRECORDED in broker.log_since_start, what=lambda: UNRECORDED + broker.log)


def asked_about(litellm, key):
    """Waits until /key/info is under way for this key."""
    wait_until(lambda: [call for call in litellm.calls("/key/info") if key_hash(key) in call["targets"]], what="the question")


def test_who_holds_the_lock_is_said_once_and_when_it_is_over(make_broker):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    who = f"pid {os.getpid()} ({pathlib.Path('/proc/self/comm').read_text(encoding='ascii').strip()}) holds the lock of the state"
    over = "what leaves can be recorded again"
    for episode in (1, 2):
        with broker.locked():
            for _ in range(2):
                with pytest.raises(RpcError):
                    broker.acquire(bind="ttl")
                stays(lambda: over not in broker.log or episode == 2, 1.1)  # the log is told of a failure once a second
        assert broker.acquire(bind="ttl")
        wait_until(lambda: broker.log.count(over) == episode, what=lambda: over + broker.log)
        assert broker.log.count(who) == episode, broker.log


# --- retirements ---

def by_reload(broker, _):
    """Its profile goes."""
    broker.write_config(BASE)
    broker.reload()


def by_its_death(_, __):
    """It was found dead by the check at the start."""


@pytest.mark.parametrize("end", [by_reload, by_its_death], ids=lambda end: end.__name__)
def test_retirement_that_cannot_be_written_down_is_made_up_for(make_broker, litellm, end):
    broker = make_broker(config=EXTRA, env=DROPIN, timing={**FAST, "grace_ms": 100}).start()
    broker.wait_ready("x")
    key = broker.acquire(profile="x", bind="ttl")["api_key"]
    if end is by_its_death:
        broker.stop()
        litellm.admin("POST", "/key/block", {"key": key_hash(key)})
        litellm.clear_calls()
        litellm.fail(path="/key/info", delay_ms=500, times=-1)
        broker.start()
        asked_about(litellm, key)
    with broker.locked():
        end(broker, litellm)
        unrecorded(broker)
    litellm.clear()
    wait_gone(litellm, key)
    rows = [row for row in broker.audit(event="retire") if row["key_tag"] == broker.tag(key)]
    assert len(rows) == 1, "it retired once"
    if end is not by_reload:
        assert litellm.chat(broker.acquire(profile="x", bind="ttl", timeout_ms=5000)["api_key"])[0] == 200
    accounted_for(broker, litellm)


@pytest.mark.parametrize("profile", ["service", "process"])
def test_revocation_that_cannot_be_written_down_takes_nothing_away(make_broker, litellm, profile):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    held = broker.acquire(profile=profile, bind="ttl")
    with broker.locked(), pytest.raises(RpcError) as refusal:
        broker.admin("revoke", key_hash=key_hash(held["api_key"]))
    assert refusal.value.code == "audit_unavailable"
    stays(lambda: litellm.chat(held["api_key"])[0] == 200, 2)
    assert broker.acquire(lease=held["lease"])["api_key"] == held["api_key"]
    assert broker.audit(event="revoke") == [] == broker.audit(event="retire")
    assert broker.admin("revoke", key_hash=key_hash(held["api_key"])) == {"leases": 1, "keys": 1}
    wait_gone(litellm, held["api_key"])
    assert [row["outcome"] for row in broker.audit(event="revoke")] == ["asked", "ok", "ok"]


def test_fresh_key_that_nobody_waits_for_goes_when_that_can_be_written_down(make_broker, litellm):
    """Who comes back before that gets another one."""
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/info", delay_ms=500)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process", request_id="same")
        wait_until(lambda: litellm.calls("/key/info"), what="the last step of its mint")
    with broker.locked():
        unrecorded(broker)
    reply = broker.acquire(profile="process", request_id="same")
    wait_until(lambda: len(litellm.keys()) == 2, what="nothing but the shared key and the new one")
    assert litellm.chat(reply["api_key"])[0] == 200
    accounted_for(broker, litellm)


# --- imports ---

@pytest.mark.parametrize("alias", ["old-name", "agents-service"], ids=["unknown", "set aside"])
def test_import_that_cannot_be_written_down_changes_nothing(make_broker, litellm, alias):
    """Also of a key that was set aside when its name was taken over: that one has a row already."""
    litellm.add_key(OLD, key_alias=alias)
    broker = make_broker(timing=FAST).start()
    broker.secrets.add(OLD)
    broker.wait_ready()
    live = broker.acquire(bind="ttl")["api_key"]
    litellm.clear_calls()

    def stored():
        return broker.rows("SELECT * FROM key ORDER BY id"), {key["token"]: key["key_alias"] for key in litellm.keys()}
    before = stored()
    litellm.fail(path="/key/info", delay_ms=500)
    with broker.rpc(admin=True) as connection:
        waiting = connection.send("import", token=OLD, alias="old-name")
        asked_about(litellm, OLD)
        with broker.locked():
            error, _ = connection.reply(waiting)
    assert error["code"] == "audit_unavailable" and not broker.audit(event="import")
    assert stored() == before and broker.acquire(bind="ttl")["api_key"] == live
    broker.admin("import", token=OLD, alias="old-name")
    assert broker.acquire(bind="ttl")["api_key"] == OLD
    wait_until(lambda: row_of(litellm, OLD)["key_alias"] == "agents-service", what="its name")
    assert row_of(litellm, live)["key_alias"] != "agents-service" and litellm.chat(live)[0] == 200
    assert broker.count("SELECT count(*) FROM key WHERE hash = ?", key_hash(OLD)) == 1


def test_key_that_was_set_aside_goes_in_time_though_its_import_came_between(make_broker, litellm):
    """Its time is over in the very turn in which its import would have been written down."""
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(timing={**FAST, "legacy_delete_ms": 2000}).start()
    broker.secrets.add(OLD)
    broker.wait_ready()
    over, = broker.rows("SELECT delete_at_ms FROM key WHERE hash = ?", key_hash(OLD))
    litellm.fail(path="/key/info", delay_ms=100)
    with broker.rpc(admin=True) as connection:
        waiting = connection.send("import", token=OLD, alias="old-name")
        asked_about(litellm, OLD)
        with broker.locked():
            with broker.held_in_a_turn():
                wait_until(lambda: unread_answers(litellm) == 1, what="its answer")
                wait_until(lambda: time.time() * 1000 > over["delete_at_ms"], what="the end of the key's time")
            assert connection.reply(waiting)[0]["code"] == "invalid_request"
    wait_gone(litellm, OLD)


def test_rotation_goes_on_after_an_import_that_could_not_be_written_down(make_broker, litellm):
    """The import has given up the key that was being made."""
    litellm.add_key(OLD, key_alias="old-name")
    broker = make_broker(timing={**FAST, "sweep_every_ms": 600000}).start()
    broker.secrets.add(OLD)
    broker.wait_ready()
    live = broker.acquire(bind="ttl")["api_key"]
    litellm.clear_calls()
    litellm.fail(path="/key/generate", delay_ms=1500)
    litellm.fail(path="/key/info", delay_ms=500)
    with broker.rpc(admin=True) as connection:
        rotation = connection.send("rotate", profile="service", timeout_ms=10000)
        wait_until(lambda: litellm.calls("/key/generate"), what="its POST")
        waiting = connection.send("import", token=OLD, alias="old-name")
        asked_about(litellm, OLD)
        with broker.locked():
            error, _ = connection.reply(waiting)
        assert error["code"] == "audit_unavailable"
        connection.result(rotation)
    assert broker.acquire(bind="ttl")["api_key"] not in (live, OLD)
    accounted_for(broker, litellm)


# --- the fence before each call upstream ---

@contextlib.contextmanager
def recovered_by_another(broker):
    """As while another process recovers the log after a crash: its index is not valid and locked, so that not even a SELECT
    can begin. Nothing here may open the database meanwhile: closing it would drop the locks."""
    with open(broker.db + "-shm", "r+b", buffering=0) as index:
        fcntl.lockf(index, fcntl.LOCK_EX, 3, 120)  # WAL_WRITE_LOCK, WAL_CKPT_LOCK, WAL_RECOVER_LOCK
        header = index.read(96)
        index.seek(0)
        index.write(bytes(96))
        try:
            yield
        finally:
            index.seek(0)
            index.write(header)


def test_mint_goes_on_when_the_fence_could_not_be_asked(make_broker, litellm):
    """That proves no other leader: who waits is served once it can be."""
    litellm.fail(path="/key/generate", status=503, times=-1)
    broker = make_broker(timing={**FAST, "retry_attempts": 1}).start()
    wait_until(lambda: litellm.calls("/key/generate"), what="the first try")
    with broker.rpc() as connection:
        waiting = connection.send("acquire", bind="ttl", timeout_ms=20000)
        with recovered_by_another(broker):
            litellm.clear()
            litellm.clear_calls()
            wait_until(lambda: "not asked" in broker.profile().get("error", ""), what=lambda: str(broker.profile()))
            assert not litellm.calls("/key/generate") and broker.running
        assert litellm.chat(connection.result(waiting, 10)["api_key"])[0] == 200
    accounted_for(broker, litellm)


# --- what happened is on record in the end ---

def test_stray_that_was_deleted_meanwhile_has_its_row(make_broker, litellm):
    broker = make_broker(config=BASE, env=DROPIN, timing=FAST).start()
    broker.wait_ready()
    stray = "sk-stray-of-this-install-0123456789"
    broker.secrets.add(stray)
    with broker.locked():
        litellm.add_key(stray, key_alias="stray", user_id=broker.user_id)
        wait_gone(litellm, stray)
        unrecorded(broker)
    row, = wait_until(lambda: broker.audit(event="sweep"), what="its row")
    assert row["key_tag"] == broker.tag(stray)


def test_who_stops_waits_a_moment_for_the_lock(make_broker):
    broker = make_broker(timing=FAST).start()
    with broker.locked():
        broker.process.send_signal(signal.SIGTERM)
        unrecorded(broker)
    assert broker.wait() == 0
    assert broker.rows("SELECT event FROM audit ORDER BY sequence DESC LIMIT 1")[0]["event"] == "stop"


def test_reload_that_cannot_be_recorded_is_not_in_force(make_broker):
    broker = make_broker(config=BASE, env=DROPIN, timing=FAST).start()
    broker.wait_ready()
    before = broker.call("whoami")["rules"]
    with broker.locked():
        broker.write_config(MANY + rule_all("changed"))
        with pytest.raises(RpcError) as refused:
            broker.admin("reload")
        assert refused.value.code == "audit_unavailable" and "the old configuration stays" in str(refused.value)
        assert broker.call("whoami")["rules"] == before
        broker.reload()  # a signal has nobody to answer to
        wait_until(lambda: "the old configuration stays until it can be" in broker.log, what="a word of it")
        assert broker.call("whoami")["rules"] == before
        assert not broker.rows("SELECT 1 FROM audit WHERE event = 'reload'")
    wait_until(lambda: broker.call("whoami")["rules"] == ["changed"], what="the new rules")
    assert [row["outcome"] for row in broker.audit(event="reload")] == ["ok"]


# --- what callers are told ---

ASKED = {"audit_read": {}, "audit_follow": {}, "audit_export": {}, "audit_exported": {"from": 1, "sequence": 1}, "audit_key": {},
         "audit_verify": {}, "audit_prune": {"before_ms": 1 << 60, "not_exported": True}, "reload": {},
         "revoke": {"profile": "service"}, "rotate": {"profile": "service"}}


def test_who_is_refused_hears_why_and_what_to_do(make_broker):
    broker = make_broker(config=MANY + 'rule "x" { uid = 12345 profiles = { "*" } }\n', env=DROPIN).start()
    broker.wait_ready()
    with broker.locked():
        told = {}
        for method, params in ASKED.items():
            with pytest.raises(RpcError) as refusal:
                broker.admin(method, **params)
            told[method] = refusal.value
        with pytest.raises(RpcError) as refusal:
            broker.acquire()
        told["denied"] = refusal.value
        asked = broker.cli("audit", "read")
    wrong = {name: str(error) for name, error in told.items() if error.code != "audit_unavailable"
             or "another process holds the lock" not in str(error) or "end it" not in str(error)}
    assert not wrong
    assert asked.code == 75 and "holds the lock" in asked.stderr and "disk" not in asked.stderr
