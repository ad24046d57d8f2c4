"""Durable acquires a second at 64 connections, beside raw writes of the same bytes in the same batches.

A round is as many acquires as a uid may have leases, each connection with one under way; the releases come between the
rounds and are not timed. The control follows each round: one write and one fdatasync for each commit that the log still
shows of the round, of as many bytes, on the same file system. Both again with syncs that take longer, since this disk's
may be faster than most; and the same load without what it costs, to see where the time goes.
"""

import collections
import os
import statistics
import subprocess

from harness import build
from wal import batches

CONNECTIONS, EACH = 64, 60  # below the 4,096 leases of a uid
SLOWER_USEC = (1000, 4000)  # what syncs take longer


class Tool:
    """A C program that answers each line with a line."""

    def __init__(self, name, *args, env=None):
        self.process = subprocess.Popen([build.binary(name), *map(str, args)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})

    def ask(self, line=""):
        """One line there and one back."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"{self.process.args[0]} has failed"
        return answer

    def close(self):
        """Ends it."""
        self.process.stdin.close()
        self.process.wait(10)


def load(b, method, rounds, look=lambda mark: None):
    """Runs the rounds; -> calls a second of each. look: called after each with the audit's sequence before it."""
    tool, rates = Tool("bench_load", b.socket, CONNECTIONS, EACH, method), []
    for _ in range(rounds + 1):
        mark = b.count("SELECT max(sequence) FROM audit")
        rates.append(CONNECTIONS * EACH / float(tool.ask()))
        look(mark)
        tool.ask()
    tool.close()
    return rates[1:]  # the first one warms up


def against_raw(b, rounds, env=None):
    """-> acquires a second, the control's, their ratio (each a list by round), and the batches as (bytes, acquires)."""
    control = Tool("bench_raw", os.path.join(os.path.dirname(b.db), "raw"), env=env)
    raw, seen = [], []

    def look(mark):
        found = batches(b.db + "-wal", mark)  # none if the log has just begun anew
        seconds = float(control.ask(" ".join(str(size) for size, _ in found)))
        raw.append(sum(rows for _, rows in found) / seconds if found else None)
        seen.extend(found)
    ours = load(b, "acquire", rounds, look)
    control.close()
    pairs = [(mine, theirs) for mine, theirs in zip(ours, raw[1:]) if theirs]
    return ours, [theirs for _, theirs in pairs], [mine / theirs for mine, theirs in pairs], seen


def distribution(sizes):
    """Acquires a commit, in words."""
    common = ", ".join(f"{size}: {100 * n / len(sizes):.0f} %" for size, n in collections.Counter(sizes).most_common(4))
    return f"median {statistics.median(sizes):g}, mean {statistics.mean(sizes):.1f}; most often {common}"


def durable(figures, broker, rounds, name, env=None):
    """One disk; -> seconds that the control takes for a commit."""
    with broker("power_loss", env) as b:
        ours, raw, ratios, seen = against_raw(b, rounds, env)
    acquires = statistics.mean(rows for _, rows in seen)
    print(f"acquires a commit: {distribution([rows for _, rows in seen])}; "
          f"{statistics.mean(size for size, _ in seen) / acquires:.0f} bytes each")
    figures.add(f"{name}: durable acquires, {CONNECTIONS} connections", statistics.median(ours), "/s")
    figures.add(f"{name}: raw write + fdatasync, the same bytes and batches", statistics.median(raw), "/s")
    figures.add(f"{name}: ratio, median of {rounds} rounds", statistics.median(ratios), "")
    return acquires / statistics.median(raw), acquires


def show(figures, broker, slow_sync, rounds):
    """Prints all of it. broker(durability, env) makes one; slow_sync is the library that slows syncs."""
    sync, acquires = durable(figures, broker, rounds, "this disk")
    for usec in SLOWER_USEC:
        durable(figures, broker, max(rounds // 3, 3), f"{usec / 1000:g} ms more a sync",
                {"LD_PRELOAD": slow_sync, "KEYBROKER_SYNC_USEC": str(usec)})
    with broker("crash", None) as b:
        rows = statistics.median(load(b, "acquire", rounds))
        calls = statistics.median(load(b, "whoami", rounds))
    figures.add("the same without waiting for the disk (durability = crash)", rows, "/s")
    figures.add("calls that write nothing (whoami)", calls, "/s")
    figures.add(f"a raw commit of {acquires:.0f} acquires", sync * 1000, "ms")
    figures.add("their calls alone, answered", acquires / calls * 1000, "ms")
    figures.add("their calls and rows", acquires / rows * 1000, "ms")
    figures.add("the ratio is 0.8 where a raw commit takes", 4 * acquires / rows * 1000, "ms")
