"""Several instances over one state: who takes over, when, and what clients notice of it."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from harness.broker import DROPIN, FAST, MANY, rule_all
from harness.disk import failing_disk, small_disk
from harness.instances import Instance, Instances, memory_has, mint_through_a_failover
from harness.knock import Knockers
from harness.rpc import Closed, RpcError
from harness.upstream import row_of
from harness.wait import stays, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def instances(make_broker):
    made = Instances(make_broker(timing=FAST))
    yield made
    made.close()


@pytest.fixture
def pair(instances):
    """-> (instances, the leader, the standby)"""
    a, b = instances.start("a", "b")
    instances.broker.wait_ready()
    return instances, a, b


def test_second_instance_stands_by_and_names_the_leader(pair):
    instances, a, b = pair
    assert "READY" in a.log and "STANDBY" in b.log and f"pid {a.pid}," in b.log
    stays(lambda: instances.leader() is a, 0.5)
    assert instances.broker.admin("status")["standbys"] == [{"instance": "b", "pid": b.pid}]
    assert f'"b", pid {b.pid}' in instances.broker.cli("status").ok()


def test_new_leader_has_not_known_litellm_since_its_start(pair):
    """It had not even asked it while it stood by."""
    instances, a, _ = pair
    killed_at_ms = time.time() * 1000
    a.kill()
    instances.broker.wait_ready()
    since = wait_until(lambda: instances.broker.admin("status")["upstream"].get("since_at_ms"), what="an answer of LiteLLM")
    assert since > killed_at_ms


def test_kill_of_the_leader_loses_nothing(pair, litellm):
    instances, a, b = pair
    broker = instances.broker
    lease = broker.acquire(bind="ttl")
    term = broker.admin("status")["term"]
    a.kill()
    again = broker.acquire(lease=lease["lease"])  # waits in the backlog
    assert again["api_key"] == lease["api_key"] and instances.leader() is b
    assert broker.admin("status")["term"] == term + 1 and len(litellm.keys()) == 1


def test_connection_that_waits_is_not_refused(pair):
    """With a dead leader and its standby stopped nobody accepts: clients wait all the same."""
    instances, a, b = pair
    b.freeze()
    a.kill()
    with instances.broker.rpc() as early:
        sent = early.send("whoami")
        b.signal(signal.SIGCONT)
        assert early.result(sent)["uid"] == os.geteuid()


def test_stopped_leader_is_replaced_and_killed(pair):
    instances, a, b = pair
    a.freeze()
    before = time.monotonic()
    assert instances.broker.call("whoami") and instances.wait_leader(a) is b
    assert time.monotonic() - before < 5
    assert a.process.wait(5) == -signal.SIGKILL and f"pid {a.pid}" in b.log


def test_leader_that_was_stopped_for_a_moment_goes_on(instances):
    instances.broker.timing["stopped_ms"] = 20000
    instances.broker.timing["still_ms"] = 20000
    a, b = instances.start("a", "b")
    instances.broker.wait_ready()
    a.freeze()
    a.signal(signal.SIGCONT)
    assert instances.broker.call("whoami") and instances.leader() is a and b.running


def test_clean_stop_hands_over_without_a_refusal(pair):
    """Start the new one, stop the old one: what an upgrade does."""
    instances, a, b = pair
    with Knockers(instances.broker.socket) as knockers:
        for old in (a, b):
            new = instances.start(f"after-{old.name}")
            old.stop()
            knockers.wait_served("service after the hand-over")
            assert new.running
    assert not knockers.refused


@needs_root
def test_standby_holds_no_virtual_key(pair):
    instances, a, b = pair
    key = instances.broker.acquire()["api_key"]
    assert not memory_has(b.pid, key)
    a.kill()
    assert instances.broker.acquire()["api_key"] == key
    assert memory_has(b.pid, key), "as a leader it does: the search is able to find one"


def test_ten_at_once_on_a_fresh_state_make_one_key(instances, litellm):
    made = instances.start_together(*(f"i{number}" for number in range(10)))
    leader = instances.wait_leader()
    instances.broker.wait_ready()
    wait_until(lambda: all("STANDBY" in one.log for one in made if one is not leader), what=instances.logs)
    assert len(litellm.keys()) == 1 and instances.broker.admin("status")["term"] == 1
    for _ in range(9):  # each of them can
        leader = instances.leader()
        leader.kill()
        assert instances.broker.acquire(bind="ttl")["generation"] == 1
    assert len(litellm.keys()) == 1


@pytest.mark.parametrize("patience", [10000, 50], ids=["one-answer", "many-questions"])
def test_who_says_that_it_stands_by_has_the_sockets(instances, patience):
    """The leader may be stopped as soon as that is said: nobody must be refused then."""
    instances.broker.timing.update(handover_ms=patience, stopped_ms=60000, still_ms=60000)
    a = instances.start("a")
    instances.broker.wait_ready()
    a.signal(signal.SIGSTOP)  # it cannot hand them over yet
    b = instances.start_together("b")[0]
    wait_until(lambda: instances.broker.count("SELECT count(*) FROM instance") == 2, what=lambda: b.log)
    stays(lambda: "STANDBY" not in b.log, 1)
    a.signal(signal.SIGCONT)
    wait_until(lambda: "STANDBY" in b.log, what=lambda: b.log)
    made = os.stat(instances.broker.socket).st_ctime_ns
    a.kill()
    assert instances.wait_leader(a) is b and os.stat(instances.broker.socket).st_ctime_ns == made


def test_leader_that_could_not_enter_itself_hands_its_sockets_over(instances):
    a = instances.start("a")
    instances.broker.wait_ready()
    database = sqlite3.connect(instances.broker.db, timeout=5)
    with database:
        database.execute("DELETE FROM instance")
    database.close()
    b = instances.start("b")
    made = os.stat(instances.broker.socket).st_ctime_ns
    a.kill()
    assert instances.wait_leader(a) is b and os.stat(instances.broker.socket).st_ctime_ns == made


def test_standby_of_a_standby_keeps_the_sockets_too(instances):
    """Who got them from the leader passes them on when that leader is long gone."""
    a, b = instances.start("a", "b")
    made = os.stat(instances.broker.socket).st_ctime_ns
    a.kill()
    instances.wait_leader(a)
    c = instances.start("c")
    b.kill()
    instances.wait_leader(a, b)
    assert instances.leader() is c and os.stat(instances.broker.socket).st_ctime_ns == made


def test_sockets_of_who_is_stopped_are_replaced(instances):
    """All that have them are stopped: the newcomer makes others, and they go on from there."""
    a, b = instances.start("a", "b")
    instances.broker.wait_ready()
    lease = instances.broker.acquire(bind="ttl")
    a.freeze()
    b.freeze()
    c, = instances.start_together("c")
    wait_until(lambda: "READY" in c.log or not c.running, what=lambda: c.log)
    assert instances.broker.acquire(lease=lease["lease"])["api_key"] == lease["api_key"] and instances.leader() is c
    b.signal(signal.SIGCONT)
    wait_until(lambda: b.running and f"pid {c.pid}" in b.log, what=lambda: b.log)
    made = os.stat(instances.broker.socket).st_ctime_ns
    time.sleep(0.5)  # b's look at the sockets
    c.kill()
    assert instances.broker.call("whoami") and instances.leader() is b
    assert os.stat(instances.broker.socket).st_ctime_ns == made


@pytest.mark.parametrize("point", ["mint.after_intent", "mint.before_post", "mint.after_post", "mint.after_info"])
def test_failover_in_the_middle_of_a_mint(make_broker, litellm, point):
    mint_through_a_failover(make_broker(timing=FAST), litellm, point)


@pytest.mark.parametrize("end", [Instance.kill, Instance.stop], ids=lambda end: end.__name__)
@pytest.mark.parametrize("tick", [100, 60000], ids=["seen", "unseen"])
def test_reload_is_for_the_successor_too(make_broker, end, tick):
    """Also if it takes over before it has seen that: what it finds in the state is not made a second time then."""
    broker = make_broker(config=MANY + rule_all("before"), env=DROPIN, timing={**FAST, "grace_ms": 60000, "standby_tick_ms": tick})
    instances = Instances(broker)
    try:
        a, b = instances.start("a", "b")
        broker.wait_ready()
        broker.write_config(MANY + rule_all("after") + 'profile "more" { mode = shared models = { "gpt-5" } }\n')
        broker.admin("reload")
        broker.wait_ready("more")
        key = broker.acquire(profile="more", bind="ttl")
        end(a)
        assert instances.wait_leader(a) is b and broker.call("whoami")["rules"] == ["after"]
        assert broker.acquire(lease=key["lease"])["api_key"] == key["api_key"]
        assert "reloaded: " in b.log
        time.sleep(0.3)
        assert len(broker.audit(event="mint", profile="more")) == 1 and not broker.audit(event="retire")
    finally:
        instances.close()


def test_sockets_of_another_state_stay_its_own_after_a_hand_over(pair):
    """Who made them is dead by then."""
    instances, a, b = pair
    broker = instances.broker
    a.stop()
    assert instances.wait_leader(a) is b
    os.mkdir(broker.path("other"), 0o700)
    env = {**broker.env, "XDG_STATE_HOME": broker.path("other")}
    done = subprocess.run(broker.command("--instance", "other"), env=env, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 75 and "another broker answers there" in done.stderr, done
    assert instances.leader() is b and "no longer this broker's" not in b.log


def test_successor_serves_what_was_served_though_upstream_hangs(make_broker, litellm):
    broker = make_broker(timing={**FAST, "info_timeout_ms": 60000})
    instances = Instances(broker)
    try:
        a, b = instances.start("a", "b")
        broker.wait_ready()
        before = broker.acquire(bind="ttl")
        litellm.fail(path="/key/info", hang=True, times=-1)
        a.kill()
        assert broker.acquire(bind="ttl")["api_key"] == before["api_key"] and instances.leader() is b
        wait_until(lambda: litellm.calls("/key/info"), what="the question, which nobody waits for")
        litellm.clear()
    finally:
        instances.close()


def test_configuration_that_a_standby_read_is_on_record_when_it_leads(pair):
    instances, a, b = pair
    b.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded: " in b.log, what="it")
    a.kill()
    assert instances.wait_leader(a) is b
    assert [row["detail"] for row in instances.broker.audit(event="reload")] == ["SIGHUP, while this instance stood by"]


def test_revoked_key_is_blocked_by_the_successor(make_broker, litellm):
    """Its first POST had no answer, so it cannot be deleted yet: a late one would make it anew."""
    broker = make_broker(timing={**FAST, "burn_delete_ms": 600000})
    instances = Instances(broker)
    try:
        litellm.fail(path="/key/generate", drop_after=0, when="after", times=1)
        a, b = instances.start("a", "b")
        broker.wait_ready()
        key = broker.acquire(profile="service", bind="ttl")["api_key"]
        assert litellm.chat(key)[0] == 200
        litellm.fail(path="/key/block", hang=True, times=-1)
        broker.admin("revoke", profile="service")
        wait_until(lambda: litellm.calls("/key/block"), what="the attempt")
        a.kill()
        litellm.clear()
        assert instances.wait_leader(a) is b
        wait_until(lambda: litellm.chat(key)[0] == 401, what="its end")
        assert row_of(litellm, key)["blocked"], "a late POST must meet an occupied row"
    finally:
        instances.close()


def test_beats_do_not_make_the_log_grow_for_ever(instances):
    instances.broker.timing.update(leader_tick_ms=2, checkpoint_every_ms=200)
    instances.start("a", "b")
    instances.broker.wait_ready()
    beats = instances.broker.rows("SELECT beat FROM leader")[0]["beat"]
    wait_until(lambda: instances.broker.rows("SELECT beat FROM leader")[0]["beat"] > beats + 800, 30, "many beats")
    assert os.stat(instances.broker.db + "-wal").st_size < 2 << 20


def test_sockets_outlive_the_loss_of_their_directories(pair):
    """As at a logout that empties /run/user/UID."""
    instances, a, b = pair
    for name in ("keybroker", "keybroker-admin"):
        shutil.rmtree(instances.broker.path(f"run/{name}"))
    wait_until(lambda: os.path.exists(instances.broker.socket) and os.path.exists(instances.broker.admin_socket), what="new ones")
    assert instances.broker.call("whoami")
    wait_until(lambda: len([name for name in os.listdir(os.path.dirname(instances.broker.admin_socket))
                            if name.startswith("inst-")]) == 2, what="the private ones")
    time.sleep(0.5)  # b's look at the sockets
    a.kill()
    assert instances.broker.call("whoami") and instances.wait_leader(a) is b


def fill(broker, name):
    """Not a page is left."""
    with open(broker.path(f"state/{name}"), "wb", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@needs_root
def test_full_disk_does_not_keep_a_standby_from_leading(make_broker):
    broker = make_broker(timing={**FAST, "checkpoint_every_ms": 60000})
    with small_disk(broker):
        instances = Instances(broker)
        a, b = instances.start("a", "b")
        broker.wait_ready()
        held = broker.acquire(bind="ttl")["lease"]
        fill(broker, "ballast")
        a.kill()
        instances.wait_leader(a)
        assert instances.leader() is b and broker.call("release", lease=held)["released"] is True
        os.unlink(broker.path("state/ballast"))
        instances.close()


def test_full_disk_is_no_reason_to_replace_a_leader(make_broker):
    broker = make_broker(timing=FAST)
    with small_disk(broker):
        instances = Instances(broker)
        a, b = instances.start("a", "b")
        broker.wait_ready()
        fill(broker, "ballast")
        stays(lambda: a.running and b.running, 3)
        fill(broker, "more")  # what was in reserve
        stays(lambda: a.running and b.running, 3)
        for name in ("ballast", "more"):
            os.unlink(broker.path(f"state/{name}"))
        wait_until(broker.acquire, what="service again")
        assert instances.leader() is a and broker.admin("status")["term"] == 1
        instances.close()


@needs_root
def test_disk_that_turns_read_only_ends_nobody(make_broker):
    broker = make_broker(timing=FAST)
    with failing_disk(broker) as fail:
        instances = Instances(broker)
        a, b = instances.start("a", "b")
        broker.wait_ready()
        broker.acquire(bind="ttl")
        fail()
        with pytest.raises(RpcError) as refused:
            broker.acquire(bind="ttl")
        assert refused.value.code == "audit_unavailable" and "is read-only; make it writable" in str(refused.value)
        stays(lambda: a.running and b.running, 3)
        assert broker.call("whoami")
        for instance in (a, b):
            instance.kill()
        instances.close()


def test_lone_leader_writes_nothing(instances):
    instances.start("a")
    instances.broker.wait_ready()
    before = instances.broker.rows("SELECT beat FROM leader")
    stays(lambda: instances.broker.rows("SELECT beat FROM leader") == before, 1.0)


def test_dead_instance_is_forgotten(pair):
    instances, _, b = pair
    assert instances.broker.count("SELECT count(*) FROM instance") == 2
    b.kill()
    wait_until(lambda: instances.broker.count("SELECT count(*) FROM instance") == 1, what="its row gone")
    private = os.path.dirname(instances.broker.admin_socket)
    wait_until(lambda: len([name for name in os.listdir(private) if name.startswith("inst-")]) == 1, what="its socket gone")


def test_forgotten_standby_enters_itself_again(instances):
    instances.broker.timing["instance_beat_ms"] = 100
    a, b = instances.start("a", "b")
    database = sqlite3.connect(instances.broker.db, timeout=5)
    with database:
        database.execute("DELETE FROM instance WHERE pid = ?", (b.pid,))
    database.close()
    wait_until(lambda: instances.broker.count("SELECT count(*) FROM instance WHERE pid = ?", b.pid) == 1, what="its row")
    assert a.running


def test_lock_of_a_stranger_is_waited_for(pair):
    instances, a, b = pair
    database = sqlite3.connect(instances.broker.db, timeout=5, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    a.kill()
    wait_until(lambda: f"pid {os.getpid()}" in b.log, what=lambda: "the stranger's name in\n" + b.log)
    database.execute("ROLLBACK")
    database.close()
    assert instances.wait_leader(a) is b


def test_state_that_is_unlinked_makes_the_leader_step_down(pair):
    instances, a, _ = pair
    instances.broker.acquire(bind="ttl")
    for name in os.listdir(os.path.dirname(instances.broker.db)):
        if name.startswith("state.db"):
            os.unlink(os.path.join(os.path.dirname(instances.broker.db), name))
    with pytest.raises((RpcError, Closed, ConnectionResetError)) as refusal:
        instances.broker.acquire(bind="ttl")
    assert not isinstance(refusal.value, RpcError) or refusal.value.code in ("audit_unavailable", "not_leader")
    assert a.process.wait(5) == 75 and "removed or replaced" in a.log


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_nothing_is_acknowledged_on_a_file_that_is_gone(instances, name):
    """The leader's own ticks are held back: it is the turn that sees it."""
    instances.broker.timing["leader_tick_ms"] = 60000
    a = instances.start("a")
    instances.broker.wait_ready()
    with instances.broker.rpc() as connection:
        connection.call("whoami")
        os.unlink(os.path.join(os.path.dirname(instances.broker.db), name))
        with pytest.raises((Closed, ConnectionResetError)):
            connection.call("acquire", bind="ttl")
    assert a.process.wait(5) == 75 and f"/{name} was removed or replaced" in a.log, a.log


@pytest.mark.parametrize("end", ["removed", "replaced"])
@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_idle_instances_see_that_a_file_is_gone(pair, name, end):
    """The standby does not take over what nobody will find, either: both end, for the service manager to start anew."""
    instances, a, b = pair
    directory = os.path.dirname(instances.broker.db)
    if end == "replaced":
        shutil.copy(os.path.join(directory, name), os.path.join(directory, "new"))
        os.rename(os.path.join(directory, "new"), os.path.join(directory, name))
    else:
        os.unlink(os.path.join(directory, name))
    for instance in (a, b):
        assert instance.process.wait(5) == 75 and f"/{name} was removed or replaced" in instance.log, instance.log
    assert "leads now" not in b.log and "READY" not in b.log
    c = instances.start("c")
    instances.broker.wait_ready()
    assert instances.leader() is c


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_standby_claims_nothing_that_is_gone(pair, name):
    """Its ticks are held back by a stop: it is woken by the leader's end, and the claim is the first that it does."""
    instances, a, b = pair
    b.freeze()
    os.unlink(os.path.join(os.path.dirname(instances.broker.db), name))
    a.kill()
    b.signal(signal.SIGCONT)
    assert b.process.wait(5) == 75 and "READY" not in b.log


def test_other_programs_may_read_and_write_the_state(pair):
    """What sqlite3 does at its end (checkpoint, remove the log if nobody else has it) is none of this."""
    instances, a, b = pair
    for _ in range(3):
        database = sqlite3.connect(instances.broker.db, timeout=5)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with database:
            database.execute("REPLACE INTO meta (name, value) VALUES ('elsewhere', '1')")
        database.close()
        assert instances.broker.cli("audit", "verify").code == 0
        instances.broker.acquire(bind="ttl")
    stays(lambda: a.running and b.running, 1.0)
    a.kill()
    assert instances.wait_leader(a) is b and instances.broker.acquire(bind="ttl")
    b.stop()
    assert instances.broker.cli("audit", "verify").code == 0
    c = instances.start("c")
    stays(lambda: c.running and instances.broker.call("whoami"), 1.0)


def test_socket_that_was_removed_is_made_anew_and_handed_on(pair):
    instances, a, b = pair
    os.unlink(instances.broker.socket)
    wait_until(lambda: os.path.exists(instances.broker.socket) and instances.broker.call("whoami"), what="a new socket")
    made = os.stat(instances.broker.socket).st_ctime_ns
    with open("/proc/net/unix", encoding="ascii") as sockets:  # those that listen have this flag
        ours = [line.split() for line in sockets if line.rstrip().endswith(" " + instances.broker.socket)]
    listening = {words[6] for words in ours if words[3] == "00010000"}
    held = {os.readlink(f"/proc/{a.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{a.pid}/fd")}
    assert len(listening & {name[8:-1] for name in held if name.startswith("socket:")}) == 1, "the old one is let go"
    time.sleep(0.5)  # a standby's look
    a.kill()
    assert instances.broker.call("whoami") and instances.wait_leader(a) is b
    assert os.stat(instances.broker.socket).st_ctime_ns == made


def test_socket_that_was_replaced_is_said(pair):
    instances, a, _ = pair
    os.rename(instances.broker.socket, instances.broker.socket + "-old")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(instances.broker.socket)
        wait_until(lambda: "no longer this broker's" in a.log, what=lambda: a.log)


@needs_root
@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_in_another_pid_namespace_only_the_beat_counts(instances, end):
    a = instances.start("a")
    instances.broker.wait_ready()
    b = instances.start("b", prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    time.sleep(1.5)  # it counts from a second after it registered
    stays(lambda: instances.leader() is a, 2)
    a.signal(end)
    before = time.monotonic()
    assert instances.broker.call("whoami")
    assert time.monotonic() - before > 0.5, "a pid of another namespace proved something"
    assert "READY" in b.log
    if end == signal.SIGSTOP:
        a.signal(signal.SIGCONT)
        assert a.process.wait(10) == 75, "the fence ends it"


@needs_root
def test_pids_of_another_namespace_end_no_lease_at_once(instances, litellm):
    """Who leads now cannot see the process: it has the time of a take-up, and is not said to have ended."""
    instances.broker.timing.update(takeover_ms=3000)
    a = instances.start("a")
    instances.broker.wait_ready()
    b = instances.start("b", prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    held = instances.broker.acquire(profile="process")
    a.kill()
    wait_until(lambda: "READY" in b.log, what="the successor")
    state = "SELECT state FROM lease WHERE id = ?"
    stays(lambda: instances.broker.rows(state, held["lease"])[0]["state"] == "active", 1)
    assert litellm.chat(held["api_key"])[0] == 200
    wait_until(lambda: instances.broker.rows(state, held["lease"])[0]["state"] != "active", what="its end")
    row, = [row for row in instances.broker.audit(lease=held["lease"]) if row["event"] in ("release", "expire")]
    assert "has ended" not in row["detail"], row


def test_sockets_of_the_service_manager_are_used(make_broker):
    broker = make_broker()
    listening = []
    for path in (broker.socket, broker.admin_socket):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        listening.append(socket.socket(socket.AF_UNIX))
        listening[-1].bind(path)
        listening[-1].listen(8)
    inode = os.stat(broker.socket).st_ino
    with open(broker.log_path, "wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec 3<&{listening[1].fileno()} 4<&{listening[0].fileno()}; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"",
             "bash", *broker.command()], env=broker.env, stdout=log, stderr=log,
            pass_fds=[one.fileno() for one in listening])
    try:
        assert broker.call("whoami") and broker.admin("status")["pid"] == process.pid
        assert os.stat(broker.socket).st_ino == inode
    finally:
        process.terminate()
        assert process.wait(10) == 0
        for one in listening:
            one.close()
        shutil.rmtree(os.path.dirname(broker.socket))
