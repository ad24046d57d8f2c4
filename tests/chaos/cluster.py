"""What is tortured: instances over one state, a stand-in for LiteLLM, clients of several uids."""

import glob
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

from client import Standin
from harness import build
from harness.broker import DROPIN, Broker
from harness.instances import Instance
from harness.wait import wait_until

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
# Upstream carries no request on for longer than it is delayed here (nemesis.py), which is less than burn_delete_ms.
# The sweep tidies up what the checker is after, so whatever it deleted must be a stray of the nemesis's.
TIMING = {"retry_base_ms": 20, "breaker_ms": 100, "upstream_recheck_ms": 200, "delete_retry_ms": 200, "takeover_ms": 1000,
          "upstream_timeout_ms": 1500, "info_timeout_ms": 1500, "burn_delete_ms": 12000, "grace_ms": 1000,
          "checkpoint_every_ms": 1000, "sweep_every_ms": 1000}
LIMITS = "limits { mints_per_minute = 1000000 connections = 100000 leases = 1000000 requests = 1000000 requests_per_second = 1000000 }\n"
UPSTREAM_LATE_USEC = 6_000_000  # no request is carried out later than this after the fault of upstream that delayed it
STRANGERS = (54321, 54322)  # uids of clients, when we are root

# Every write of a stale leader, whatever let it through: seen by the database itself.
WITNESS = "CREATE TABLE IF NOT EXISTS chaos_stale (what TEXT, id, term INTEGER, leader INTEGER);" + "".join(
    f"CREATE TRIGGER IF NOT EXISTS chaos_{table}_{event} AFTER {event} ON {table}"
    f" WHEN NEW.term IS NOT (SELECT term FROM leader) BEGIN INSERT INTO chaos_stale"
    f" VALUES ('{event} {table}', NEW.{key}, NEW.term, (SELECT term FROM leader)); END;"
    for table, key in (("key", "id"), ("lease", "id"), ("audit", "sequence"))
    for event in ("INSERT", "UPDATE"))


def now_usec():
    """CLOCK_MONOTONIC, as the clients write it."""
    return time.monotonic_ns() // 1000


class Plan:
    """What a run is made of; nemesis.py has the weights of the events."""

    def __init__(self):
        self.minutes, self.instances, self.clients, self.lanes, self.rate = 2.0, 3, 3, 8, 700
        self.dedicated, self.give_up, self.probe_usec = 6, 40, 5000
        self.gap, self.seed, self.weights, self.timing = 0.9, random.randrange(1 << 30), {}, {}
        self.namespaces, self.slow_disk, self.keep = 0, 0, 1
        self.patience = 60  # seconds of quiet
        self.rules = None  # of the stand-in's failures, in place of nemesis.UPSTREAM


class Events:
    """The nemesis's log: one JSON object a line."""

    def __init__(self, path):
        self._file, self.all = open(path, "w", encoding="ascii", buffering=1), []

    def add(self, kind, **more):
        """Logs an event; -> it."""
        event = {"at": now_usec(), "kind": kind, **more}
        self.all.append(event)
        self._file.write(json.dumps(event) + "\n")
        return event


class Locks(threading.Thread):
    """Watches the state's locks, which SQLite's file format fixes (bytes of the -shm file): who checkpoints must keep all
    writers out, or SQLite before 3.51.3 loses pages. Only what two looks in a row show counts."""

    WRITE, CHECKPOINT = 120, 121

    def __init__(self, path, events):
        super().__init__(daemon=True)
        self._path, self._events, self._end = path, events, threading.Event()
        self.seen, self.unguarded = 0, 0

    def stop(self):
        """Ends it."""
        self._end.set()
        self.join()

    def _look(self):
        """-> (who holds the checkpoint's lock, does it hold the writers' too?), or None."""
        try:
            st = os.stat(self._path)
        except FileNotFoundError:
            return None
        # with the device: other file systems of this host have the same numbers
        inode, held = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}", {}
        with open("/proc/locks", encoding="ascii") as locks:
            for words in map(str.split, locks):
                if words[1] == "POSIX" and words[3] == "WRITE" and words[5] == inode and words[7] != "EOF":
                    held.setdefault(words[4], set()).update(range(int(words[6]), int(words[7]) + 1))
        return next(((pid, self.WRITE in bytes_) for pid, bytes_ in held.items() if self.CHECKPOINT in bytes_), None)

    def run(self):
        before = None
        while not self._end.wait(0.004):
            now = self._look()
            self.seen += now is not None
            if now and not now[1] and before == now:
                self.unguarded += 1
                if self.unguarded <= 5:
                    self._events.add("unguarded_checkpoint", pid=int(now[0]))
            before = now


class Client:
    """One process of the load; its log is its standard output."""

    def __init__(self, cluster, name, uid, lanes, probe=0):
        plan = cluster.plan
        self.name, self.uid, self.lanes, self.probe = name, uid, lanes, probe
        self.log_path = cluster.broker.path(f"clients/{name}")
        command = [os.path.join(build.public_directory(), "chaos_client"), "--socket", cluster.broker.socket, "--name", name,
                   "--lanes", str(lanes), "--rate", str(max(plan.rate // plan.clients, 1)), "--probe-usec", str(probe),
                   "--dedicated-per-mille", str(plan.dedicated), "--give-up-percent", str(plan.give_up)]
        who = {} if uid == os.getuid() else {"user": uid, "group": uid, "extra_groups": []}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, env=build.sanitizer_environment(),
                                            cwd="/", **who)


class Cluster:
    """All processes of a run and where they live. close() ends and removes them."""

    def __init__(self, plan):
        self.plan, self.root = plan, os.geteuid() == 0
        shutil.copy(build.binary("chaos_client"), build.public_directory())  # fails before anything runs
        self.standin = Standin()
        uids = [os.getuid(), *(STRANGERS if self.root else ())]
        self.uids = [uids[i % len(uids)] for i in range(plan.clients)]
        rules = "".join(f'rule "u{uid}" {{ uid = {uid} profiles = {{ "*" }} }}\n' for uid in uids)
        # On a disk of memory a commit takes no time, so the whole of it is the broker's.
        self.broker = Broker(self.standin, LIMITS + rules, env=DROPIN)
        # written once: a Broker with `timing` writes it at each start, while others may be reading it
        times = "".join(f"{name} {value}\n" for name, value in {**TIMING, **plan.timing}.items())
        self.broker.args += ["--timing", self.broker.write("timing", times)]
        os.mkdir(self.broker.path("clients"))
        self.events = Events(self.broker.path("events"))
        self._libraries = []
        self.alive, self.ended, self.clients, self._n, self._database, self.locks = [], [], [], 0, None, None
        self.install = ""  # by which the broker knows its keys
        self.size = int(256 + 40 * plan.minutes) * MIB
        self.mounted = self.root and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.size},mode=755", "chaos", self.broker.path("state")],
            check=False, stderr=subprocess.DEVNULL).returncode == 0
        self.env = {**self._clock_env(), **self._slow_disk_env()}
        self.env["LD_PRELOAD"] = ":".join(self._libraries)

    # --- what goes before the daemon's libraries ---

    def _clock_env(self):
        library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
        self.can_shift = bool(library and not build.is_sanitized())
        if not self.can_shift:
            return {}
        self.set_clock(0)
        self._libraries.append(library)
        return {"FAKETIME_TIMESTAMP_FILE": self.broker.path("clock"), "FAKETIME_CACHE_DURATION": "1",
                "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}

    def set_clock(self, seconds):
        """The wall clock of all instances, as its distance to the true one."""
        with open(self.broker.path("clock.new"), "w", encoding="ascii") as file:
            file.write(f"{seconds:+}\n")
        os.rename(self.broker.path("clock.new"), self.broker.path("clock"))

    def _slow_disk_env(self):
        if not self.plan.slow_disk:
            return {}
        library = self.broker.path("slow_disk.so")
        subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, str(HERE / "slow_disk.c")], check=True)
        self._libraries.append(library)
        return {"CHAOS_SLOW_DISK_USEC": str(self.plan.slow_disk)}

    # --- the state, as anybody may read it ---

    def query(self, sql, *values):
        """Rows of the database, as it is."""
        if self._database is None:
            self._database = sqlite3.connect(f"file:{self.broker.db}?mode=ro", uri=True, timeout=5, isolation_level=None,
                                             check_same_thread=False)
        return self._database.execute(sql, values).fetchall()

    def leader(self):
        """-> (term, the living instance that leads or None)."""
        try:
            (term, name), = self.query("SELECT term, CASE WHEN pid THEN instance ELSE '' END FROM leader")
        except (sqlite3.Error, ValueError):
            return 0, None
        return term, next((one for one in self.alive if one.name == name and one.running), None)

    def standbys(self):
        """Living instances that have said that they stand by, are not stopped nor told to end, and do not lead."""
        leader = self.leader()[1]
        found = [one for one in self.alive if one is not leader and one.running and not one.stopped and not one.gone_at]
        for one in found:
            one.ready = one.ready or "STANDBY" in one.log
        return [one for one in found if one.ready]

    def _watch(self):
        database = sqlite3.connect(self.broker.db, timeout=10, isolation_level=None)
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.executescript(WITNESS)
        database.close()

    # --- instances ---

    def start_instance(self):
        """Starts one more and does not wait."""
        self._n += 1
        apart = self.plan.namespaces and self._n % 2 == 0
        prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc") if apart else ()
        one = Instance(self.broker, f"i{self._n}", prefix, self.env)
        one.stopped, one.ready, one.gone_at, one.prefix = False, False, None, prefix
        self.alive.append(one)
        self.events.add("start", instance=one.name, pid=one.pid)
        return one

    def reap(self):
        """Notes who has ended."""
        for one in [one for one in self.alive if not one.running]:
            self.alive.remove(one)
            self.ended.append(one)
            self.events.add("end", instance=one.name, code=one.process.returncode)

    def keep_alive(self):
        """As many as there shall be."""
        self.reap()
        while len(self.alive) < self.plan.instances:
            self.start_instance()

    def signal(self, one, number):
        """Signals the daemon itself, also behind its prefix."""
        pid = one.pid
        if number in (signal.SIGTERM, signal.SIGKILL):
            one.gone_at = one.gone_at or now_usec()
        if one.prefix:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                pid = int((file.read().split() or [pid])[0])
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def open_doors(self):
        """Lets the other uids reach the socket."""
        def opened():
            try:
                os.chmod(os.path.dirname(self.broker.socket), 0o755)
                os.chmod(self.broker.socket, 0o666)
            except FileNotFoundError:  # the first leader is just about to make it
                return False
            return True
        wait_until(opened, 20, "the socket")

    def _wait_leader(self):
        def what():
            return "\n".join(["a leader", *(one.log for one in self.alive)])
        wait_until(lambda: any("READY" in one.log or not one.running for one in self.alive), 20, what)
        assert all(one.running for one in self.alive), what()

    def start(self):
        """Instances first, then clients."""
        if self.plan.namespaces:  # the first leader is one that sees the clients' processes, and so has something to write
            self.start_instance()
            self._wait_leader()
        self.keep_alive()
        self._wait_leader()
        self.open_doors()  # now that whoever made the socket has set its mode
        wait_until(lambda: self.query("SELECT count(*) FROM key WHERE state = 'live'")[0][0], 20,
                   lambda: "the shared key\n" + self.alive[0].log)
        (self.install,), = self.query("SELECT value FROM meta WHERE name = 'install'")
        self._watch()
        self.locks = Locks(self.broker.db + "-shm", self.events)
        self.locks.start()
        for number, uid in enumerate(self.uids):
            self.start_client(f"c{number}.0", uid, self.plan.lanes)
        self.start_client("probe", os.getuid(), 0, self.plan.probe_usec)
        wait_until(lambda: len(self.standbys()) >= self.plan.instances - 1, 20, "the standbys")

    def start_client(self, name, uid, lanes, probe=0):
        """Starts one process of the load."""
        self.clients.append(Client(self, name, uid, lanes, probe))

    # --- the end ---

    def quiet(self):
        """Everybody gives back what they hold, and the broker comes to rest. -> what did not."""
        problems = []
        self.locks.stop()
        for client in self.clients:
            client.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.plan.patience
        for client in self.clients:
            try:
                client.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                problems.append(f"client {client.name} has not been served for {self.plan.patience} s")
                client.process.kill()
                client.process.wait()
        deadline = time.monotonic() + min(self.plan.patience, 20)
        while self.unsettled() and time.monotonic() < deadline:
            self.keep_alive()
            time.sleep(0.1)
        problems += [f"at the end of the quiet: {text}" for text in self.unsettled()]
        self._freeze()
        return problems

    def _freeze(self):
        """Nothing moves any more: the brokers are dead, and every late request has come."""
        self.reap()
        self.events.add("freeze", instances=[one.name for one in self.alive])
        for one in self.alive:
            self.signal(one, signal.SIGKILL)
            one.process.kill()
        for one in self.alive:
            one.process.wait()
        last = max((event["at"] for event in self.events.all if event["kind"] == "upstream_over"), default=0)
        time.sleep(max(last + UPSTREAM_LATE_USEC - now_usec(), 0) / 1e6)

    def unsettled(self):
        """What the broker has still to do; shared keys and burned ones may stay, strays not."""
        try:
            rows = self.query(
                "SELECT id, profile, mode, state, hash FROM key WHERE state = 'intent' OR state IN ('live', 'retiring')"
                " AND mode = 'dedicated' AND NOT EXISTS (SELECT 1 FROM lease WHERE key_id = key.id AND state = 'active')")
        except sqlite3.Error as error:
            return [str(error)]
        late = self.query("SELECT coalesce(max(delete_at_ms), 0) FROM key WHERE state = 'retiring' AND mode = 'dedicated'")[0][0]
        if late > time.time() * 1000:  # waits for late requests, and is blocked until then
            rows = [row for row in rows if row[3] != "retiring"]
        strays = {event["hash"] for event in self.events.all if event["kind"] == "stray"}
        return [f"key {row[0]} of {row[1]} is {row[3]}" for row in rows] + [
            f"stray key {key['token'][:12]} is upstream" for key in (self.standin.keys() if strays else ()) if key["token"] in strays]

    def keep_evidence(self):
        """Copies the place, without secrets, beside the builds: logs, events, database, and what upstream was asked; -> where."""
        to = build.ROOT / f"build/chaos-{self.plan.seed}"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.broker.root, to, ignore=shutil.ignore_patterns("*.sock", "*.so", "reserve", "seal.key"))
        for name in ("keys", "calls"):
            with open(to / f"upstream-{name}", "w", encoding="utf-8") as file:
                json.dump(getattr(self.standin, name)(), file, indent=1)
        return to

    def close(self):
        """Ends all and removes the place."""
        for client in self.clients:
            client.process.kill()
        for one in self.alive:
            one.process.kill()
        for process in [client.process for client in self.clients] + [one.process for one in self.alive]:
            process.wait()
        if self._database:
            self._database.close()
        self.standin.stop()
        if self.mounted:
            subprocess.run(["umount", "-l", self.broker.path("state")], check=False)
        self.broker.abandon()
        build.remove_public_directory()
