"""The checker sees what is missing: each case is a run in which all is well, but for one thing."""

import os
import sqlite3
import time
import types

import pytest

from checker import Checker, usec_of
from harness import audit

SEAL = bytes(32)
KEY, STRAY = "a1" * 32, "b2" * 32
NOW_MS = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000
SWEPT = "sweep: deleted a key upstream that no row knew (x, {:.8})\n"


def at(ms):
    """A moment of the run as the nemesis writes it."""
    return usec_of(NOW_MS + ms)


def tag(key_hash):
    return audit.tag_of_hash(audit.subkey(SEAL, audit.TAG_SUBKEY), key_hash)


def instance(name, code, log="", gone_at=None):
    return types.SimpleNamespace(name=name, log=log, gone_at=gone_at, process=types.SimpleNamespace(returncode=code))


class Run:
    """Instance a leads from 0 ms and is killed at 10 s, b leads from then on. A rotation, a reload, a stray that was swept."""

    def __init__(self, path):
        self.path = path
        self.rows = [{"boot_ms": ms, "term": term, "instance": name, "event": event, "outcome": outcome, "key_tag": key_tag}
                     for ms, term, name, event, outcome, key_tag in (
                         (0, 1, "a", "lead", "ok", ""), (1000, 1, "a", "rotate", "asked", ""),
                         (1100, 1, "a", "rotate", "ok", tag(KEY)), (2000, 1, "a", "reload", "ok", ""),
                         (3000, 1, "a", "sweep", "ok", tag(STRAY)), (10100, 2, "b", "lead", "ok", ""))]
        self.events = [{"kind": kind, "at": at(ms), **more} for kind, ms, more in (
            ("rotate", 990, {}), ("rotate_done", 1200, {"of": at(990), "generation": 2}),
            ("reload", 1990, {}), ("reload_done", 2010, {"of": at(1990), "generation": None}),
            ("stray", 2500, {"hash": STRAY}), ("kill_leader", 10000, {"instance": "a"}))]
        self.ended = [instance("a", -9, SWEPT.format(STRAY), at(10000)), instance("b", 0, "", at(20000))]
        self.clients = []
        self.upstream = [{"token": KEY, "user_id": "keybroker:here", "key_alias": "service", "blocked": False}]

    def without(self, event, outcome="ok"):
        """As if that row had never been written: the chain is whole all the same."""
        self.rows = [row for row in self.rows if (row["event"], row["outcome"]) != (event, outcome)]

    def found(self):
        """-> {check: evidence}."""
        database = sqlite3.connect(self.path)
        database.executescript(
            f"CREATE TABLE audit ({', '.join(audit.COLUMNS)}, hash); CREATE TABLE lease (id, state, uid, request_id);"
            "CREATE TABLE key (generation, hash, mode, state, profile); CREATE TABLE meta (name, value);"
            "CREATE TABLE chaos_stale (what, id, term, leader); INSERT INTO meta VALUES ('install', 'here')")
        database.execute("INSERT INTO key VALUES (2, ?, 'shared', 'live', 'service')", (KEY,))
        whole = [{**dict.fromkeys(audit.COLUMNS, ""), **dict.fromkeys(audit.PEER, os.getpid()), "wall_ms": 1, **row,
                  "boot_ms": NOW_MS + row["boot_ms"], "sequence": number} for number, row in enumerate(self.rows, 1)]
        for row, link in zip(whole, audit.chain(SEAL, whole)):
            row["hash"] = link
            database.execute(f"INSERT INTO audit ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
        database.commit()
        database.close()
        cluster = types.SimpleNamespace(
            broker=types.SimpleNamespace(db=self.path, seal_key=SEAL), events=types.SimpleNamespace(all=self.events), clients=self.clients,
            standin=types.SimpleNamespace(keys=lambda: self.upstream), ended=self.ended, alive=[],
            plan=types.SimpleNamespace(namespaces=0))
        return Checker(cluster, []).violations()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "state.db")


def test_run_in_which_all_is_well(run):
    assert not run.found()


@pytest.mark.parametrize("event,outcome", [("rotate", "asked"), ("rotate", "ok"), ("reload", "ok")])
def test_lost_row_of_what_was_acknowledged(run, event, outcome):
    run.without(event, outcome)
    evidence, = run.found().pop("lost")
    assert event in evidence


def test_order_that_was_not_acknowledged_may_have_no_row(run):
    run.without("reload")
    run.events = [event for event in run.events if event["kind"] != "reload_done"]
    assert not run.found()


def test_row_of_another_reload_does_not_count(run):
    next(row for row in run.rows if row["event"] == "reload")["boot_ms"] = 2500
    assert list(run.found()) == ["lost"]


@pytest.mark.parametrize("log,found", [("", []), (SWEPT.format("c3" * 32), ["lost"])], ids=["killed just then", "went on"])
def test_lost_row_of_the_sweep(run, log, found):
    run.without("sweep")
    run.ended[0].log += log
    assert list(run.found()) == found


def test_key_that_only_the_sweep_knew(run):
    run.rows.insert(4, {**run.rows[4], "key_tag": tag("c3" * 32)})
    evidence, = run.found()["upstream"]
    assert "the sweep had to delete a key" in evidence


def test_leader_that_was_replaced_without_need(run):
    run.events.pop()
    run.ended[0].gone_at = None
    assert list(run.found()) == ["usurped"]


@pytest.mark.parametrize("ms,seconds,found", [(8000, 2.2, []), (9700, 2.5, []), (1000, 2.5, ["usurped"]), (10200, 1, ["usurped"])],
                         ids=["just before", "within", "long ago", "afterwards"])
def test_pause_excuses_a_takeover_shortly_after_it(run, ms, seconds, found):
    run.events[-1] = {"kind": "stop_leader", "at": at(ms), "instance": "a", "seconds": seconds}
    run.ended[0].gone_at = None
    assert list(run.found()) == found


def test_death_after_the_takeover_excuses_nothing(run):
    run.ended[0].gone_at = at(10200)
    assert list(run.found()) == ["usurped"]


@pytest.mark.parametrize("code,log,fine", [
    (75, "another broker leads now: this process ends", True), (75, "stopped", False), (0, "stopped", False),
    (1, "unshare: sigprocmask unblock failed", True), (1, "", False),
    (74, "no room on the state's file system", True), (74, "", False), (70, "another broker leads now", False)])
def test_instance_that_ends_by_itself_says_why(run, code, log, fine):
    run.ended.append(instance("c", code, log))
    assert list(run.found()) == ([] if fine else ["exits"])


@pytest.mark.parametrize("code,ms,found", [("unknown_lease", 4000, []), ("unknown_lease", 2000, ["served"]), ("internal", 4000, ["served"])],
                         ids=["after the clock was set", "before", "another error"])
def test_only_a_clock_that_was_set_ends_a_lease_that_was_just_asked_for(run, tmp_path, code, ms, found):
    run.events.insert(5, {"kind": "clock", "at": at(3000), "seconds": 3600})
    (tmp_path / "client").write_text(f"E {code} {at(ms)}\n")
    run.clients.append(types.SimpleNamespace(uid=0, name="c0", log_path=tmp_path / "client"))
    assert list(run.found()) == found
