"""`audit prune`: takes old rows away behind a signed checkpoint; nothing else ever does."""

import json
import os
import shutil
import subprocess
import time

import pytest

from harness import audit, build, tamper
from harness.broker import DROPIN, machine_id, rule_all
from harness.rpc import Closed, RpcError
from harness.wait import wait_until

ROWS = 40
DAY = 24 * 3600 * 1000


def now_ms():
    """The wall clock."""
    return time.time_ns() // 1_000_000


@pytest.fixture
def old(make_broker):
    """Makes a running broker with that many rows of days long past, the last of them a day and a half old."""
    def make(rows=ROWS, **more):
        broker = make_broker().start()
        broker.wait_ready()
        broker.stop()
        tamper.rewrite(broker, [now_ms() - (2 * (rows - i) + 1) * DAY // 2 for i in range(rows)], **more)
        broker.start()
        broker.wait_ready()
        return broker
    return make


@pytest.fixture
def filled(old):
    """Forty days."""
    return old()


def checkpoint(broker):
    """Its row; None without one."""
    rows = broker.rows("SELECT * FROM audit_checkpoint")
    return rows[0] if rows else None


def verify(broker, *args):
    """-> what `audit verify --json` says, and its exit code."""
    done = broker.cli("audit", "verify", "--json", *args)
    assert done.code in (0, 1, 2), done
    return {"code": done.code, "stderr": done.stderr, **json.loads(done.stdout)}


def export(broker):
    """Exports all; -> the lines."""
    return broker.cli("audit", "export").ok().splitlines()


def first(broker):
    """The number of the oldest row."""
    return broker.count("SELECT min(sequence) FROM audit")


def test_rest_verifies_from_a_signed_checkpoint(filled):
    heads = [verify(filled)["head"]]
    lines = export(filled)
    done = filled.cli("audit", "prune", "--before", "11d")
    assert done.code == 0 and done.stdout == "30 rows pruned; the audit begins at row 31\n", done
    assert first(filled) == 31
    row = checkpoint(filled)
    assert (row["sequence"], row["count"]) == (30, 30)
    assert bytes(row["mac"]) == audit.checkpoint_mac(filled.seal_key, row, filled.install)
    assert bytes(row["hash"]).hex() == json.loads(lines[30])["hash"]
    found = verify(filled, *[word for head in heads for word in ("--head", head)])
    assert (found["code"], found["first"], found["pruned"]) == (0, 31, 30)
    begun, ended = filled.audit(event="audit_prune")
    assert (begun["outcome"], ended["outcome"]) == ("begun", "ok") and begun["uid"] == os.getuid()
    assert ended["detail"] == "30 rows removed, now up to 30"
    assert filled.cli("audit", "prune", "--before", "6d", "--json").json() == {"removed": 5, "sequence": 35}
    assert checkpoint(filled)["count"] == 35
    filled.restart()
    filled.acquire()
    assert verify(filled)["code"] == 0
    assert filled.admin("status")["audit"]["pruned"] == 35
    assert "rows 36 to " in filled.cli("status").stdout
    assert "pruned: 35 rows, up to 35, " in filled.cli("audit", "verify").stdout


def test_only_what_was_exported(filled):
    done = filled.cli("audit", "prune", "--before", "11d")
    assert done.code == 64 and "rows from 1 on were not exported" in done.stderr and "--not-exported" in done.stderr
    filled.cli("audit", "export", "--from", "2").ok()  # row 1 is in no export
    assert "rows from 1 on" in filled.cli("audit", "prune", "--before", "11d").stderr
    filled.cli("audit", "export", "--to", "20").ok()
    assert "rows from 21 on" in filled.cli("audit", "prune", "--before", "11d").stderr
    assert first(filled) == 1 and not filled.audit(event="audit_prune")
    filled.cli("audit", "prune", "--before", "21d").ok()  # all older ones are
    assert first(filled) == 21
    filled.cli("audit", "export", "--new").ok()
    filled.cli("audit", "prune", "--before", "11d").ok()
    assert first(filled) == 31


def test_what_came_since_the_export_stays(filled):
    """However far the time given lies ahead."""
    filled.cli("audit", "export").ok()
    exported = filled.admin("status")["audit"]["exported"]
    assert filled.admin("audit_prune", before_ms=now_ms() + DAY)["sequence"] == exported
    assert first(filled) == exported + 1
    assert verify(filled)["code"] == 0


def test_head_from_before_the_prune(filled):
    """A head that lies behind the checkpoint cannot be held against anything, and that is no success."""
    row, = filled.rows("SELECT hash FROM audit WHERE sequence = 10")
    head = f"10:{bytes(row['hash']).hex()}"
    assert verify(filled, "--head", head)["code"] == 0
    filled.cli("audit", "prune", "--before", "11d", "--not-exported").ok()
    found = verify(filled, "--head", head)
    assert (found["code"], found["whole"], found["heads_unproven"]) == (2, True, 1)
    assert "head 10 could not be checked: the rows up to 30 were pruned" in found["stderr"]
    assert "NOT PROVEN" in filled.cli("audit", "verify", "--head", head).stdout
    newest = verify(filled)["head"]
    assert verify(filled, "--head", newest)["code"] == 0
    assert verify(filled, "--head", newest, "--head", head)["code"] == 2


def test_older_audit_of_the_same_seal_key_does_not_pass_for_a_head_of_the_newer(filled):
    """Put in its place with its checkpoint it is whole: only the head can tell."""
    filled.cli("audit", "prune", "--before", "11d", "--not-exported").ok()
    filled.stop()
    old = filled.path("files/old.db")
    for end in ("", "-wal"):
        shutil.copy(filled.db + end, old + end)
    filled.start("--reset-state")
    filled.stop()
    head = verify(filled)["head"]
    assert int(head.split(":")[0]) < 30 and verify(filled, "--head", head)["code"] == 0
    with tamper.tampering(filled) as database:
        database.execute("COMMIT")
        database.execute("ATTACH ? AS old", (old,))
        database.execute("BEGIN IMMEDIATE")
        for table in ("audit", "audit_checkpoint"):
            database.execute(f"DELETE FROM main.{table}")
            database.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")
    assert verify(filled)["code"] == 0, "else the head below is not what tells"
    assert verify(filled, "--head", head)["code"] == 2


def test_checkpoint_of_another_install(filled):
    """It is as good as none, whatever its key."""
    filled.cli("audit", "prune", "--before", "31d", "--not-exported").ok()
    filled.stop()
    row = checkpoint(filled)
    with tamper.tampering(filled) as database:
        database.execute("UPDATE audit_checkpoint SET mac = ?", (audit.checkpoint_mac(filled.seal_key, row, "elsewhere"),))
    found = verify(filled)
    assert (found["code"], found["fault"]) == (1, "forged")
    filled.start()
    filled.stop()
    assert verify(filled)["fault"] == "forged", "and no start makes it one"


@pytest.mark.parametrize("install", ["", "elsewhere"], ids=["before there was one", "moved"])
def test_checkpoint_is_signed_anew(filled, install):
    """One of an older version, and one of a state that was moved since."""
    filled.cli("audit", "prune", "--before", "31d", "--not-exported").ok()
    now = filled.install
    filled.stop()
    row = checkpoint(filled)
    triggers = filled.rows("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'audit%'")
    with tamper.tampering(filled) as database:
        database.execute("UPDATE audit_checkpoint SET mac = ?", (audit.checkpoint_mac(filled.seal_key, row, install),))
        if install:
            database.execute("UPDATE meta SET value = 'elsewhere' WHERE name IN ('identity', 'install')")
        for trigger in triggers:
            database.execute(trigger["sql"])
    assert verify(filled)["code"] == 0
    filled.start()
    assert bytes(checkpoint(filled)["mac"]) == audit.checkpoint_mac(filled.seal_key, row, filled.install)
    assert filled.install == now or not machine_id()
    filled.admin("audit_prune", before_ms=now_ms(), not_exported=True)
    assert verify(filled)["code"] == 0


def test_unless_told_to_and_never_the_newest_row(filled):
    reply = filled.admin("audit_prune", before_ms=now_ms() + DAY, not_exported=True)
    left = filled.rows("SELECT sequence, event FROM audit ORDER BY sequence")
    assert [row["event"] for row in left][-2:] == ["audit_prune", "audit_prune"]
    assert left[0]["sequence"] == reply["sequence"] + 1 > ROWS
    begun = filled.audit(event="audit_prune")[0]
    assert "exported or not" in begun["detail"]
    assert verify(filled)["code"] == 0
    filled.cli("audit", "export", "--new").ok()  # goes on where the prune ended
    assert filled.admin("status")["audit"]["exported"] > reply["sequence"]


def test_nothing_old_enough(filled):
    done = filled.cli("audit", "prune", "--before", "90d")
    assert done.code == 0 and "nothing was pruned" in done.stdout and checkpoint(filled) is None
    assert filled.cli("audit", "prune").code == 64
    assert filled.cli("audit", "prune", "--before", "yesterday").code == 64


def test_command_takes_as_many_calls_as_it_needs(old):
    """One call takes 50,000 rows at the most."""
    broker = old(60000)
    done = broker.cli("audit", "prune", "--before", "30h", "--not-exported", "--json", timeout=120)
    assert done.code == 0 and done.json() == {"removed": 60000, "sequence": 60000}
    assert len(broker.audit(event="audit_prune", outcome="ok")) == 2
    assert verify(broker)["code"] == 0


def test_broker_goes_on_serving(old):
    """While tens of thousands of rows go, callers get their keys between the chunks."""
    broker, served = old(40000, detail="x" * 300), []
    with broker.rpc(admin=True) as admin, broker.rpc() as connection:
        connection.call("acquire")  # the start's own work is done
        pruning = admin.send("audit_prune", before_ms=now_ms(), not_exported=True)
        while not admin.has_reply(pruning):
            connection.call("acquire")
            served.append(first(broker))
        assert admin.result(pruning)["removed"] >= 40000
    assert len({number for number in served if 1 < number < 40000}) >= 5  # in the midst of it, again and again
    assert verify(broker)["code"] == 0
    assert os.stat(broker.db + "-wal").st_size < 8 << 20  # it did not grow by all that went


@pytest.mark.parametrize("point", ["prune.before_commit", "prune.after_commit"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_killed_in_the_midst(old, point, chunk):
    broker = old(3000)
    broker.restart(env={"KEYBROKER_FAIL": f"{point}:kill:{chunk}"})
    with pytest.raises(Closed):
        broker.admin("audit_prune", before_ms=now_ms() - DAY, not_exported=True)
    assert broker.wait() == -9
    found = verify(broker)
    done = chunk if point == "prune.after_commit" else chunk - 1
    assert (found["code"], found["pruned"]) == (0, 512 * done)
    broker.start()
    begun, = broker.audit(event="audit_prune")  # what was begun is on record
    assert begun["outcome"] == "begun"
    reply = broker.admin("audit_prune", before_ms=now_ms() - DAY, not_exported=True)
    assert reply["removed"] == 3000 - 512 * done
    assert verify(broker)["code"] == 0


def test_killed_at_any_time(old):
    """No chosen point: SIGKILL while it goes on."""
    broker = old(40000)
    for _ in range(3):
        before = first(broker)
        with broker.rpc(admin=True) as connection:
            connection.send("audit_prune", before_ms=now_ms(), not_exported=True)
            wait_until(lambda: first(broker) > before, what="a chunk")
            broker.kill()
        found = verify(broker)
        assert found["code"] == 0 and found["pruned"] >= before
        broker.start()


def test_stop_in_the_midst_is_on_record(old):
    broker = old(49000)
    with broker.rpc(admin=True) as connection:
        number = connection.send("audit_prune", before_ms=now_ms(), not_exported=True)
        wait_until(lambda: first(broker) > 1, what="a chunk")
        with pytest.raises(RpcError) as busy:
            broker.admin("audit_prune", before_ms=now_ms(), not_exported=True)
        broker.stop()
        with pytest.raises(RpcError) as ended:
            connection.result(number)
    assert busy.value.code == "limit_exceeded" and ended.value.code == "not_leader"
    outcomes = [row["outcome"] for row in broker.rows("SELECT outcome FROM audit WHERE event = 'audit_prune'")]
    assert outcomes == ["begun", "stopped"]
    assert verify(broker)["code"] == 0


def test_rows_that_do_not_verify_are_not_pruned(filled):
    """A checkpoint vouches for what is gone: evidence does not go that way."""
    with tamper.tampering(filled) as database:
        tamper.edit(database, 9, "uid")
    with pytest.raises(RpcError) as refused:
        filled.admin("audit_prune", before_ms=now_ms(), not_exported=True)
    assert refused.value.code == "internal" and "audit verify" in refused.value.text
    assert "row 9 does not verify" in filled.log
    assert filled.count("SELECT count(*) FROM audit WHERE sequence < 20") == 19 and checkpoint(filled) is None
    assert [row["outcome"] for row in filled.audit(event="audit_prune")] == ["begun", "failed"]


FORGERIES = {
    "moved": "UPDATE audit_checkpoint SET sequence = sequence + 4, count = count + 4,"
             " hash = (SELECT hash FROM audit WHERE audit.sequence = audit_checkpoint.sequence + 4)",
    "count": "UPDATE audit_checkpoint SET count = count + 1",
    "time": "UPDATE audit_checkpoint SET pruned_at_ms = pruned_at_ms + 1",
    "hash": "UPDATE audit_checkpoint SET hash = zeroblob(32)",
    "mac": "UPDATE audit_checkpoint SET mac = zeroblob(32)",
    "short": "UPDATE audit_checkpoint SET mac = x'00'",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_checkpoint(filled, forgery):
    filled.cli("audit", "prune", "--before", "31d", "--not-exported").ok()
    filled.stop()
    with tamper.tampering(filled) as database:
        database.execute(FORGERIES[forgery])
        if forgery == "moved":
            database.execute("DELETE FROM audit WHERE sequence <= (SELECT sequence FROM audit_checkpoint)")
    found = verify(filled)
    assert (found["code"], found["fault"]) == (1, "forged"), found
    assert "not signed" in found["message"]
    filled.start()
    with pytest.raises(RpcError):
        filled.admin("audit_prune", before_ms=now_ms(), not_exported=True)


def test_checkpoint_where_none_was(filled):
    """Who drops the triggers, deletes the first rows and makes a checkpoint up has no key to sign it with."""
    filled.stop()
    with tamper.tampering(filled) as database:
        database.execute("INSERT INTO audit_checkpoint SELECT 1, sequence, 5, wall_ms, hash, randomblob(32) FROM audit"
                         " WHERE sequence = 5")
        database.execute("DELETE FROM audit WHERE sequence <= 5")
    found = verify(filled)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 1, "forged")
    with tamper.tampering(filled) as database:
        database.execute("DELETE FROM audit_checkpoint")
    found = verify(filled)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 1, "missing")


def test_rows_taken_behind_a_genuine_checkpoint(filled):
    filled.cli("audit", "prune", "--before", "31d", "--not-exported").ok()
    filled.stop()
    with tamper.tampering(filled) as database:
        tamper.delete(database, 11)
    found = verify(filled)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 11, "missing")
    with tamper.tampering(filled) as database:
        database.execute("DELETE FROM audit")
    found = verify(filled)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 11, "missing")


def test_old_checkpoint_put_back(filled):
    filled.cli("audit", "prune", "--before", "36d", "--not-exported").ok()
    row = checkpoint(filled)
    filled.cli("audit", "prune", "--before", "31d", "--not-exported").ok()
    filled.stop()
    with tamper.tampering(filled) as database:
        database.execute("REPLACE INTO audit_checkpoint VALUES (:id, :sequence, :count, :pruned_at_ms, :hash, :mac)", row)
    found = verify(filled)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 6, "missing")


def test_verifying_and_exporting_while_it_prunes(old):
    """What goes between two pages was proved by the prune: no false alarm, and no export with a hole."""
    broker = old(45000)
    program = build.binary(build.AUDIT_PROGRAM)
    verifying = [subprocess.Popen([program, "verify"], env=broker.cli_env(), stdout=subprocess.PIPE, text=True)
                 for _ in range(2)]
    exporting = subprocess.Popen([program, "export"], env=broker.cli_env(), stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.PIPE)
    assert exporting.stdout.readline()  # it has begun, and goes on as it is read
    broker.admin("audit_prune", before_ms=now_ms(), not_exported=True)
    for process in verifying:
        assert process.communicate(timeout=60)[0].startswith("whole: ") and process.returncode == 0
    out, said = exporting.communicate(timeout=60)
    assert exporting.returncode == 75 and "export again" in said
    assert "keybroker_audit_end" not in out


def test_status_and_log_say_that_the_state_is_large(make_broker):
    broker = make_broker(config='audit_warn_size = "1K"\n' + rule_all(), env=DROPIN,
                         timing={"checkpoint_every_ms": 20}).start()
    broker.wait_ready()
    assert broker.log.count("audit_warn_size is 0 MiB") == 1
    warning, = [text for text in broker.admin("status")["warnings"] if "audit_warn_size" in text]
    assert "audit prune" in warning and warning in broker.cli("status").stdout
    broker.write_config('audit_warn_size = "1G"\n' + rule_all())
    broker.admin("reload")
    wait_until(lambda: "below audit_warn_size again" in broker.log)
    assert not [text for text in broker.admin("status")["warnings"] if "audit_warn_size" in text]
    assert broker.log.count("audit_warn_size is 0 MiB") == 1  # once for each change
