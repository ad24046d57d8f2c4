"""What one uid's calls take while another one is greedy, beside what they take while it is idle.

The other uid has 1,000 connections. Slow: a quarter is silent, a quarter has sent half a request, a quarter sends one byte by
byte, a quarter asks and never takes the replies. Greedy: each makes one acquire after the other, as fast as it is answered.
Idle, slow and greedy take turns, so that whatever else the machine does meets all three. Needs root, for two uids.
"""

import contextlib
import gc
import os
import statistics
import subprocess
import sys
import threading
import time

import msgpack

from harness import build
from harness.rpc import Connection
from harness.users import as_user

OTHER = 54322  # no such user anywhere
CROWD = 1000
CONFIG = f"""
limits {{ leases = 1000000 MORE }}
rule "other" {{ uid = {OTHER} profiles = {{ "*" }} }}
rule "greedy" {{ uid = 0 profiles = {{ "*" }} }}
"""


def request(identity, method, **params):
    """The bytes of a request."""
    return msgpack.packb([0, identity, method, [params]])


def calls(path, count, pause=0.002):
    """Acquires on one connection, each released before the next -> their times in milliseconds."""
    times = []
    gc.disable()
    with Connection(path) as connection:
        for _ in range(count):
            time.sleep(pause)
            start = time.perf_counter()
            lease = connection.call("acquire", bind="ttl")["lease"]
            times.append((time.perf_counter() - start) * 1000)
            connection.call("release", lease=lease)
    return times


@contextlib.contextmanager
def nobody(_path):
    """No crowd."""
    yield


@contextlib.contextmanager
def slow(path):
    """A crowd that makes the broker hold things, and wakes it for little."""
    whole, half = request(1, "whoami", pad="x" * 4000), request(1, "whoami", pad="x" * 2000)[:1000]
    crowd, done = [Connection(path) for _ in range(CROWD)], threading.Event()
    for number, connection in enumerate(crowd):
        with contextlib.suppress(OSError):
            if number % 4 == 1:
                connection.send_raw(half)
            if number % 4 == 3:
                connection.socket.setblocking(False)
                connection.socket.send(request(1, "list") * 400)

    def trickle():
        sent = 0
        while not done.wait(0.02):
            for connection in crowd[2::4]:
                with contextlib.suppress(OSError):
                    connection.send_raw(whole[sent % len(whole):][:1])
            sent += 1
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for connection in crowd:
            connection.close()


@contextlib.contextmanager
def greedy(path):
    """A crowd that asks as fast as it can."""
    command = [build.binary("bench_load"), path, str(CROWD), "1000", "acquire"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as load:
        load.stdin.write(b"\n")
        load.stdin.flush()
        time.sleep(2)  # what a uid may do at once is over
        try:
            yield
        finally:
            load.kill()


def p99(times):
    """The 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


def show(figures, make_broker, quick, more=""):
    """make_broker(config): a context manager. The limits of the figures hold with the default rate alone."""
    if os.geteuid() != 0:
        print("neighbours: left out, since it needs root to act as two uids", file=sys.stderr)
        return
    rounds, count = (2, 500) if quick else (7, 1000)
    crowds = {"idle": nobody, "slow": slow, "greedy": greedy}
    seen = {name: [] for name in crowds}
    with make_broker(CONFIG.replace("MORE", more)) as b:
        os.chmod(os.path.dirname(b.socket), 0o755)
        os.chmod(b.socket, 0o666)
        for _ in range(rounds):
            for name, crowd in crowds.items():
                with crowd(b.socket):
                    seen[name].append(as_user(OTHER, lambda: calls(b.socket, count)))
    medians = {name: statistics.median(p99(times) for times in runs) for name, runs in seen.items()}
    for name, runs in seen.items():
        figures.add(f"another uid's acquire, this one {name}, median", statistics.median(sum(runs, [])), "ms")
        figures.add(f"another uid's acquire, this one {name}, p99 (median of {rounds})", medians[name], "ms")
    for name in ("slow", "greedy"):
        figures.add(f"p99 with {CROWD} {name} connections of this uid, over the idle one", medians[name] / medians["idle"], "",
                    None if more else 2)
