"""Judges a run by what the clients were told, what the database holds and what upstream has. Knows nothing of the broker's code.

Each check yields what is violated, with its evidence; NAMES says what must hold.
"""

import bisect
import collections
import os
import re
import sqlite3
import time

from harness import audit

NAMES = {
    "database": "SQLite's own integrity check",
    "chain": "the audit has no gap and its chain verifies",
    "checkpoint": "whoever checkpoints keeps the writers out",
    "lost": "what was acknowledged, and what the sweep deleted, is in the state and in the audit",
    "fence": "no row of a term after the next one began",
    "upstream": "store and upstream agree on every key, and nobody else's is touched",
    "refused": "no connection is refused while an instance lives",
    "repeat": "one request_id has one lease",
    "shared": "a generation of a shared profile has one key",
    "predecessor": "a leader that was replaced is dead",
    "clock": "a lease lasts as long as was said, whatever the clock says",
    "served": "every request is answered in the end, and none with an error",
    "exits": "no instance ends by itself but fenced",
    "usurped": "no leader that works is replaced",
    "quiet": "afterwards the broker comes to rest",
}
REFUSALS = {2: "ENOENT", 11: "EAGAIN", 13: "EACCES", 111: "ECONNREFUSED"}
SHOWN = 5
CLOCK_USEC = 5_000_000  # a clock that was set is seen within a second, and what it ended is asked for again at once
PREEMPTED_MS = 100  # between two looks of one process at its clock
PAUSES = ("stop_leader", "stop_leader_shortly", "stop_standby")
PAUSED_USEC = 5_000_000  # after a pause the successor has begun its term, also with the disk full meanwhile
# why an instance may end by itself: its exit code, and what its log must say
REASONS = {1: "unshare: sigprocmask unblock failed",  # of a prefix, whose daemon was killed
           74: "the state's file system", 75: "another broker leads now|another process holds the state's lock"}
SWEPT = re.compile(r"sweep: deleted a key upstream that no row knew \((.*), ([0-9a-f]{8})\)")


def usec_of(boot_ms):
    """CLOCK_BOOTTIME of the audit as CLOCK_MONOTONIC of the events; they differ by the time asleep."""
    return boot_ms * 1000 - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1000


class Said:
    """What the clients wrote down."""

    def __init__(self, clients):
        self.acquired, self.released, self.left = {}, {}, set()
        self.twice, self.errors, self.hung, self.refused = [], [], [], []
        self.served, self.probes, self.repeated = [], [], collections.Counter()
        self.acknowledged = 0
        for client in clients:
            self.uid, self.name = client.uid, client.name
            with open(client.log_path, encoding="ascii") as file:
                for line in file:
                    if line.endswith("\n"):  # a killed client may leave half a line: nobody was told of that
                        getattr(self, "_" + line[0])(line.split())

    def _S(self, words):
        pass

    _L = _S
    _Z = _S

    def _W(self, words):
        self.acknowledged += 1

    def _A(self, words):
        _, request, lease, key, generation, ttl, at = words
        self.acknowledged += 1
        if lease in self.acquired:
            self.twice.append(f"lease {lease} was given to {request} and to {self.acquired[lease][1]}")
        self.acquired[lease] = (self.uid, request, key, int(generation), int(ttl), int(at))

    def _R(self, words):
        self.acknowledged += 1
        self.released[words[1]] = int(words[2])

    def _U(self, words):
        self.repeated[words[1]] += 1

    def _N(self, words):
        self.left.add(words[1])

    def _E(self, words):
        self.errors.append((words[1], int(words[2]), self.name))

    def _T(self, words):
        self.hung.append(f"client {self.name} waited 30 s for a reply")

    def _X(self, words):
        self.refused.append((int(words[2]), int(words[1]), self.name))

    def _F(self, words):
        self.served.append((int(words[2]), int(words[1]), int(words[3])))

    def _P(self, words):
        self._F(words)
        self.probes.append((int(words[2]), int(words[2]) - int(words[1])))


class Checker:
    """violations(): {name: [evidence]}, empty where all is well."""

    def __init__(self, cluster, problems):
        self.cluster, self.problems = cluster, problems
        self.events = cluster.events.all
        self.said = Said(cluster.clients)
        self.said.served.sort()
        self.upstream = {key["token"]: key for key in cluster.standin.keys()}
        database = sqlite3.connect(f"file:{cluster.broker.db}?mode=ro", uri=True, timeout=10)
        database.row_factory = sqlite3.Row
        self.database = database
        # of the audit, for several checks
        self.taken, self.over, self.leads, self.disorder, self.sequence = {}, {}, {}, [], 0
        self.led, self.began, self.deeds = set(), {}, collections.defaultdict(list)
        self.recorded = collections.Counter()

    def violations(self):
        """Runs all checks."""
        found = {}
        for name in NAMES:
            try:
                found[name] = list(getattr(self, "_" + name)())
            except sqlite3.DatabaseError as error:
                found[name] = [f"the database cannot be read: {error}"]
        self.database.close()
        return {name: evidence for name, evidence in found.items() if evidence}

    def _rows(self, sql):
        return self.database.execute(sql)

    # --- the database ---

    def _database(self):
        for answer, in self._rows("PRAGMA integrity_check(5)"):
            if answer != "ok":
                yield answer

    def _chain(self):
        """Reads the audit once; the other checks use what is kept of it here."""
        key, before = audit.subkey(self.cluster.broker.seal_key, audit.AUDIT_SUBKEY), bytes(32)
        expected, term = 0, 0
        for row in self._rows("SELECT * FROM audit ORDER BY sequence"):
            expected += 1
            if row["sequence"] != expected:
                yield f"sequence {row['sequence']} comes where {expected} must"
                expected = row["sequence"]
            before = audit.link(key, before, audit.encode(dict(row)))
            if bytes(row["hash"]) != before:
                yield f"the hash of sequence {row['sequence']} is not what the rows up to it make"
                before = bytes(row["hash"])
            term = self._note_term(row, term)
            self.recorded[row["event"]] += 1
            if row["lease"]:
                self._note_lease(row)
            if row["event"] in ("rotate", "reload", "sweep"):
                self.deeds[row["event"], row["outcome"]].append(dict(row))
        self.sequence = expected

    def _note_term(self, row, term):
        """Each term has one instance and one 'lead'; what it finds to be over may stand before that."""
        where = f"sequence {row['sequence']}, {row['event']} of term {row['term']}"
        if row["term"] < term:
            self.disorder.append(f"{where} stands after term {term} began")
        elif row["event"] == "lead" and row["term"] in self.led:
            self.disorder.append(f"{where}: a second leader of that term")
        elif row["instance"] != self.leads.setdefault(row["term"], row["instance"]):
            self.disorder.append(f"{where} is of instance {row['instance']}, and {self.leads[row['term']]} leads")
        self.began.setdefault(row["term"], usec_of(row["boot_ms"]))
        if row["event"] == "lead":
            self.led.add(row["term"])
        return max(term, row["term"])

    def _note_lease(self, row):
        if row["event"] == "acquire" and row["outcome"] == "ok":
            self.taken.setdefault(row["lease"], []).append((row["sequence"], row["term"], row["boot_ms"], row["key_tag"]))
        elif row["event"] in ("release", "expire", "revoke") and row["outcome"] == "ok":
            self.over.setdefault(row["lease"], (row["sequence"], row["term"], row["boot_ms"], row["event"]))

    def _checkpoint(self):
        for event in self.events:
            if event["kind"] == "unguarded_checkpoint":
                yield f"process {event['pid']} holds SQLite's checkpoint lock without the write lock, at {event['at']}"

    def _tag(self, key_hash):
        return audit.tag_of_hash(audit.subkey(self.cluster.broker.seal_key, audit.TAG_SUBKEY), key_hash)

    def _lost(self):
        yield from self._lost_leases()
        yield from self._lost_orders()
        yield from self._lost_sweeps()

    def _lost_leases(self):
        states = {row["id"]: row["state"] for row in self._rows("SELECT id, state FROM lease")}
        tags = {}
        for lease, (_, request, key, _, ttl, at) in self.said.acquired.items():
            tag = tags.get(key) or tags.setdefault(key, self._tag(key))
            what = f"acquire {request}, acknowledged at {at}: lease {lease}"
            if lease not in states:
                yield f"{what} has no row"
            if not any(row[3] == tag for row in self.taken.get(lease, ())):
                yield f"{what} has no audit row with that key"
        for lease, at in self.said.released.items():
            if states.get(lease) == "active":
                yield f"lease {lease}, whose release was acknowledged at {at}, is active"
            if lease not in self.over:
                yield f"lease {lease}, whose release was acknowledged at {at}, has no audit row of its end"

    def _has_order(self, method, outcome, event):
        """Ours, not a signal's; a pid namespace does not see our pid. Times of rows are whole milliseconds."""
        return any(row["pid"] in (0, os.getpid()) and event["of"] - 2000 <= usec_of(row["boot_ms"]) <= event["at"] + 2000
                   for row in self.deeds[method, outcome])

    def _lost_orders(self):
        made = {row["generation"]: self._tag(row["hash"])
                for row in self._rows("SELECT generation, hash FROM key WHERE mode = 'shared' AND hash <> ''")}
        rotated = {row["key_tag"] for row in self.deeds["rotate", "ok"]}
        for event in self.events:
            what = f"the {event['kind'].removesuffix('_done')} that was acknowledged at {event['at']}"
            if event["kind"] == "reload_done" and not self._has_order("reload", "ok", event):
                yield f"{what} has no row"
            if event["kind"] == "rotate_done" and not self._has_order("rotate", "asked", event):
                yield f"{what} has no row of who asked"
            if event["kind"] == "rotate_done" and made.get(event["generation"]) not in rotated:
                yield f"{what}, generation {event['generation']}, has no row of its end"

    def _strays(self):
        return {event["hash"] for event in self.events if event["kind"] == "stray"}

    def _lost_sweeps(self):
        """What an instance says that it deleted. It deletes one after the other, so its death may cost it the row of the last."""
        strays = {key_hash[:8]: self._tag(key_hash) for key_hash in self._strays()}
        recorded = {row["key_tag"] for row in self.deeds["sweep", "ok"]}
        for one in [*self.cluster.ended, *self.cluster.alive]:
            said = [name for _, name in SWEPT.findall(one.log)]
            for name in said[:-1] if one.process.returncode != 0 else said:
                if name in strays and strays[name] not in recorded:
                    yield f"instance {one.name} deleted stray key {name} upstream, and that has no row"

    def _fence(self):
        yield from self.disorder
        for what, key, term, leader in self._rows("SELECT * FROM chaos_stale"):
            yield f"{what} {key} was written by term {term} while {leader} led"

    # --- upstream ---

    def _upstream(self):
        rows = {row["hash"]: row for row in self._rows("SELECT * FROM key WHERE hash <> ''")}
        user_id = "keybroker:" + self._rows("SELECT value FROM meta WHERE name = 'install'").fetchone()[0]
        strays = self._strays()
        for token, key in self.upstream.items():
            if key["user_id"] == user_id and token not in strays:
                yield from self._judge_key(token[:12], key, rows.get(token))
        for token, row in rows.items():
            if row["state"] == "live" and token not in self.upstream:
                yield f"key {token[:12]} of {row['profile']} is live in the store, and upstream has none"
        yield from self._judge_sweeps()
        namesakes = sum(event["kind"] == "namesake" for event in self.events)
        there = sum("anotherhost" in (key["user_id"] or "") for key in self.upstream.values())
        if there != namesakes:
            yield f"{namesakes - there} of {namesakes} keys of another host's are gone"

    def _judge_sweeps(self):
        """A key that the sweep found, and that is no stray of the nemesis's, is one that the store did not know."""
        strays = {self._tag(key_hash) for key_hash in self._strays()}
        for row in self.deeds["sweep", "ok"]:
            if row["key_tag"] not in strays:
                yield f"the sweep had to delete a key, sequence {row['sequence']}: {row['detail']}"

    @staticmethod
    def _judge_key(name, key, row):
        where = f"key {name} ({key['key_alias']}{', blocked' if key['blocked'] else ''}) is upstream"
        if row is None:
            yield f"{where}, and no row knows it"
        elif row["state"] == "deleted":
            yield f"{where}, and its row of {row['profile']} says deleted"
        elif row["state"] == "burned" and not key["blocked"]:
            yield f"{where} and works, and its row says burned"

    # --- clients ---

    def _nobody(self):
        """When no instance lived: [(from, to)]."""
        begun = {event["at"]: event["at"] for event in self.events if event["kind"] == "kill_all"}
        return [(event["of"], event["at"]) for event in self.events if event["kind"] == "kill_all_over" and event["of"] in begun]

    def refusals(self):
        """Connections that were refused while somebody lived."""
        nobody = self._nobody()
        return [(at, number, name) for at, number, name in self.said.refused
                if not any(begin <= at <= end for begin, end in nobody)]

    def _refused(self):
        refusals = self.refusals()
        if len(refusals) > SHOWN:
            yield f"{len(refusals)} in all"
        for at, number, name in refusals[:SHOWN]:
            last = [event["kind"] for event in self.events if event["at"] <= at][-3:]
            yield f"client {name} at {at}: {REFUSALS.get(number, number)} (before it: {', '.join(last)})"

    def _repeat(self):
        yield from self.said.twice
        by_request = collections.defaultdict(list)
        for row in self._rows("SELECT uid, request_id, id FROM lease WHERE request_id <> ''"):
            by_request[row["uid"], row["request_id"]].append(row["id"])
        for (uid, request), leases in by_request.items():
            if len(leases) < 2:
                continue
            leases.sort(key=lambda lease: self.taken.get(lease, [(0,)])[0][0])
            for first, second in zip(leases, leases[1:]):
                end = self.over.get(first)
                if not end or end[0] > self.taken.get(second, [(0,)])[0][0]:
                    yield f"request {request} of uid {uid} has lease {second} while {first} is active"

    def _shared(self):
        keys = collections.defaultdict(set)
        for _, request, key, generation, _, _ in self.said.acquired.values():
            if generation > 0:
                keys[generation].add(key)
        for row in self._rows("SELECT generation, hash FROM key WHERE mode = 'shared' AND generation > 0"):
            keys[row["generation"]].add(row["hash"])
        for generation, hashes in keys.items():
            if len(hashes) > 1:
                yield f"generation {generation} has {len(hashes)} keys: {', '.join(sorted(key[:12] for key in hashes))}"
        alive = [row["generation"] for row in self._rows("SELECT generation FROM key WHERE mode = 'shared' AND state = 'live'")]
        if len(alive) != 1:
            yield f"{len(alive)} generations are live after the run: {alive}"

    def _predecessor(self):
        for event in self.events:
            if event["kind"] == "predecessor_lives" and not event["foreign"]:
                yield (f"instance {event['instance']}, leader of term {event['term']}, still exists 300 ms after term "
                       f"{event['successor']} was seen")

    def _clock(self):
        """Boot time alone counts, from one term to the next too. Late may be who was kept from writing, or a new leader."""
        disturbed = [(event["at"], event["at"] + int(event["seconds"] * 1e6) + 2_000_000) for event in self.events
                     if event["kind"] in ("disk_full", "stop_leader", "stop_leader_shortly")]
        for lease, (_, request, _, _, ttl, at) in self.said.acquired.items():
            begin, end = self.taken.get(lease), self.over.get(lease)
            if not ttl or not begin or not end or end[3] != "expire":
                continue
            lasted, one_term = end[2] - begin[0][2], begin[0][1] == end[1]
            if lasted < ttl - PREEMPTED_MS:
                yield f"lease {lease} of {ttl} ms of term {begin[0][1]} ended after {lasted} ms, in term {end[1]}"
            elif one_term and lasted > ttl + 2000 and not any(b < at + lasted * 1000 and at + ttl * 1000 < e for b, e in disturbed):
                yield f"lease {lease} of {ttl} ms ended only after {lasted} ms, within term {end[1]}"
        quiet = next((event["at"] for event in self.events if event["kind"] == "freeze"), 0)
        for lease in self.said.left - set(self.over):
            _, _, _, _, ttl, at = self.said.acquired[lease]
            if at + ttl * 1000 + 10_000_000 < quiet:
                yield f"lease {lease} of {ttl} ms has not ended {(quiet - at) // 1000} ms after it was given"

    def _served(self):
        # an instance in a pid namespace of its own sees no client's process, and says so
        allowed = "denied" if self.cluster.plan.namespaces else ""
        # the first reply of a lease may be lost with its leader, and the lease be over for the next, if the clock was set
        was_set = [event["at"] for event in self.events if event["kind"] == "clock"]
        for code, at, name in self.said.errors:
            excused = code == "unknown_lease" and any(at - CLOCK_USEC <= begin <= at for begin in was_set)
            if code != allowed and not excused:
                yield f"client {name} got {code} at {at}"
        yield from self.said.hung

    # --- instances ---

    def _exits(self):
        for one in self.cluster.ended:
            code = one.process.returncode
            told = code == 0 and one.gone_at
            told_too_early = code == -15 and "STANDBY" not in one.log and "READY" not in one.log
            said_why = code in REASONS and re.search(REASONS[code], one.log)
            if code not in (-9, 137) and not told and not told_too_early and not said_why:
                tail = " | ".join(one.log.strip().splitlines()[-3:])
                yield f"instance {one.name} ended with {code}: {tail}"

    def _usurped(self):
        """A leader is replaced if it was killed or told to stop before, or was stopped just then, and then only."""
        gone = {one.name: one.gone_at for one in [*self.cluster.ended, *self.cluster.alive] if one.gone_at}
        pauses = collections.defaultdict(list)
        for event in self.events:
            if event["kind"] in PAUSES:
                pauses[event["instance"]].append((event["at"], event["at"] + int(event["seconds"] * 1e6) + PAUSED_USEC))
        terms = sorted(self.leads)
        for term, successor in zip(terms, terms[1:]):
            name, at = self.leads[term], self.began[successor]
            if gone.get(name, at + 1) <= at or any(begin <= at <= end for begin, end in pauses[name]):
                continue
            yield f"instance {name}, leader of term {term}, was replaced though nothing had befallen it"

    def _quiet(self):
        yield from self.problems


# --- figures ---

def percentile(values, share):
    """Of sorted values; None if there are none."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else None


def failovers(checker, kind, longest=None):
    """Milliseconds from each event of that kind to the first reply of a later term; quiet ones only (no fault beside)."""
    replies = checker.said.served
    times = [at for at, _, _ in replies]
    found = []
    for event in checker.events:
        if event["kind"] != kind or "disk_full" in event["beside"] or (longest and event["seconds"] < longest):
            continue
        after = bisect.bisect_right(times, event["at"])
        reply = next((at for at, _, term in replies[after:after + 20000] if term > event["term"]), None)
        if reply is not None:
            found.append((reply - event["at"]) / 1000)
    return sorted(found)


def listed(counter):
    """kind number, kind number"""
    return ", ".join(f"{kind} {n}" for kind, n in sorted(counter.items())) or "nothing"


def report(checker, found):
    """Lines for people."""
    said, kinds = checker.said, collections.Counter(event["kind"] for event in checker.events)
    for kind in ("start", "end", "quiet", "freeze", "kill_all_over", "upstream_over", "disk_full_over", "no_standby",
                 "predecessor_lives", "unguarded_checkpoint", "rotate_done", "reload_done"):
        kinds.pop(kind, None)
    yield f"acknowledged requests   {said.acknowledged} ({len(said.acquired)} acquires, {len(said.released)} releases)"
    yield f"nemesis events          {sum(kinds.values())}: {listed(kinds)}"
    yield f"terms                   {len(checker.leads)}"
    yield f"audit rows              {checker.sequence}: {listed(checker.recorded)}"
    yield f"checkpoints under way   {checker.cluster.locks.seen} looks saw one"
    yield f"asked again because of  {listed(said.repeated)}"
    for kind in ("kill_leader", "stop_leader", "term_leader"):
        times = failovers(checker, kind)
        if times:
            yield (f"{kind:<12} to served  p50 {percentile(times, 0.5):.1f} ms, p99 {percentile(times, 0.99):.1f} ms, "
                   f"longest {times[-1]:.1f} ms, over {len(times)}")
    probes = sorted(latency for _, latency in said.probes)
    if probes:
        yield (f"probes                  {len(probes)}: p50 {percentile(probes, 0.5) / 1000:.1f} ms, "
               f"p99 {percentile(probes, 0.99) / 1000:.1f} ms, longest {probes[-1] / 1000:.0f} ms")
    yield f"refused connections     {len(checker.refusals())} over {max(len(checker.leads) - 1, 0)} changes of the leader"
    for name, evidence in found.items():
        yield f"VIOLATED {name}: {NAMES[name]} ({len(evidence)})"
        for text in evidence[:SHOWN]:
            yield "    " + re.sub(r"\s+", " ", text)
