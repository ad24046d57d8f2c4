"""Following the audit: each new row once and in order, whoever else follows, reads slowly, dies or restarts."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading

import pytest

from harness import audit, build
from harness.rpc import Closed, RpcError
from harness.wait import stays, wait_until

@contextlib.contextmanager
def load(broker, threads=2):
    """Reads a lease again as fast as that is answered, until the end, a row each; yields the count of answers."""
    end, counts = threading.Event(), [0] * threads
    lease = broker.acquire(bind="ttl", ttl_ms=600000)["lease"]

    def work(number):
        with broker.rpc() as connection:
            while not end.is_set():
                sent = [connection.send("acquire", lease=lease) for _ in range(8)]
                for identity in sent:
                    connection.result(identity)
                counts[number] += len(sent)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield lambda: sum(counts)
    finally:
        end.set()
        for worker in workers:
            worker.join()


def head(broker):
    """The last row's number."""
    return broker.count("SELECT max(sequence) FROM audit")


def follow(broker, **params):
    """A connection that follows, and what it was answered."""
    connection = broker.rpc(admin=True)
    return connection, connection.call("audit_follow", **params)


def numbers(rows):
    """Their sequence numbers."""
    return [row["sequence"] for row in rows]


def same_as_stored(broker, rows):
    """Each row is as the database has it."""
    stored = {row["sequence"]: row for row in broker.rows("SELECT * FROM audit")}
    for row in rows:
        expected = stored[row["sequence"]]
        assert row["hash"] == bytes(expected["hash"]).hex()
        assert all(row.get(name, expected[name]) == expected[name] for name in audit.COLUMNS)
    return True


# --- what is pushed ---

def test_new_rows_are_pushed_from_the_followers_own_on(broker):
    last = head(broker)
    connection, answer = follow(broker)
    assert answer == {"after": last}
    lease = broker.acquire()["lease"]
    broker.admin("reload")
    rows = connection.wait_notifications(3)
    assert [(row["event"], row.get("lease")) for row in rows] == [("audit_follow", None), ("acquire", lease), ("reload", None)]
    assert numbers(rows) == [last + 1, last + 2, last + 3] and same_as_stored(broker, rows)
    assert connection.call("whoami")["pid"] == os.getpid(), "the connection goes on being one"


def test_nobody_polls(broker):
    """While nothing happens, neither the broker nor the command wakes, but for the end of what was before."""
    def switches(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))
    with broker.cli_running("audit", "follow") as command:
        assert "SEQ" in command.stdout.readline()
        assert "audit_follow" in command.stdout.readline()
        pids = (broker.pid, command.pid)
        before = [switches(pid) for pid in pids]
        stays(lambda: all(switches(pid) - count < 5 for pid, count in zip(pids, before)), 1)
        broker.acquire()
        assert "acquire" in command.stdout.readline()


def test_backlog_goes_over_into_what_is_new_without_gap_or_repeat(broker):
    with load(broker) as granted:
        wait_until(lambda: granted() > 1500, 30, "a backlog")
        connection, answer = follow(broker, after=0)
        assert answer == {"after": 0}
        behind = head(broker)
        rows = connection.wait_notifications(behind + 500, 60)
    last = head(broker)
    rows = connection.wait_notifications(last, 60)
    assert numbers(rows) == list(range(1, last + 1)) and same_as_stored(broker, rows[-300:])


def test_filters_hold_for_what_is_there_and_what_comes(broker):
    broker.acquire(bind="ttl")
    middle = broker.rows("SELECT wall_ms FROM audit ORDER BY sequence DESC LIMIT 1")[0]["wall_ms"]
    everything, _ = follow(broker, after=0)
    some, _ = follow(broker, after=0, event="acquire", outcome="ok", uid=os.getuid())
    none, _ = follow(broker, after=0, event="acquire", uid=4242)
    late, _ = follow(broker, after=0, since_at_ms=middle)
    for _ in range(300):
        broker.acquire(bind="ttl")
    broker.admin("reload")
    rows = everything.wait_notifications(head(broker))
    wanted = [row["sequence"] for row in rows if row["event"] == "acquire"]
    assert numbers(some.wait_notifications(len(wanted))) == wanted and len(wanted) == 301
    wanted = [row["sequence"] for row in rows if row["wall_ms"] >= middle]
    assert numbers(late.wait_notifications(len(wanted))) == wanted and len(wanted) < len(rows)
    with pytest.raises(TimeoutError):
        none.wait_notifications(1, 0.2)


# --- followers beside each other ---

def test_follower_that_does_not_read_holds_nobody_up_and_misses_nothing(broker):
    """Its rows wait in the store: not in the broker, and not for the others."""
    slow, _ = follow(broker)
    quick, answer = follow(broker)
    first = answer["after"]
    before = broker.rss()
    with load(broker) as granted:
        wait_until(lambda: granted() > 6000, 60, "a load")
        seen = quick.wait_notifications(6000, 60)
        assert numbers(seen) == list(range(first + 1, first + 1 + len(seen)))
    last = head(broker)
    assert len(slow.notifications) <= 1, "what came with the reply"
    if not build.is_sanitized():
        assert broker.rss() - before < 1 << 20, "a queue grows"
    rows = slow.wait_notifications(last - first + 1, 60)
    assert numbers(rows) == list(range(first, last + 1))
    assert numbers(quick.wait_notifications(last - first, 60)) == list(range(first + 1, last + 1))


def test_follower_may_pause_for_longer_than_others_may(make_broker):
    """`audit follow | less`: what waits for it is bounded, so it is not hung up on as other slow readers are."""
    broker = make_broker(timing={"idle_reap_ms": 200}).start()
    broker.wait_ready()
    connection, answer = follow(broker)
    with load(broker) as granted:
        wait_until(lambda: granted() > 2000, 60, "more than a socket holds")
    with broker.rpc() as silent:  # who owes a request is hung up on meanwhile
        wait_until(lambda: not is_open(silent), 5, "the end of a silent connection")
    last = head(broker)
    assert numbers(connection.wait_notifications(last - answer["after"], 60)) == list(range(answer["after"] + 1, last + 1))


def is_open(connection):
    """Has the broker not hung up?"""
    try:
        connection.has_reply(-1)
    except Closed:
        return False
    return True


def test_follower_that_is_killed_leaves_nothing_behind(broker):
    def descriptors():
        return len(os.listdir(f"/proc/{broker.pid}/fd"))
    broker.acquire()
    before = descriptors()
    with load(broker, 1) as granted:
        for _ in range(5):
            with broker.cli_running("audit", "follow", "--after", "0") as command:
                assert "SEQ" in command.stdout.readline()
                command.kill()
        done = granted()
        wait_until(lambda: granted() > done + 100, what="the others go on")
    wait_until(lambda: descriptors() <= before, 5, lambda: f"{descriptors()} descriptors, {before} before")
    broker.stop()


def test_many_followers_all_get_all(broker):
    followers = [follow(broker) for _ in range(40)]
    with load(broker) as granted:
        wait_until(lambda: granted() > 300, 30, "a load")
    last = head(broker)
    for connection, answer in followers:
        assert numbers(connection.wait_notifications(last - answer["after"], 60)) == list(range(answer["after"] + 1, last + 1))


# --- what is refused ---

def refused(code, connection, **params):
    """audit_follow ends with this error."""
    with pytest.raises(RpcError) as problem:
        connection.call("audit_follow", **params)
    assert problem.value.code == code
    return problem.value.text


def test_connection_follows_once(broker):
    connection, _ = follow(broker, event="nothing")
    assert "already" in refused("invalid_request", connection)
    assert broker.count("SELECT count(*) FROM audit WHERE event = 'audit_follow'") == 1


def test_place_that_the_audit_has_not_reached_is_refused(broker):
    with broker.rpc(admin=True) as connection:
        assert str(head(broker)) in refused("invalid_request", connection, after=head(broker) + 1)
        assert connection.call("audit_follow", after=head(broker))


def test_clients_do_not_follow(broker):
    with broker.rpc() as connection:
        assert "admin socket" in refused("denied", connection)


def test_following_begins_on_record_or_not_at_all(broker):
    database = sqlite3.connect(broker.db, timeout=5, isolation_level=None)
    with broker.rpc(admin=True) as connection:
        database.execute("BEGIN IMMEDIATE")
        refused("audit_unavailable", connection, after=0)
        database.execute("ROLLBACK")
        database.close()
        assert connection.notifications == []
        connection.call("audit_follow", after=0)
        rows = connection.wait_notifications(head(broker))
    assert rows[-1]["event"] == "audit_follow" and rows[-1]["detail"] == "rows after 0" and rows[-1]["pid"] == os.getpid()


# --- the end ---

def test_last_row_of_a_broker_that_stops_is_pushed(broker):
    connection, _ = follow(broker)
    broker.stop()
    connection.wait_closed()
    assert [params[0]["event"] for _, params in connection.notifications] == ["audit_follow", "stop"]


def test_half_closed_connection_ends_its_following(broker):
    connection, _ = follow(broker)
    connection.socket.shutdown(1)
    connection.wait_closed()
    broker.stop()


# --- the command ---

def test_command_prints_rows_as_they_come_and_ends_by_interrupt(broker):
    with broker.cli_running("audit", "follow", "--json", "--event", "acquire") as command:
        wait_until(lambda: broker.count("SELECT count(*) FROM audit WHERE event = 'audit_follow'"), what="the follower")
        for _ in range(3):
            lease = broker.acquire()["lease"]
            assert json.loads(command.stdout.readline())["lease"] == lease
        command.send_signal(signal.SIGINT)
        assert command.wait(5) == 130
        assert command.stdout.read() == "" and command.stderr.read() == ""


def test_command_shows_what_was_first_and_lines_for_people(broker):
    with broker.cli_running("audit", "follow", "--since", "1h") as command:
        assert command.stdout.readline().split() == ["SEQ", "TIME", "EVENT", "OUTCOME", "PROFILE", "UID/PID", "UNIT", "LEASE,", "DETAIL"]
        assert command.stdout.readline().split()[3:5] == ["lead", "ok"]
        lease = broker.acquire()["lease"]
        line = wait_until(lambda: next((text for text in iter(command.stdout.readline, "") if lease in text), None))
        assert f"{os.getuid()}/{os.getpid()}" in line


def test_command_goes_on_when_the_broker_restarts(broker):
    with broker.cli_running("audit", "follow", "--json", "--after", "0") as command:
        rows = [json.loads(command.stdout.readline())]
        for count, restart in enumerate((broker.stop, broker.kill), 2):
            broker.acquire()
            restart()
            broker.start()
            broker.acquire()
            wait_until(lambda n=count: broker.count("SELECT count(*) FROM audit WHERE event = 'audit_follow'") == n, what="the follower")
        last = head(broker)
        while rows[-1]["sequence"] < last:
            rows.append(json.loads(command.stdout.readline()))
        assert numbers(rows) == list(range(1, rows[-1]["sequence"] + 1))
        command.send_signal(signal.SIGINT)
        assert command.wait(5) == 130
        notices = command.stderr.read().splitlines()
    assert len(notices) == 2 and all("going on after row" in line for line in notices)


def test_command_ends_when_no_broker_comes_back(broker):
    with broker.cli_running("audit", "follow") as command:
        assert "SEQ" in command.stdout.readline()
        broker.stop()
        assert command.wait(15) == 69
        assert "no broker accepts connections" in command.stderr.read()
    assert broker.cli("audit", "follow").code == 69


def test_command_says_when_stdout_cannot_be_written(broker):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(broker.cli_command("audit", "follow", "--after", "0"), env=broker.cli_env(), stdin=subprocess.DEVNULL,
                              stdout=full, stderr=subprocess.PIPE, timeout=10, check=False)
    assert done.returncode == 74 and b"stdout cannot be written" in done.stderr
