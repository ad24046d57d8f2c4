"""Prints the figures that the broker must reach, beside their limits; fails if one is missed.

usage: run.py [--quick] [NAME...]      KEYBROKER_BUILD names the binaries (default build/release)

NAME: one_commit, latency, acquires, neighbour, heap, idle, start_up, clients; all of them by default.
"""

import contextlib
import os
import pathlib
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("KEYBROKER_BUILD", str(ROOT / "build/release"))
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("e2e", "standin", "clients")]

from client import Standin  # noqa: E402
from harness import build  # noqa: E402
from harness.broker import MANY, Broker, rule_all  # noqa: E402
from harness.wait import wait_until  # noqa: E402
import libraries  # noqa: E402
import neighbours  # noqa: E402
import throughput  # noqa: E402
from wal import commits  # noqa: E402

QUICK = "--quick" in sys.argv[1:]
NAMES = [name for name in sys.argv[1:] if not name.startswith("-")]
PIPELINED = 16  # what one connection may have in one turn
KIB, MIB = 1024, 1 << 20


class Figures:
    """Prints each figure as it comes; remembers whether one missed its limit."""

    def __init__(self):
        self.missed = []

    def add(self, name, value, unit, limit=None):
        """A figure must stay below its limit, if it has one."""
        missed = limit is not None and value >= limit
        print(f"{name:<68} {value:>10.2f} {unit:<8}" + (f" limit {limit:g}" if limit is not None else "") +
              ("  MISSED" if missed else ""), flush=True)
        if missed:
            self.missed.append(name)


@contextlib.contextmanager
def broker(litellm, durability, env=None, config=MANY + rule_all()):
    """A running broker whose shared key is there."""
    made = Broker(litellm, f"durability = {durability}\n{config}", env=env)
    try:
        made.start()
        made.wait_ready()
        yield made
    finally:
        made.abandon()


def memory(pid):
    """-> (VmRSS, Private_Dirty) in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        dirty = next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))
    return rss * KIB, dirty * KIB


def compiled(directory, name, *options):
    """Builds one of this folder's C files; -> its path."""
    out = os.path.join(directory, name)
    subprocess.run(["gcc", "-O2", "-o", out, str(HERE / f"{name}.c"), *options], check=True)
    return out


def pairs(connection, count):
    """Acquires and releases in pipelined batches."""
    for _ in range(0, count, PIPELINED):
        sent = [connection.send("acquire", bind="ttl") for _ in range(PIPELINED)]
        sent = [connection.send("release", lease=connection.result(i)["lease"]) for i in sent]
        for identity in sent:
            connection.result(identity)


def milliseconds(action, count):
    """The median time of an action in milliseconds."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def one_commit(figures, litellm):
    """A pipelined batch shares its commits, and a live key needs no upstream call."""
    with broker(litellm, "power_loss") as b, b.rpc() as connection:
        connection.call("hello")
        calls, before = sum(litellm.counts().values()), commits(b.db + "-wal")
        batches = 20
        for _ in range(batches):
            sent = b"".join(request(i) for i in range(1000, 1000 + PIPELINED))
            connection.send_raw(sent)
            for i in range(1000, 1000 + PIPELINED):
                connection.result(i)
        figures.add("commits a batch of 16 pipelined acquires", (commits(b.db + "-wal") - before) / batches, "", 2.5)
        figures.add("upstream calls of 320 acquires of a live key", sum(litellm.counts().values()) - calls, "", 1)


def request(identity):
    """The bytes of an acquire."""
    import msgpack
    return msgpack.packb([0, identity, "acquire", [{"bind": "ttl"}]])


def latency(figures, litellm):
    """What one caller waits for, over a connection and as a whole process."""
    for durability in ("power_loss", "crash"):
        with broker(litellm, durability) as b, b.rpc() as connection:
            acquire = milliseconds(lambda: connection.call("acquire", bind="ttl"), 300)
            figures.add(f"acquire on an open connection, durability = {durability}, median", acquire, "ms")
            command, env = [build.binary("keybroker"), "get"], b.cli_env()
            with open(os.devnull, "wb") as null:
                run = milliseconds(lambda: spawn(command, env, null.fileno()), 300)
            limit = 3 if durability == "crash" else None
            figures.add(f"keybroker get as a whole process, durability = {durability}, median", run, "ms", limit)


def spawn(command, env, stdout):
    """Runs a program as cheaply as the system allows."""
    pid = os.posix_spawn(command[0], command, env, file_actions=[(os.POSIX_SPAWN_DUP2, stdout, 1)])
    assert os.waitpid(pid, 0)[1] == 0, command


def acquires(figures, litellm, directory):
    """Many connections at once: what a turn's one commit is worth."""
    library = compiled(directory, "slow_sync", "-D_GNU_SOURCE", "-shared", "-fPIC")
    throughput.show(figures, lambda durability, env: broker(litellm, durability, env), library, 5 if QUICK else 21)


def neighbour(figures, litellm):
    """One uid's greed is not another's wait; then how it would be without a limit to the requests of a second."""
    def make(config):
        return broker(litellm, "power_loss", config=config)
    neighbours.show(figures, make, QUICK)
    print("the same without a limit to requests_per_second:")
    neighbours.show(figures, make, True, "requests_per_second = 10000000")


def heap(figures, litellm, directory):
    """Nothing is kept of a lease that has ended."""
    library, out = compiled(directory, "mallinfo", "-shared", "-fPIC"), os.path.join(directory, "used")
    with broker(litellm, "crash", {"LD_PRELOAD": library, "KEYBROKER_MALLINFO": out}) as b, b.rpc() as connection:
        def used():
            size = os.path.getsize(out) if os.path.exists(out) else 0
            os.kill(b.pid, signal.SIGUSR2)
            wait_until(lambda: os.path.exists(out) and os.path.getsize(out) > size)
            with open(out, "rb") as file:
                return struct.unpack("N", file.read()[-8:])[0]

        def after(count):
            pairs(connection, count)
            return used()
        # SQLite drops its cache now and then, when the log begins anew: the most that it has counts
        before, count = max(after(1000) for _ in range(8)), 10000 if QUICK else 100000
        start = time.perf_counter()
        pairs(connection, count)
        seconds = time.perf_counter() - start
        figures.add(f"heap growth over {count} acquire + release pairs", (used() - before) / KIB, "KiB", 64)
        figures.add("pairs a second, one connection, 16 pipelined", count / seconds, "/s")


def idle(figures, litellm, directory):
    """What the daemon weighs, beside a process that only starts libcurl."""
    control = subprocess.Popen([compiled(directory, "curl_only", "-lcurl")], stdout=subprocess.PIPE)
    control.stdout.readline()
    rss, dirty = memory(control.pid)
    control.kill()
    control.wait()
    figures.add("control (libcurl started, nothing else): VmRSS", rss / MIB, "MiB")
    figures.add("control: Private_Dirty", dirty / MIB, "MiB")
    with broker(litellm, "power_loss") as b:
        b.call("whoami")
        rss, dirty = memory(b.pid)
    figures.add("idle daemon: VmRSS", rss / MIB, "MiB", 14)
    figures.add("idle daemon: Private_Dirty", dirty / MIB, "MiB", 3)


def fill_audit(path, rows):
    """Puts rows into a stopped broker's audit: past the triggers, since no leader is there to write them."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'")
    triggers = triggers.fetchall()
    connection.execute("BEGIN")
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    columns = [column[1] for column in connection.execute("PRAGMA table_info(audit)") if column[1] != "sequence"]
    connection.execute(
        f"""WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO audit (sequence, {', '.join(columns)})
            SELECT last + i, {', '.join(columns)} FROM n, (SELECT max(sequence) AS last FROM audit) JOIN audit
            ON sequence = last""", (rows,))
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()


def seconds_to_ready(b):
    """From the start of the process to the line that says that it serves."""
    start = time.perf_counter()
    b.process = subprocess.Popen(b.command(), env=b.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, cwd=b.root)
    for line in b.process.stdout:
        if b"READY" in line:
            break
    seconds = time.perf_counter() - start
    b.process.stdout.close()
    b.kill()
    return seconds


def start_up(figures, litellm):
    """A long history does not slow the start."""
    rows = 10**5 if QUICK else 10**6
    with broker(litellm, "power_loss") as b:
        b.acquire()
        b.stop()
        fill_audit(b.db, rows)
        times = [seconds_to_ready(b) for _ in range(11)]
    figures.add(f"start to ready with {rows} audit rows, median of 11", statistics.median(times) * 1000, "ms", 25)


def clients(figures, litellm):
    """Each library beside the bare socket in its own language. The less the broker does itself, the more it shows."""
    with broker(litellm, "crash") as b:
        libraries.show(figures, b, 2 if QUICK else 10)


def main():
    """All of them."""
    figures = Figures()
    if os.getloadavg()[0] > 1:
        print(f"the machine is busy (load {os.getloadavg()[0]:.1f}): times are longer than they need be")
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as directory:
        for measure in (one_commit, latency, acquires, neighbour, heap, idle, start_up, clients):
            if NAMES and measure.__name__ not in NAMES:
                continue
            with Standin() as litellm:
                measure(figures, litellm, *([directory] if measure in (acquires, heap, idle) else []))
    print("missed: " + ", ".join(figures.missed) if figures.missed else "all limits are met")
    return 1 if figures.missed else 0


if __name__ == "__main__":
    sys.exit(main())
