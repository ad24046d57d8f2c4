"""Start, stop, reload, a second daemon, and what is wrong with the state on the disk."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from harness import build
from harness.broker import DROPIN, FAST, MANY, key_hash, machine_id, rule_all
from harness.disk import small_disk
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, ours, row_of
from harness.users import STRANGER, need_root
from harness.wait import stays, wait_until


# --- start ---

def test_ready_line_names_socket_profiles_and_the_next_command(broker):
    line, = [line for line in broker.log.splitlines() if "READY" in line]
    assert broker.socket in line and "service" in line and "process" in line and "keybroker exec" in line


def test_service_manager_is_told(make_broker):
    broker = make_broker()
    path = broker.path("run/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        broker.start(env={"NOTIFY_SOCKET": path})
        said = [manager.recv(4096).decode()]
        while "READY=1" not in said[-1]:
            said.append(manager.recv(4096).decode())
        broker.reload()
        while "RELOADING=1" not in "".join(said):
            said.append(manager.recv(4096).decode())
        broker.stop()
        while "STOPPING=1" not in "".join(said):
            said.append(manager.recv(4096).decode())


def test_seal_key_is_made_at_the_first_start_and_kept(broker):
    seal = broker.seal_key
    assert len(seal) == 32
    broker.restart()
    assert broker.seal_key == seal


def test_daemon_with_nothing_to_do_refuses_and_says_what_to_set(make_broker):
    done = make_broker(upstream=None).run_daemon()
    assert done.code == 78 and "LITELLM_BASE_URL" in done.stderr and "LITELLM_MASTER_KEY" in done.stderr


def test_sockets_of_a_killed_daemon_are_replaced(broker):
    broker.kill()
    assert os.path.exists(broker.socket)
    broker.start()
    assert broker.call("whoami") and broker.admin("status")


def test_open_umask_opens_nothing(make_broker):
    before = os.umask(0)
    try:
        broker = make_broker().start()
    finally:
        os.umask(before)
    broker.acquire()
    private = [broker.path("state/keybroker"), os.path.dirname(broker.admin_socket), broker.admin_socket,
               broker.path("config/keybroker/seal.key")]
    private += [broker.path("state/keybroker/" + name) for name in os.listdir(broker.path("state/keybroker"))]
    assert {path: oct(os.stat(path).st_mode & 0o077) for path in private} == dict.fromkeys(private, "0o0")
    assert os.stat(os.path.dirname(broker.socket)).st_mode & 0o022 == 0


# --- stop ---

def test_sigterm_is_clean(broker):
    broker.acquire()
    broker.stop()
    assert broker.rows("SELECT pid FROM leader")[0]["pid"] == 0, "the leader's row is vacated"
    database = sqlite3.connect(f"file:{broker.db}?mode=ro", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_sigint_is_clean_too(broker):
    broker.process.send_signal(signal.SIGINT)
    assert broker.wait() == 0


def test_stop_answers_waiting_callers(make_broker, litellm):
    broker = make_broker().start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", hang=True)
    with broker.rpc() as connection:
        waiting = connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the POST")
        broker.stop()
        assert connection.reply(waiting)[0]["code"] == "not_leader"


def test_stop_does_not_wait_for_a_hanging_upstream(make_broker, litellm):
    litellm.fail(path="/", hang=True, times=-1)
    broker = make_broker().start()
    wait_until(litellm.calls, what="a call")
    began = time.monotonic()
    broker.stop()
    assert time.monotonic() - began < 2


def test_stop_finishes_the_turn(make_broker):
    """What was asked before the stop and was readable is either on record and answered, or neither."""
    broker = make_broker().start()
    broker.wait_ready()
    answered = set()
    with broker.rpc() as connection:
        sent = [connection.send("acquire", bind="ttl") for _ in range(200)]
        connection.result(sent[0])
        broker.process.send_signal(signal.SIGTERM)
        for number in sent[1:]:
            try:
                answered.add(connection.result(number)["lease"])
            except (Closed, RpcError):
                break
    assert broker.wait() == 0
    stored = {row["id"] for row in broker.rows("SELECT id FROM lease")}
    assert answered <= stored


# --- terms ---

def test_each_start_has_a_higher_term(broker):
    terms = [broker.admin("status")["term"]]
    broker.restart()
    terms.append(broker.admin("status")["term"])
    broker.kill()
    broker.start()
    terms.append(broker.admin("status")["term"])
    assert terms == [1, 2, 3]


def test_leader_of_another_boot_is_not_believed(broker):
    """As after a power cut: the row names a pid that lives, but of an earlier boot."""
    broker.kill()
    database = sqlite3.connect(broker.db, timeout=5)
    with database:
        database.execute("UPDATE leader SET pid = ?, boot_id = '00000000-0000-0000-0000-000000000000'", (os.getpid(),))
    database.close()
    broker.start()


def test_fenced_leader_writes_nothing_more(broker):
    """Another term in the row: its next write must fail, and it ends."""
    acquired = broker.acquire(bind="ttl")
    database = sqlite3.connect(broker.db, timeout=5)
    with database:
        database.execute("UPDATE leader SET term = term + 1, holder = 'somebody-else'")
    database.close()
    rows = broker.count("SELECT count(*) FROM audit")
    with pytest.raises((RpcError, Closed, OSError)) as refusal:
        broker.acquire()
    if isinstance(refusal.value, RpcError):
        assert refusal.value.code in ("not_leader", "audit_unavailable")
    assert broker.wait() != 0
    assert broker.count("SELECT count(*) FROM audit") == rows
    assert broker.count("SELECT count(*) FROM lease WHERE id = ?", acquired["lease"]) == 1


def test_fenced_leader_sends_nothing_more(make_broker, litellm):
    """Another leads while a mint is being repeated: the next attempt must not leave."""
    litellm.fail(path="/key/generate", status=500, times=-1)
    broker = make_broker(timing={"retry_base_ms": 400, "retry_attempts": 50}).start()
    wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="a second attempt")
    database = sqlite3.connect(broker.db, timeout=5)
    with database:
        database.execute("UPDATE leader SET term = term + 1, holder = 'somebody-else'")
    database.close()
    sent = len(litellm.calls())
    assert broker.wait() == 75
    assert len(litellm.calls()) == sent


# --- reload ---

def reloaded(broker, what):
    """SIGHUP, and waits for the log's word of it."""
    seen = len(broker.log)
    broker.reload()
    return wait_until(lambda: what in broker.log[seen:] and broker.log[seen:], what=lambda: f"{what!r} in\n{broker.log}")


def test_sighup_takes_new_rules_and_profiles(make_broker, litellm):
    broker = make_broker(config=MANY + rule_all(), env=DROPIN).start()
    broker.wait_ready()
    broker.write_config(MANY + rule_all() + 'profile "late" { mode = shared models = { "gpt-5" } }\n')
    reloaded(broker, "reload")
    broker.wait_ready("late")
    assert broker.acquire(profile="late")["api_key"]
    broker.write_config(MANY)
    reloaded(broker, "reload")
    wait_until(lambda: _denied(broker), what="the rule is gone")


def _denied(broker):
    try:
        broker.acquire()
    except RpcError as refusal:
        return refusal.code == "denied"
    return False


@pytest.mark.parametrize("text,line", [
    ("no_such_option = 1\n", 1), ("log_level = shouting\n", 1),
    ('# fine\n\nprofile "x" { mode = shared duration = "1h30m" }\n', 3),
    ("limits {\n  leases = many\n}\n", 2), ("rule \"r\" {\n", 1),
])
def test_sighup_with_a_bad_file_keeps_the_old_and_says_where(make_broker, text, line):
    broker = make_broker(config=MANY + rule_all()).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    broker.write_config(text)
    said = reloaded(broker, "keybroker.conf:")
    assert f"keybroker.conf:{line}" in said
    assert broker.acquire()["api_key"] == key and broker.running


def test_reload_by_rpc_answers_what_came_of_it(make_broker):
    broker = make_broker(config=MANY + rule_all(), env=DROPIN).start()
    broker.write_config(MANY + rule_all() + 'profile "x" { mode = dedicated models = { "gpt-5" } }\n')
    assert broker.admin("reload") == {"profiles": 3, "rules": 1,  # and nothing waits for a restart
                                      "master_key": {"source": "environment", "changed": False}}
    broker.write_config("durability = sometimes\n")
    with pytest.raises(RpcError) as refusal:
        broker.admin("reload")
    assert refusal.value.code == "invalid_request" and "keybroker.conf:1" in refusal.value.text
    assert len(broker.call("list")["profiles"]) == 3


def test_reload_reads_the_master_key_file_again(make_broker, litellm):
    broker = make_broker(env={"LITELLM_MASTER_KEY": ""}, timing=FAST)
    path = broker.write("master.key", "sk-wrong-master-0123456789\n")
    broker.secrets.add("sk-wrong-master-0123456789")
    broker.env["LITELLM_MASTER_KEY_FILE"] = path
    broker.start()
    wait_until(lambda: "master key" in broker.log.lower() and broker.profile().get("error"), what="its refusal")
    broker.write("master.key", litellm.master_key)
    broker.reload()
    broker.wait_ready()
    assert litellm.chat(broker.acquire()["api_key"])[0] == 200


def test_reload_says_that_the_environments_master_key_stays(make_broker):
    broker = make_broker().start()
    assert "LITELLM_MASTER_KEY_FILE" in reloaded(broker, "LITELLM_MASTER_KEY")


def test_upstream_stays_until_a_restart(make_broker, litellm):
    """It is needed for the keys that go with their profiles."""
    broker = make_broker(upstream=None, timing={**FAST, "grace_ms": 200})
    broker.secrets.update(["provider-secret-0123456789", litellm.master_key])
    provider, master = broker.write("provider", "provider-secret-0123456789"), broker.write("master", litellm.master_key)
    without = MANY + rule_all() + f'profile "fixed" {{ mode = static key_file = "{provider}" }}\n'
    broker.write_config(without + f'upstream {{ url = "{litellm.url}" master_key_file = "{master}" }}\n'
                        'profile "x" { mode = shared models = { "gpt-5" } }\n')
    broker.start()
    broker.wait_ready("x")
    key = broker.acquire(profile="x", bind="ttl")["api_key"]
    broker.write_config(without)
    for _ in range(2):
        assert "restart" in reloaded(broker, "upstream changes at a restart only")
        upstream = broker.admin("status")["upstream"]
        assert upstream["url"] == litellm.url and upstream["master_key"]["source"] == "file"
    wait_until(lambda: not litellm.keys(), what="the deletion of the key whose profile has gone")
    assert litellm.chat(key)[0] == 401
    broker.restart()
    assert "url" not in broker.admin("status")["upstream"] and broker.acquire(profile="fixed")["mode"] == "static"


def test_profile_that_leaves_the_configuration_retires_its_key(make_broker, litellm):
    extra = 'profile "gone" { mode = shared models = { "gpt-5" } alias = "going" }\n'
    broker = make_broker(config=MANY + rule_all() + extra, env=DROPIN, timing={**FAST, "grace_ms": 200}).start()
    broker.wait_ready("gone")
    broker.write_config(MANY + rule_all())
    broker.reload()
    wait_until(lambda: not [k for k in litellm.keys() if (k["key_alias"] or "").startswith("going")], what="its deletion")


# --- the state ---

def test_state_of_a_newer_version_is_refused_and_stays_as_it_is(broker):
    broker.stop()
    database = sqlite3.connect(broker.db)
    with database:
        database.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    database.close()
    done = broker.run_daemon()
    assert done.code == 78 and "newer" in done.stderr
    assert broker.rows("SELECT value FROM meta WHERE name = 'schema'")[0]["value"] == "999"


@pytest.mark.parametrize("name,mode", [("", 0o755), ("", 0o770), ("state.db", 0o644), ("state.db", 0o660)],
                         ids=lambda value: oct(value) if isinstance(value, int) else value)
def test_open_modes_refuse_the_start(broker, name, mode):
    broker.stop()
    path = broker.path("state/keybroker/" + name).rstrip("/")
    before = os.stat(path).st_mode & 0o777
    os.chmod(path, mode)
    done = broker.run_daemon()
    os.chmod(path, before)
    assert done.code in (77, 78) and path in done.stderr and f"{mode:o}" in done.stderr


def test_foreign_owner_refuses_the_start(broker):
    need_root()
    broker.stop()
    os.chown(broker.path("state/keybroker"), STRANGER, STRANGER)
    done = broker.run_daemon()
    assert done.code in (77, 78) and broker.path("state/keybroker") in done.stderr
    os.chown(broker.path("state/keybroker"), 0, 0)


def test_symlink_in_place_of_the_database_is_refused(broker):
    broker.stop()
    moved = broker.path("files/state.db")
    shutil.move(broker.db, moved)
    os.symlink(moved, broker.db)
    assert broker.run_daemon().code in (77, 78)


@pytest.mark.parametrize("what", ["missing", "other"])
def test_seal_key_that_does_not_fit_the_state_is_refused(broker, what):
    broker.stop()
    path = broker.path("config/keybroker/seal.key")
    os.unlink(path)
    if what == "other":
        with open(path, "w", encoding="ascii") as file:
            file.write(os.urandom(32).hex() + "\n")
        os.chmod(path, 0o600)
    done = broker.run_daemon()
    assert done.code == 78 and "--reset-state" in done.stderr


def test_reset_state_begins_anew(broker, litellm):
    old = broker.acquire()["api_key"]
    broker.stop()
    os.unlink(broker.path("config/keybroker/seal.key"))
    broker.start("--reset-state")
    broker.wait_ready()
    assert broker.acquire()["api_key"] != old


def test_reset_state_says_what_becomes_of_the_old_keys(make_broker, litellm):
    broker = make_broker(timing=FAST).start("--reset-state")
    broker.wait_ready()
    assert "old state" not in broker.log, "there was none"
    old = broker.acquire(profile="process", bind="ttl")["api_key"]
    name = row_of(litellm, old)["key_alias"]
    broker.restart("--reset-state")
    said = next(line for line in broker.log_since_start.splitlines() if "keys of the old state go on working" in line)
    assert "until the sweep" in said and broker.user_id in said
    if not machine_id():
        return  # the new state is another install, which does not know whose they are
    swept = wait_until(lambda: [row for row in broker.audit(event="sweep") if row["key_tag"] == broker.tag(old)], what="its row")
    assert swept[0]["detail"].startswith(name + ": ") and row_of(litellm, old) is None


def test_reset_state_never_overwrites_an_older_copy(broker):
    """Of two within one second, either: the copies' names have the second."""
    directory = os.path.dirname(broker.db)
    for count in range(1, 5):  # four starts are faster than four seconds
        broker.restart("--reset-state")
        copies = [name for name in os.listdir(directory) if name.startswith("old-") and name.endswith("-state.db")]
        assert len(copies) == count, broker.log_since_start


@pytest.mark.parametrize("text, same", [("0123456789abcdef0123456789abcdef\n", True), ("uninitialized\n", False), ("", False)])
def test_only_an_id_of_the_machine_is_one(make_broker, text, same):
    """Images of one build have the same word there before their first boot."""
    need_root()
    broker = make_broker(timing=FAST)
    name, plain = broker.write("machine-id", text, 0o644), broker.command
    if not os.path.exists("/etc/machine-id") or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("needs mount namespaces and a file to mount over")
    broker.command = lambda *more: ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/machine-id && exec "$@"', name, *plain(*more)]
    broker.start()
    install = broker.install
    broker.restart("--reset-state")
    assert (broker.install == install) is same


def test_readable_seal_key_is_refused(broker):
    broker.stop()
    os.chmod(broker.path("config/keybroker/seal.key"), 0o644)
    done = broker.run_daemon()
    assert done.code in (77, 78) and "seal.key" in done.stderr


@pytest.mark.parametrize("table", ["key", "leader"])
def test_damaged_table_is_not_served(broker, table):
    broker.acquire()
    broker.stop()
    database = sqlite3.connect(broker.db)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root, = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    size, = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with open(broker.db, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    done = broker.run_daemon()
    assert done.code != 0 and ("damaged" in done.stderr or "corrupt" in done.stderr), done


def _fill(broker):
    """Until no acquire is granted any more; -> the refusal."""
    with open(broker.path("state/ballast"), "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
            file.flush()
    with broker.rpc() as connection:
        for _ in range(20000):  # what the log already has room for may still be granted, and is on record
            error, result = connection.reply(connection.send("acquire", bind="ttl"))
            if error:
                return error
            broker.remember(result)
    return None


OVER = "what leaves can be recorded again"


def test_full_disk_lets_no_key_out_and_service_resumes(make_broker):
    need_root()
    broker = make_broker(timing={"checkpoint_every_ms": 1000})
    with small_disk(broker):
        broker.start()
        broker.wait_ready()
        held = broker.acquire(bind="ttl")
        error = _fill(broker)
        assert error["code"] == "audit_unavailable" and "make room" in error["message"]
        assert broker.call("whoami") and broker.running
        assert broker.call("release", lease=held["lease"])["released"] is True, "the reserve is for this"
        stored = broker.count("SELECT count(*) FROM audit WHERE event = 'acquire' AND outcome = 'ok'")
        assert stored == broker.count("SELECT count(*) FROM lease")
        warning, = broker.admin("status")["warnings"]
        assert " has 3 MiB left" in warning or " has 4 MiB left" in warning, "what the reserve had"
        os.unlink(broker.path("state/ballast"))
        wait_until(lambda: OVER in broker.log, 10, "said, although nobody asked")
        assert broker.acquire(bind="ttl")
        broker.stop()
        assert broker.log.count(OVER) == 1


def _fill_up(broker):
    """To the last byte, the reserve with it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(broker.path("state/keybroker/reserve"))
    with open(broker.path("state/ballast"), "wb", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("state", ["new", "of a broker that was killed", "with its log, but not its index", "with another one beside it"])
def test_start_on_a_full_disk_waits_as_a_standby(make_broker, state):
    """An end would be repeated until the service manager gives up, and then nothing resumes by itself."""
    need_root()
    broker = make_broker()
    path = broker.path("run/notify")
    with small_disk(broker), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        lease = None
        if state != "new":
            broker.start()
            broker.wait_ready()
            lease = broker.acquire(bind="ttl")
            broker.kill()
        if state == "with its log, but not its index":
            os.unlink(broker.db + "-shm")
        with contextlib.closing(sqlite3.connect(broker.db if lease else ":memory:")) as database:
            if state == "with another one beside it":
                database.execute("SELECT count(*) FROM audit").fetchone()  # so the state can at least be opened
            _fill_up(broker)
            manager.bind(path)
            manager.settimeout(10)
            broker.spawn(env={"NOTIFY_SOCKET": path})
            wait_until(lambda: "STANDBY on" in broker.log_since_start or not broker.running, what=lambda: broker.log)
            assert "READY=1" in manager.recv(4096).decode()
            stays(lambda: broker.running and "READY" not in broker.log_since_start, 1)
            assert broker.log_since_start.count("cannot take over: no room") == 1
            if state == "new":
                broker.stop()
                assert os.listdir(broker.path("state/keybroker")) in ([], ["state.db"])
                return
            os.unlink(broker.path("state/ballast"))
            wait_until(lambda: "READY" in broker.log_since_start, what=lambda: broker.log)
            assert broker.acquire(lease=lease["lease"])["api_key"] == lease["api_key"]
            broker.stop()


def test_full_disk_leaves_the_reserve_to_revocations_and_releases(make_broker, litellm):
    """Whatever else is asked for all the time, and in the same turn."""
    need_root()
    broker = make_broker(timing={**FAST, "checkpoint_every_ms": 60000})
    with small_disk(broker):
        broker.start()
        broker.wait_ready()
        held = [broker.acquire(bind="ttl")["lease"] for _ in range(30)]
        key = broker.acquire(profile="process", bind="ttl")["api_key"]
        lost = broker.acquire(profile="process", bind="ttl")
        assert _fill(broker)["code"] == "audit_unavailable"
        refused = 0
        with broker.rpc() as connection:
            for lease in held:
                others = [connection.send("acquire", bind="ttl") for _ in range(8)]
                assert connection.call("release", lease=lease)["released"] is True
                errors = [error for error, _ in map(connection.reply, others) if error]
                assert {error["code"] for error in errors} <= {"audit_unavailable"}  # a log that was moved gives room
                refused += len(errors)
        assert refused >= 8
        assert broker.admin("revoke", key_hash=key_hash(key))["keys"] == 1
        wait_until(lambda: litellm.chat(key)[0] == 401, what="its deletion")
        wait_until(lambda: broker.count("SELECT count(*) FROM key WHERE hash = ? AND state = 'deleted'", key_hash(key)) == 1,
                   what="its end on record")
        litellm.admin("POST", "/key/delete", {"keys": [key_hash(lost["api_key"])]})
        assert broker.call("report", lease=lost["lease"], status=401)["state"] == "dead"
        wait_until(lambda: broker.count("SELECT count(*) FROM audit WHERE event = 'report' AND outcome = 'dead'") == 1,
                   what="the record of who found it out")
        stray = "sk-stray-of-this-install-0123456789"
        litellm.add_key(stray, key_alias="stray", user_id=broker.user_id)
        wait_until(lambda: broker.count("SELECT count(*) FROM audit WHERE event = 'sweep' AND key_tag = ?", broker.tag(stray)) == 1,
                   what="the record of what the sweep deleted")
        assert broker.log.count("make room") < 30, "said, but not for each request"


def _granted(broker):
    try:
        return broker.acquire(bind="ttl")["lease"]
    except RpcError as refusal:
        assert refusal.code == "audit_unavailable"
        return None


def test_read_only_state_lets_no_key_out(make_broker):
    need_root()
    broker = make_broker()
    state = broker.path("state")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", state], check=False, capture_output=True).returncode:
        pytest.skip("needs mount(2) for a file system of its own")
    try:
        broker.start()
        broker.wait_ready()
        broker.stop()
        subprocess.run(["mount", "-o", "remount,ro", state], check=True)
        broker.spawn()
        wait_until(lambda: "STANDBY on" in broker.log_since_start or not broker.running, what=lambda: broker.log)
        stays(lambda: broker.running and "READY" not in broker.log_since_start, 1)
        assert "the state is read-only" in broker.log_since_start
        subprocess.run(["mount", "-o", "remount,rw", state], check=True)
        wait_until(lambda: "READY" in broker.log_since_start, what=lambda: broker.log)
        assert broker.acquire(bind="ttl")
        broker.stop()
    finally:
        if broker.running:
            broker.kill()
        subprocess.run(["umount", "-l", state], check=True)


# --- the WAL ---

def test_checkpoints_keep_the_log_small_and_lose_nothing(make_broker):
    broker = make_broker(timing={"checkpoint_every_ms": 100}).start()
    broker.wait_ready()
    with broker.rpc() as connection:
        for _ in range(100):
            sent = [connection.send("acquire", bind="ttl") for _ in range(16)]
            leases = [connection.result(number)["lease"] for number in sent]
            for lease in leases:
                connection.call("release", lease=lease)
    stays(lambda: broker.running, 0.3)
    assert os.path.getsize(broker.db + "-wal") < 8 << 20
    assert broker.count("SELECT count(*) FROM audit WHERE event = 'acquire'") == 1600
    assert broker.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_long_log_does_not_wait_for_its_tick(make_broker):
    broker = make_broker(timing={"checkpoint_every_ms": 3600000}).start()
    broker.wait_ready()
    with broker.rpc() as connection:
        for _ in range(1000):
            connection.call("acquire", bind="ttl")
    assert 4 << 20 <= os.path.getsize(broker.db + "-wal") < 5 << 20


@pytest.mark.parametrize("durability", ["crash", "power_loss"])
def test_kill_loses_nothing_that_was_answered(make_broker, durability):
    broker = make_broker(config=f"durability = {durability}\n" + MANY + rule_all()).start()
    broker.wait_ready()
    assert broker.admin("status")["durability"] == durability
    with broker.rpc() as connection:
        leases = {connection.call("acquire", bind="ttl")["lease"] for _ in range(200)}
    broker.kill()
    assert leases <= {row["lease"] for row in broker.rows("SELECT lease FROM audit WHERE event = 'acquire'")}
    broker.start()
    assert broker.admin("status")["leases"] == 200


def test_state_copied_to_another_place_is_another_install(broker, litellm):
    install, token = broker.install, key_hash(broker.acquire()["api_key"])
    broker.stop()
    os.rename(broker.path("state/keybroker"), broker.path("state/moved"))
    broker.start("--state-dir", broker.path("state/moved"))
    broker.wait_ready()
    assert broker.install != install
    assert token in {key["token"] for key in litellm.keys()}, "the other install's key is not touched"
    accounted = ours(litellm, "keybroker:" + install)
    assert token in accounted


def test_release_build_has_neither_timing_nor_fail_points(make_broker):
    release = build.ROOT / "build/release"
    found = [path for path in release.glob("**/keybrokerd") if path.is_file()]
    if not found:
        pytest.skip("needs build/release (cmake --preset release)")
    for option in ("--list-fail-points", "--timing"):
        done = subprocess.run([found[0], option, "/dev/null"], capture_output=True, text=True, check=False, timeout=10)
        assert done.returncode == 64 and option in done.stderr


def test_keys_of_two_daemons_of_two_states_do_not_mix(make_broker, litellm):
    one, two = make_broker(timing=FAST).start(), make_broker(timing=FAST).start()
    for broker in (one, two):
        broker.wait_ready()
        broker.acquire(profile="process")
    stays(lambda: len(litellm.keys()) == 4, 1.2)  # two sweeps of each
    for broker in (one, two):
        accounted_for(broker, litellm)
