"""`audit verify`: each way of tampering is found at the first row that it touches, and called by its name."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading

import pytest

from harness import build, tamper
from harness.rpc import Closed, RpcError
from harness.users import STRANGER, need_root
from harness.wait import wait_until

ROWS = 30


def verify(broker, *args, **options):
    """-> what `audit verify --json` says, its exit code among it."""
    done = broker.cli("audit", "verify", "--json", *args, **options)
    assert done.code in (0, 1), done
    return {"code": done.code, "stderr": done.stderr, **json.loads(done.stdout)}


@pytest.fixture
def stopped(broker):
    """A broker that has ended, with some rows."""
    with broker.rpc() as connection:
        for _ in range(ROWS):
            connection.call("acquire")
    broker.stop()
    return broker


def last(broker):
    """The number of the last row."""
    return broker.count("SELECT max(sequence) FROM audit")


def expect(broker, first_bad, fault, *args):
    """It is found, also by the words for people."""
    found = verify(broker, *args)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, first_bad, fault), found
    done = broker.cli("audit", "verify", *args)
    assert done.code == 1 and f"BROKEN at row {first_bad}: " in done.stdout
    if first_bad > 1:
        assert f"whole before it: {first_bad - 1} rows" in done.stdout
    return found


def test_a_whole_audit(broker):
    broker.acquire()
    found = verify(broker)
    assert (found["code"], found["whole"], found["first"], found["pruned"]) == (0, True, 1, 0)
    assert found["rows"] == found["last"] == last(broker) - 1  # the row of this reading is the last, and then its verdict's
    number, digits = found["head"].split(":")
    row, = broker.rows("SELECT hash FROM audit WHERE sequence = ?", int(number))
    assert bytes(row["hash"]).hex() == digits
    assert verify(broker, "--head", found["head"])["code"] == 0
    assert broker.cli("audit", "verify").stdout.startswith("whole: ")
    assert [row["outcome"] for row in broker.audit(event="audit_verify")] == ["ok"] * 3


def test_the_verdict_is_on_record(broker):
    broker.acquire()
    found = verify(broker)
    with tamper.tampering(broker) as database:
        tamper.edit(database, 2, "detail")
    expect(broker, 2, "changed")
    rows = broker.audit(event="audit_verified")
    assert [(row["outcome"], row["detail"], row["uid"]) for row in rows] == [
        ("ok", f"whole up to row {found['last']}", os.getuid())] + 2 * [("broken", "row 2: changed", os.getuid())]
    assert "broken at row 2" in broker.log
    broker.stop()
    verify(broker)
    assert broker.count("SELECT count(*) FROM audit WHERE event = 'audit_verified'") == 3


def test_without_a_broker(stopped):
    before = last(stopped)
    found = verify(stopped)
    assert (found["code"], found["last"]) == (0, before)
    assert "not recorded" in found["stderr"] and last(stopped) == before


@pytest.mark.parametrize("column", tamper.COLUMNS)
def test_an_edit_of_each_column(stopped, column):
    with tamper.tampering(stopped) as database:
        tamper.edit(database, 12, column)
    expect(stopped, 12, "changed")


@pytest.mark.parametrize("value", ["detail || char(0) || 'and more'", "printf('%9999s', detail)", "CAST(x'ff00ff' AS TEXT)"])
def test_a_value_that_reads_as_another(stopped, value):
    with tamper.tampering(stopped) as database:
        database.execute(f"UPDATE audit SET detail = {value} WHERE sequence = 12")
    expect(stopped, 12, "impossible")


def test_a_removed_row(stopped):
    with tamper.tampering(stopped) as database:
        tamper.delete(database, 7)
    expect(stopped, 7, "missing")
    with tamper.tampering(stopped) as database:
        tamper.renumber(database, 8, -1)
    expect(stopped, 7, "missing")


def test_a_removed_beginning(stopped):
    with tamper.tampering(stopped) as database:
        database.execute("DELETE FROM audit WHERE sequence <= 4")
    expect(stopped, 1, "missing")


@pytest.mark.parametrize("left,right", [(5, 6), (3, 20)])
def test_rows_that_changed_places(stopped, left, right):
    with tamper.tampering(stopped) as database:
        tamper.swap(database, left, right)
    expect(stopped, left, "out_of_order")


def test_an_inserted_row(stopped):
    with tamper.tampering(stopped) as database:
        tamper.insert(database, 9, 3)
    expect(stopped, 9, "inserted")


@pytest.mark.parametrize("sequence", [0, -5])
def test_a_row_before_the_first(stopped, sequence):
    with tamper.tampering(stopped) as database:
        database.execute(f"INSERT INTO audit (sequence, {', '.join(tamper.COLUMNS)}) SELECT ?, {', '.join(tamper.COLUMNS)}"
                         " FROM audit WHERE sequence = 3", (sequence,))
    found = verify(stopped)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, sequence, "inserted")


def test_an_appended_row(stopped):
    end = last(stopped)
    with tamper.tampering(stopped) as database:
        tamper.insert(database, end + 1, 3)
    expect(stopped, end + 1, "changed")


def test_rows_cut_off_before_a_head(stopped):
    end = last(stopped)
    heads = re.findall(r"audit head (\d+:[0-9a-f]{64})", stopped.log)
    assert int(heads[-1].split(":")[0]) == end  # the log of a clean stop has the last one
    with tamper.tampering(stopped) as database:
        tamper.truncate(database, end - 5)
    assert verify(stopped)["code"] == 0  # nothing in the state itself can tell
    found = expect(stopped, end - 4, "missing", *[word for head in heads for word in ("--head", head)])
    assert f"up to {end}" in found["message"]


def drop_triggers(broker):
    """-> how many there were; `chaos` is nobody's whom a broker knows."""
    with contextlib.closing(sqlite3.connect(broker.db, timeout=5)) as database, database:
        names = [name for name, in database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")]
        for name in names:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("CREATE TRIGGER chaos AFTER INSERT ON lease BEGIN SELECT 1; END")
    return len(names)


def triggers(broker):
    """Name -> text."""
    return {row["name"]: row["sql"] for row in broker.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")}


def test_triggers_that_are_gone_are_found_and_made_anew(stopped):
    before, end = triggers(stopped), last(stopped)
    assert drop_triggers(stopped) == len(before) > 10 and verify(stopped, "--head", verify(stopped)["head"])["code"] == 1
    found = expect(stopped, end + 1, "unguarded")
    assert "audit_" in found["message"]
    stopped.start()
    assert triggers(stopped).keys() == before.keys() | {"chaos"}
    row, = stopped.audit(event="tampering")
    assert row["outcome"] == "found" and all(name in row["detail"] for name in before) and row["sequence"] == end + 2, row
    assert "tampered" in stopped.log and verify(stopped)["code"] == 0
    stopped.restart()
    assert len(stopped.audit(event="tampering")) == 1


def test_a_trigger_that_was_weakened_is_made_anew(stopped):
    before = triggers(stopped)
    with contextlib.closing(sqlite3.connect(stopped.db, timeout=5)) as database, database:
        database.execute("DROP TRIGGER audit_no_UPDATE")
        database.execute("CREATE TRIGGER audit_no_UPDATE BEFORE UPDATE ON audit BEGIN SELECT 1; END")
    assert "audit_no_UPDATE" in expect(stopped, last(stopped) + 1, "unguarded")["message"]
    stopped.start()
    assert triggers(stopped) == before


@pytest.mark.parametrize("first", [10, 1])
def test_exported_rows_that_are_cut_off(stopped, first):
    """What was exported was there: nobody needs a head for that."""
    stopped.start()
    stopped.cli("audit", "export").ok()
    stopped.stop()
    exported = int(stopped.rows("SELECT value FROM meta WHERE name = 'audit_exported'")[0]["value"])
    with tamper.tampering(stopped) as database:
        tamper.truncate(database, first - 1)
    found = expect(stopped, first, "missing")
    assert f"up to {exported}" in found["message"]
    stopped.start()
    row, = stopped.audit(event="tampering")
    assert row["detail"].startswith(f"rows {first} to {exported}, which were exported, are gone")
    assert stopped.admin("status")["audit"]["exported"] == first - 1
    assert stopped.cli("audit", "prune", "--before", "0s").code != 0, "the new rows were not exported"
    assert stopped.cli("audit", "export", "--new").code == 0


def test_a_head_of_another_audit(stopped):
    head = verify(stopped)["head"]
    forged = head[:-1] + ("0" if head[-1] != "0" else "1")
    found = verify(stopped, "--head", head, "--head", forged)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, int(head.split(":")[0]), "other_head")


def test_an_older_state_in_its_place_ends_the_broker_which_names_its_head(stopped, tmp_path):
    """It is whole, so only that head tells what it lacks."""
    directory, end = os.path.dirname(stopped.db), last(stopped)
    for name in ("state.db", "state.db-wal"):
        shutil.copy(os.path.join(directory, name), tmp_path)
    stopped.start()
    stopped.acquire()
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        os.unlink(os.path.join(directory, name))
    for name in ("state.db", "state.db-wal"):
        shutil.copy(tmp_path / name, directory)
    with pytest.raises((Closed, RpcError)):
        stopped.acquire()
    assert stopped.wait() == 75
    head = re.findall(r"audit head (\d+:[0-9a-f]{64})", stopped.log)[-1]
    assert verify(stopped)["code"] == 0
    expect(stopped, end + 1, "missing", "--head", head)


def test_a_broker_that_cannot_record_does_not_stop_a_verification(broker):
    """The rows behind it are gone: every write of the broker fails, and that is the day to verify."""
    broker.acquire()
    with tamper.tampering(broker) as database:
        database.execute("DELETE FROM audit WHERE sequence = 2")
        database.execute("CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    found = verify(broker)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 2, "missing")
    assert "not recorded" in found["stderr"]


def test_a_broker_that_cannot_record_leads_to_its_own_state(broker, tmp_path):
    """At the usual place is another one, and that is whole."""
    broker.acquire()
    broker.stop()
    shutil.copytree(os.path.dirname(broker.db), tmp_path / "elsewhere")
    broker.db = str(tmp_path / "elsewhere/state.db")
    broker.start("--state-dir", os.path.dirname(broker.db))
    broker.acquire()
    with broker.locked():
        found = verify(broker)
        key = broker.cli("audit", "key", "--out", str(tmp_path / "key"))
    assert (found["code"], found["last"]) == (0, last(broker)) and "not recorded" in found["stderr"]
    assert key.code == 0 and "not recorded" in key.stderr


def test_a_broker_that_hangs_leads_to_no_state(broker):
    with broker.frozen():
        done = broker.cli("audit", "verify", "--timeout", "1")
        assert done.code == 75 and done.stdout == "" and "--state" in done.stderr, done
        assert broker.cli("audit", "verify", "--timeout", "1", "--state", os.path.dirname(broker.db)).code == 0


def test_the_first_of_several_faults_counts(stopped):
    with tamper.tampering(stopped) as database:
        tamper.edit(database, 20, "uid")
        tamper.delete(database, 15)
        tamper.edit(database, 9, "detail")
    expect(stopped, 9, "changed")


def test_no_audit_at_all(stopped):
    with tamper.tampering(stopped) as database:
        database.execute("DROP TABLE audit")
    done = stopped.cli("audit", "verify")
    assert done.code == 1 and "not as a broker makes it" in done.stderr


def test_damage_that_no_row_shows(stopped):
    """The header of a page lies about its free bytes: all rows can be read, until one is written there."""
    with tamper.tampering(stopped) as database:  # the last to close it moves all into the file
        root, = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()
        size, = database.execute("PRAGMA page_size").fetchone()
    with open(stopped.db, "r+b") as file:
        file.seek((root - 1) * size)
        header = file.read(12)
        assert header[0] == 5  # an inner page, whose last child is a leaf
        file.seek((int.from_bytes(header[8:12], "big") - 1) * size + 7)
        file.write(b"\x3b")
    found = verify(stopped)
    assert (found["code"], found["fault"]) == (1, "impossible") and "the database is damaged" in found["message"]


def test_exit_codes(make_broker, tmp_path):
    broker = make_broker().start()
    broker.wait_ready()
    broker.stop()
    assert broker.cli("audit", "verify", "--head", "x").code == 64
    assert broker.cli("audit", "verify", "--from", "3").code == 64
    assert broker.cli("audit", "verify", "--export", "x").code == 64
    assert broker.cli("audit", "verify", "--state", str(tmp_path)).code == 66
    assert broker.cli("audit", "verify", "--export", "/no/such", "--key", "/no/such").code == 66
    seal_key = broker.path("config/keybroker/seal.key")
    os.rename(seal_key, seal_key + ".away")
    done = broker.cli("audit", "verify")
    assert done.code == 78 and "--seal-key" in done.stderr
    assert broker.cli("audit", "verify", "--seal-key", seal_key + ".away").code == 0
    other = broker.write("other.key", "00" * 32 + "\n")
    done = broker.cli("audit", "verify", "--seal-key", other)
    assert done.code == 78 and "another key" in done.stderr
    with tamper.tampering(broker) as database:
        database.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    assert broker.cli("audit", "verify", "--seal-key", seal_key + ".away").code == 78
    done = broker.cli("audit", "verify", env={"KEYBROKER_LIBEXEC": "/no/such"})
    assert done.code == 70 and "KEYBROKER_LIBEXEC" in done.stderr


def test_stdout_that_cannot_be_written(stopped):
    with open("/dev/full", "w", encoding="ascii") as full:
        for command in ("verify", "verify --json"):
            done = subprocess.run(stopped.cli_command("audit", *command.split()), env=stopped.cli_env(), stdout=full,
                                  stderr=subprocess.PIPE, check=False)
            assert done.returncode == 74 and b"stdout cannot be written" in done.stderr


def test_nobody_else_can_read_it(stopped):
    need_root()
    done = stopped.cli("audit", "verify", "--state", stopped.path("state/keybroker"), user=STRANGER)
    assert done.code == 77, done


def test_root_reads_as_the_owner_of_the_state(stopped):
    """What SQLite makes beside the database belongs to the broker's user, or he could not start any more."""
    need_root()
    directory = stopped.path("state/keybroker")
    for path in (directory, stopped.path("config/keybroker"), stopped.path("config")):
        os.chown(path, STRANGER, STRANGER)
        for name in os.listdir(path):
            os.chown(os.path.join(path, name), STRANGER, STRANGER)
    os.unlink(stopped.db + "-shm")
    assert verify(stopped)["code"] == 0
    owners = {name: os.stat(os.path.join(directory, name)).st_uid for name in os.listdir(directory)}
    assert "state.db-shm" in owners and set(owners.values()) == {STRANGER}


def snapshot(broker):
    """Content and times of all files of the state but SQLite's shared memory, which every reader writes."""
    directory, found = os.path.dirname(broker.db), {}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not name.endswith("-shm"):
            with open(path, "rb") as file:
                found[name] = (os.stat(path).st_mtime_ns, file.read())
    return found


def test_the_program_writes_nothing(stopped):
    before = snapshot(stopped)
    assert len(before["state.db-wal"][1]) > 0
    assert verify(stopped)["code"] == 0
    program = build.binary(build.AUDIT_PROGRAM)
    for arguments in (["verify"], ["export"], ["key"]):
        stopped.run(program, *arguments)
    assert snapshot(stopped) == before


def test_a_copy_somewhere_else(stopped, tmp_path):
    """A backup is verified as it lies there, by whoever has the seal key."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("state.db", "state.db-wal"):
        shutil.copy(os.path.join(os.path.dirname(stopped.db), name), copy)
    assert verify(stopped, "--state", str(copy))["code"] == 0
    stopped.start()
    found = verify(stopped, "--state", str(copy))
    assert found["code"] == 0 and "not recorded: the state of this broker is in" in found["stderr"]
    assert not stopped.audit(event="audit_verify")


def test_without_a_state_of_this_user_the_system_s_is_meant(stopped, tmp_path):
    """Who calls is root at a terminal, and the broker, which is down, runs as a service."""
    away = {"XDG_STATE_HOME": str(tmp_path), "STATE_DIRECTORY": os.path.dirname(stopped.db)}
    seal_key = stopped.path("config/keybroker/seal.key")
    done = stopped.cli("audit", "verify", env=away)
    assert done.code == 78 and "/etc/keybroker/seal.key" in done.stderr  # found, and its key is where a service has it
    assert stopped.cli("audit", "verify", "--seal-key", seal_key, env=away).code == 0
    assert stopped.cli("audit", "verify", "--seal-key", seal_key, "--system", env={"STATE_DIRECTORY": "/no"}).code == 66


def test_while_the_broker_writes_at_full_speed(broker):
    """Every row is committed or not there; no verification sees half of anything, and the log starts anew."""
    stop, problems = threading.Event(), []

    def load():
        try:
            with broker.rpc() as connection:
                while not stop.is_set():
                    sent = [connection.send("acquire", bind="ttl") for _ in range(16)]
                    for lease in [connection.result(number)["lease"] for number in sent]:
                        connection.call("release", lease=lease)
        except Exception as problem:
            problems.append(problem)
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: last(broker) > 500, 30)
        for _ in range(5):
            before = last(broker)
            found = verify(broker)
            assert found["code"] == 0 and found["last"] > before
            done = broker.cli("audit", "export", "--new")
            assert done.code == 0 and json.loads(done.stdout.splitlines()[-1])["rows"] > 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert verify(broker)["code"] == 0
