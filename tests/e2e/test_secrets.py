"""No credential where none may be. The search runs after every test; here it is shown that it finds, and on one long path."""

import contextlib
import json
import os
import sqlite3

import pytest

from harness import leaks
from harness.broker import FAST, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.wait import wait_until


def test_nothing_leaks_on_the_whole_path(make_broker, litellm):
    old = "sk-of-the-old-provisioner-0123456789"
    broker = make_broker(config="log_level = debug\n" + rule_all(),
                         timing={**FAST, "grace_ms": 100}).start()
    broker.secrets.add(old)
    broker.wait_ready()
    unreadable = []
    with Holder(broker) as peer:
        peer.call("acquire", refreshable=False)
        peer.call("acquire", profile="process")
        broker.cli("get", "--json")
        broker.cli("exec", "--", "true")
        broker.admin("rotate", profile="service")
        broker.acquire(bind="ttl")
        litellm.fail(path="/key/generate", status=400, body={"error": {"message": f"no, {litellm.master_key} {old}",
                                                                       "type": "x", "param": old, "code": "400"}})
        with pytest.raises(RpcError):
            broker.acquire(profile="process", timeout_ms=500)
        for args in (("status",), ("status", "--json"), ("audit", "read"), ("audit", "read", "--json"), ("list",), ("whoami",)):
            broker.cli(*args)
        broker.run_daemon("--check")
        assert broker.find_leaks(unreadable) == []
    broker.stop()
    assert broker.find_leaks() == [] and len(broker.issued) >= 3
    if unreadable:
        pytest.skip(f"{', '.join(unreadable)}: unreadable for this user, so that a secret there would not be seen")


def test_environment_of_the_running_daemon_is_wiped(broker, litellm):
    unreadable = []
    places = leaks.process_places(broker.pid, unreadable)
    if unreadable:
        pytest.skip(f"{', '.join(unreadable)}: unreadable for this user, so that a secret there would not be seen")
    environment = places[f"/proc/{broker.pid}/environ"]
    assert b"LITELLM_MASTER_KEY" in environment or b"XDG_STATE_HOME" in environment, "it is the daemon's"
    assert litellm.master_key.encode() not in environment


def test_search_finds_a_secret_in_log_database_and_environment(make_broker, litellm, tmp_path):
    """The search itself can fail."""
    broker = make_broker().start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    broker.stop()
    with open(broker.log_path, "a", encoding="utf-8") as log:
        log.write(f"oops {key}\n")
    stolen = sqlite3.connect(broker.path("state/copy.db"))
    with stolen:
        stolen.execute("CREATE TABLE t (x)")
        stolen.execute("INSERT INTO t VALUES (?)", (litellm.master_key,))
    stolen.close()
    found = broker.find_leaks()
    assert len(found) == 2 and not any(key in line or litellm.master_key in line for line in found)
    with open(broker.log_path, "w", encoding="utf-8"):
        os.unlink(broker.path("state/copy.db"))


def test_database_holds_keys_sealed_and_forgets_deleted_ones(broker):
    shared = broker.acquire()
    dedicated = broker.acquire(profile="process")
    sealed = {row["hash"]: row["secret"] for row in broker.rows("SELECT hash, secret FROM key")}
    assert len(sealed[key_hash(shared["api_key"])]) == len(shared["api_key"]) + 40
    broker.call("release", lease=dedicated["lease"])
    token = key_hash(dedicated["api_key"])
    wait_until(lambda: broker.rows("SELECT state FROM key WHERE hash = ?", token)[0]["state"] == "deleted", what="its deletion")
    assert broker.rows("SELECT secret FROM key WHERE hash = ?", token)[0]["secret"] is None


def test_sealed_secret_moved_to_another_row_does_not_open(broker, litellm):
    shared, dedicated = broker.acquire(), broker.acquire(profile="process")
    broker.stop()
    database = sqlite3.connect(broker.db)
    triggers = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'key'")]
    with database:
        for trigger in triggers:
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE key SET secret = (SELECT secret FROM key WHERE mode = 'dedicated') WHERE mode = 'shared'")
    database.close()
    broker.start()
    wait_until(lambda: "cannot be read" in broker.log or broker.profile().get("generation") == 2, what="it is noticed")
    with contextlib.suppress(RpcError):
        assert broker.acquire(timeout_ms=1000)["api_key"] not in (shared["api_key"], dedicated["api_key"])


def test_standin_never_shows_a_secret_either(broker, litellm):
    """So that its journal may be printed by a failing test."""
    key = broker.acquire()["api_key"]
    shown = json.dumps([litellm.keys(), litellm.calls(), litellm.teams()])
    assert key not in shown and litellm.master_key not in shown
