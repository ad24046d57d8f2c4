"""The audit's head in the log: who cuts the audit off afterwards is found out by whoever has the log."""

import re

import pytest

from harness.broker import DROPIN, MANY, rule_all
from harness.wait import stays, wait_until

HEAD = re.compile(r"keybrokerd: audit head (\d+):([0-9a-f]{64})$", re.M)


def heads(broker):
    """(sequence, hash) of each line."""
    return [(int(number), value) for number, value in HEAD.findall(broker.log)]


def stored(broker):
    """The same of all rows."""
    return [(row["sequence"], bytes(row["hash"]).hex()) for row in broker.rows("SELECT sequence, hash FROM audit ORDER BY sequence")]


@pytest.mark.parametrize("durability", ["power_loss", "crash"])
def test_head_is_logged_at_each_start_and_stop(make_broker, durability):
    broker = make_broker(f"durability = {durability}\n" + MANY + rule_all(), env=DROPIN).start()
    assert heads(broker) == stored(broker)[:1], "the row that begins the term"
    broker.wait_ready()
    broker.acquire()
    broker.stop()
    assert heads(broker)[1:] == stored(broker)[-1:], "the row that ends it"
    broker.start()
    broker.kill()
    broker.start()
    rows = {row["sequence"]: row["event"] for row in broker.rows("SELECT sequence, event FROM audit")}
    assert [rows[number] for number, _ in heads(broker)] == ["lead", "stop", "lead", "lead"]
    assert set(heads(broker)) <= set(stored(broker))


@pytest.mark.parametrize("durability", ["power_loss", "crash"])
def test_head_is_logged_from_time_to_time_when_it_changed(make_broker, durability):
    broker = make_broker(f"durability = {durability}\n" + MANY + rule_all(), env=DROPIN, timing={"audit_head_ms": 100}).start()
    broker.wait_ready()
    wait_until(lambda: heads(broker)[-1] == stored(broker)[-1], 3, "the head of the first mint")
    count = len(heads(broker))
    stays(lambda: len(heads(broker)) == count, 0.4)
    for _ in range(3):
        broker.acquire()
        wait_until(lambda: heads(broker)[-1] == stored(broker)[-1], 3, "the new head")
    assert len(heads(broker)) == count + 3
    assert [number for number, _ in heads(broker)] == sorted({number for number, _ in heads(broker)})


def test_head_is_logged_whatever_the_log_level(make_broker):
    broker = make_broker("log_level = error\n" + MANY + rule_all(), env=DROPIN)
    broker.spawn()
    wait_until(lambda: heads(broker), 10, "the head")
    broker.stop()
    assert "READY" not in broker.log and len(heads(broker)) == 2


@pytest.mark.parametrize("method", ["audit_verify", "audit_export", "audit_key"])
def test_head_of_an_answer_is_on_the_disk(make_broker, method):
    """Not only within the 100 ms that a power cut may take back."""
    broker = make_broker("durability = crash\n" + MANY + rule_all(), env=DROPIN, timing={"power_sync_ms": 600000}).start()
    broker.wait_ready()
    syncs = "SELECT value FROM meta WHERE name = 'sync'"
    before = broker.rows(syncs)
    broker.acquire()
    assert broker.rows(syncs) == before, "else nothing is proved below"
    head = broker.admin(method)
    assert (head["sequence"], head["hash"]) == stored(broker)[-1]
    assert broker.rows(syncs) != before
