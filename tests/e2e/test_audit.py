"""The record: a row for everything that happens, chained, never changed."""

import os
import sqlite3

import pytest

from harness import audit
from harness.broker import FAST
from harness.holder import Holder
from harness.rpc import RpcError
from harness.wait import wait_until


def verify(broker):
    """Reckons the chain again from the seal key; -> the rows."""
    rows = broker.rows("SELECT * FROM audit ORDER BY sequence")
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    for row, expected in zip(rows, audit.chain(broker.seal_key, rows)):
        assert bytes(row["hash"]) == expected, f"row {row['sequence']}"
    return rows


def test_chain_is_verified_by_an_independent_reckoning(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 100}).start()
    broker.wait_ready()
    for profile in ("service", "process"):
        reply = broker.acquire(profile=profile)
        broker.call("release", lease=reply["lease"])
    broker.admin("rotate", profile="service")
    broker.restart()
    broker.acquire()
    assert len(verify(broker)) > 8
    broker.kill()
    verify(broker)


def test_reckoning_notices_a_changed_row(broker):
    broker.acquire()
    rows = verify(broker)
    rows[-1]["uid"] += 1
    assert bytes(rows[-1]["hash"]) != list(audit.chain(broker.seal_key, rows))[-1]


def test_audit_read_and_database_agree(broker):
    broker.acquire()
    stored = {row["sequence"]: row for row in verify(broker)}
    for row in broker.audit():
        expected = stored[row["sequence"]]
        assert row["hash"] == bytes(expected["hash"]).hex()
        assert (row["event"], row["outcome"]) == (expected["event"], expected["outcome"])
        for name in ("lease", "rule", "key_tag", "detail", "unit", "exe"):
            assert row.get(name, "") == expected[name]
        assert row.get("uid", -1) == expected["uid"]


def test_acquire_row_says_who_by_which_rule_and_which_key(broker):
    with Holder(broker) as peer:
        reply = peer.call("acquire")
        row, = broker.audit(lease=reply["lease"])
        assert row["event"] == "acquire" and row["outcome"] == "ok" and row["profile"] == "service"
        assert (row["uid"], row["gid"], row["pid"]) == (os.getuid(), os.getgid(), peer.pid)
        assert row["rule"] and row["start_time"] > 0 and row["term"] == 1
        assert row["key_tag"] == broker.tag(reply["api_key"])


def test_every_event_leaves_a_row(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 100, "duration_min_ms": 1000, "extend_floor_ms": 0},
                         env={"LITELLM_KEY_DURATION": "3s"}).start()
    broker.wait_ready()
    seen = set()

    def events(*words):
        def found():
            seen.update(row["event"] for row in broker.audit())
            return all(any(word in event for event in seen) for word in words)
        wait_until(found, 8, lambda: f"rows for {words}; there are {sorted(seen)}")
    events("mint")
    released = broker.acquire(profile="process")
    events("acquire")
    broker.call("release", lease=released["lease"])
    events("release", "delete")
    broker.acquire(profile="process", bind="ttl", ttl_ms=1000)
    events("expire")
    kept = broker.acquire(profile="process")
    events("extend")
    broker.admin("revoke", lease=kept["lease"])
    events("revoke")
    with Holder(broker) as peer:
        lease = peer.call("acquire")["lease"]
    wait_until(lambda: len(broker.audit(lease=lease)) == 2, what="a row for the holder's end")
    broker.admin("rotate", profile="service")
    events("rotate")
    broker.admin("reload")
    events("reload", "audit_read")


def test_record_is_there_before_the_key_leaves(make_broker):
    """Killed right after the commit: the row is there though the reply never left; and never the other way round."""
    broker = make_broker().start()
    broker.wait_ready()
    before = broker.count("SELECT count(*) FROM audit WHERE event = 'acquire'")
    broker.stop()
    broker.start(env={"KEYBROKER_FAIL": "turn.before_commit:kill:1000000"})
    leases = [broker.acquire(bind="ttl")["lease"] for _ in range(20)]
    broker.kill()
    stored = {row["lease"] for row in broker.rows("SELECT lease FROM audit WHERE event = 'acquire'")}
    assert set(leases) <= stored and len(stored) == before + 20


@pytest.mark.parametrize("statement", [
    "UPDATE audit SET uid = 0", "DELETE FROM audit", "DELETE FROM audit WHERE sequence = 1",
    "UPDATE audit SET detail = 'x' WHERE sequence = 1",
    "REPLACE INTO audit SELECT * FROM audit WHERE sequence = 1",
    "INSERT INTO audit SELECT sequence + 1000, hash, wall_ms, boot_ms, term, instance, event, outcome, rule, profile, lease,"
    " uid, gid, pid, start_time, unit, exe, key_tag, detail FROM audit WHERE sequence = 1",
    "UPDATE key SET state = 'live'", "DELETE FROM lease", "INSERT INTO lease SELECT * FROM lease",
])
def test_triggers_forbid_what_is_not_the_leaders_turn(broker, statement):
    broker.acquire()
    before = broker.rows("SELECT * FROM audit")
    database = sqlite3.connect(broker.db, timeout=5)
    try:
        with pytest.raises(sqlite3.Error):
            database.execute(statement)
    finally:
        database.rollback()
        database.close()
    assert broker.rows("SELECT * FROM audit") == before


def test_reading_is_paged_in_order(broker):
    with broker.rpc() as connection:
        for _ in range(60):
            connection.call("acquire")
    page = broker.admin("audit_read", limit=10)
    assert [row["sequence"] for row in page["rows"]] == list(range(1, 11)) and page["next"] == 10
    numbers = [row["sequence"] for row in broker.audit()]
    assert numbers == list(range(1, len(numbers) + 1))
    with pytest.raises(RpcError):
        broker.admin("audit_read", limit=51)


def test_reads_write_nothing(broker):
    broker.acquire()
    before = broker.count("SELECT max(sequence) FROM audit")
    for method in ("whoami", "list"):
        broker.call(method)
    for method in ("status", "leases"):
        broker.admin(method)
    assert broker.count("SELECT max(sequence) FROM audit") == before


def test_turn_shares_one_commit(make_broker):
    """64 requests that are readable together cost a commit or two, not 64."""
    broker = make_broker().start()
    broker.wait_ready()
    with broker.rpc() as connection:
        sent = [connection.send("acquire") for _ in range(16)]
        for number in sent:
            connection.result(number)
    assert broker.count("SELECT count(DISTINCT boot_ms) FROM audit WHERE event = 'acquire'") <= 8
