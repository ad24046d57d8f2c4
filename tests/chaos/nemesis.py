"""What befalls the instances, their clients, upstream, the disk and the clock. One event after the other, at random;
faults of upstream, clock and disk go on beside those that follow."""

import contextlib
import random
import shutil
import signal
import subprocess
import threading
import time

from cluster import MIB, now_usec
from harness.broker import key_hash
from harness.rpc import Closed, RpcError

WEIGHTS = {"kill_leader": 34, "kill_standby": 6, "kill_all": 1, "stop_leader": 10, "stop_leader_shortly": 8, "stop_standby": 6,
           "term_leader": 8, "term_standby": 3, "one_more": 4, "hup": 4, "rotate": 3, "upstream": 9, "clock": 4, "disk_full": 2,
           "kill_client": 3, "namesake": 2, "reload": 2, "stray": 2}
# Rules of the stand-in; none holds a request for longer than burn_delete_ms in cluster.py.
UPSTREAM = ({"status": 503}, {"status": 500, "when": "after"}, {"hang": True}, {"drop_after": 0}, {"drop_after": 40},
            {"delay_ms": 400}, {"path": "/key/generate", "delay_ms": 2500}, {"path": "/key/generate", "delay_ms": 5000},
            {"path": "/key/info", "status": 500}, {"path": "/key/delete", "status": 500, "when": "after"})
STOPPED_LONG_USEC = 700000  # longer than the broker's patience


class Nemesis:
    """Runs events until its time is over."""

    def __init__(self, cluster):
        plan = cluster.plan
        self.cluster, self.events, self.random = cluster, cluster.events, random.Random(plan.seed)
        weights = {**WEIGHTS, **plan.weights} if "only" not in plan.weights else plan.weights
        self.weights = {kind: weight for kind, weight in weights.items() if kind != "only" and weight}
        for kind, possible in (("clock", cluster.can_shift), ("disk_full", cluster.mounted)):
            if not possible:
                self.weights.pop(kind, None)
        self._timers, self.beside, self._clients = [], {}, 0

    def run(self, seconds, say):
        """Does its worst."""
        end = time.monotonic() + seconds
        told = time.monotonic()
        while time.monotonic() < end:
            time.sleep(self.random.expovariate(1 / self.cluster.plan.gap))
            kind, = self.random.choices(list(self.weights), self.weights.values())
            getattr(self, "_" + kind)()
            self.cluster.keep_alive()
            if time.monotonic() - told >= 60:
                told = time.monotonic()
                say()
        self.stop()

    def stop(self):
        """Everything as it should be."""
        for timer in self._timers:
            timer.join()
        self.cluster.standin.clear()
        for one in self.cluster.alive:
            self.cluster.signal(one, signal.SIGCONT)
            one.stopped = False
        if self.cluster.can_shift:
            self.cluster.set_clock(0)
        self.cluster.keep_alive()
        self.events.add("quiet")

    def _beside(self, kind, seconds, end, **more):
        """A fault that ends by itself."""
        if kind in self.beside:
            return
        event = self.events.add(kind, seconds=round(seconds, 3), **more)
        self.beside[kind] = event

        def over():
            end()
            self.beside.pop(kind, None)
            self.events.add(kind + "_over", of=event["at"])
        timer = threading.Timer(seconds, over)
        timer.start()
        self._timers = [one for one in self._timers if one.is_alive()] + [timer]

    def _wait_standby(self):
        """-> the leader and its term, once there is a standby too; None if that does not come."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            self.cluster.keep_alive()
            term, leader = self.cluster.leader()
            if leader and not leader.stopped and self.cluster.standbys():
                return term, leader
            time.sleep(0.01)
        return None

    # --- the leader ---

    def _at_leader(self, kind, signals, **more):
        found = self._wait_standby()
        if not found:
            self.events.add("no_standby", wanted=kind, beside=list(self.beside))
            return None
        term, leader = found
        event = self.events.add(kind, term=term, instance=leader.name, beside=list(self.beside), **more)
        self.cluster.signal(leader, signals)
        return event, leader

    def _kill_leader(self):
        self._at_leader("kill_leader", signal.SIGKILL)

    def _term_leader(self):
        self._at_leader("term_leader", signal.SIGTERM)

    def _stop(self, one, seconds, event):
        """SIGSTOP was sent: SIGCONT follows, unless the successor has killed it by then."""
        one.stopped = True
        time.sleep(seconds)
        term, leader = self.cluster.leader()
        if event["kind"] == "stop_leader" and leader is not one and term > event["term"] and one.running:
            time.sleep(0.3)
            if one.running:
                self.events.add("predecessor_lives", instance=one.name, term=event["term"], successor=term,
                                foreign=bool(self.cluster.plan.namespaces))
        self.cluster.signal(one, signal.SIGCONT)
        one.stopped = False

    def _stop_leader(self):
        seconds = self.random.uniform(STOPPED_LONG_USEC / 1e6, 2.5)
        if self.cluster.plan.namespaces:
            seconds += 3
        done = self._at_leader("stop_leader", signal.SIGSTOP, seconds=seconds)
        if done:
            self._stop(done[1], seconds, done[0])

    def _stop_leader_shortly(self):
        seconds = self.random.uniform(0.005, 0.2)
        done = self._at_leader("stop_leader_shortly", signal.SIGSTOP, seconds=seconds)
        if done:
            self._stop(done[1], seconds, done[0])

    # --- the others ---

    def _at_standby(self, kind, number, **more):
        standbys = self.cluster.standbys()
        if len(standbys) + 1 < self.cluster.plan.instances:
            return None
        one = self.random.choice(standbys)
        event = self.events.add(kind, instance=one.name, **more)
        self.cluster.signal(one, number)
        return event, one

    def _kill_standby(self):
        self._at_standby("kill_standby", signal.SIGKILL)

    def _term_standby(self):
        self._at_standby("term_standby", signal.SIGTERM)

    def _stop_standby(self):
        seconds = self.random.uniform(0.01, 1)
        done = self._at_standby("stop_standby", signal.SIGSTOP, seconds=seconds)
        if done:
            self._stop(done[1], seconds, done[0])

    def _one_more(self):
        """An upgrade: start the new one, stop an old one, whichever it is."""
        if len(self.cluster.alive) > self.cluster.plan.instances + 2:
            return
        self.events.add("one_more")
        new = self.cluster.start_instance()
        deadline = time.monotonic() + 5
        while new.running and "STANDBY" not in new.log and time.monotonic() < deadline:
            time.sleep(0.02)
        old = [one for one in self.cluster.alive if one is not new and not one.stopped]
        if new.running and len(old) >= self.cluster.plan.instances:
            self.cluster.signal(self.random.choice(old), signal.SIGTERM)

    def _kill_all(self):
        """The only time when nobody lives: connections may be refused until somebody does."""
        event = self.events.add("kill_all", instances=[one.name for one in self.cluster.alive])
        for one in self.cluster.alive:
            self.cluster.signal(one, signal.SIGKILL)
        for one in self.cluster.alive:
            one.process.wait(10)
        self.cluster.keep_alive()
        deadline = time.monotonic() + 20
        while not any("READY" in one.log for one in self.cluster.alive) and time.monotonic() < deadline:
            self.cluster.keep_alive()
            time.sleep(0.01)
        self.cluster.open_doors()  # the file is new
        self.events.add("kill_all_over", of=event["at"])

    def _hup(self):
        """To one that has said that it is ready: before that a signal may end it."""
        leader = self.cluster.leader()[1]
        ready = [one for one in (leader, *self.cluster.standbys()) if one and not one.prefix]
        if ready:
            one = self.random.choice(ready)
            self.events.add("hup", instance=one.name)
            self.cluster.signal(one, signal.SIGHUP)

    # --- what they stand on ---

    def _order(self, method, **params):
        """An administrator's: what was acknowledged is an event of its own."""
        event = self.events.add(method)
        with contextlib.suppress(OSError, RpcError, Closed, TimeoutError):
            with self.cluster.broker.rpc(admin=True) as connection:
                done = connection.result(connection.send(method, **params), 1.0)
                self.events.add(method + "_done", of=event["at"], generation=done.get("generation"))

    def _rotate(self):
        self._order("rotate", profile="service", timeout_ms=1000)

    def _reload(self):
        self._order("reload")

    def _upstream(self):
        rule = {"times": -1, **self.random.choice(self.cluster.plan.rules or UPSTREAM)}
        with contextlib.suppress(OSError):
            self.cluster.standin.fail(**rule)
            self._beside("upstream", self.random.uniform(0.2, 3), self.cluster.standin.clear, rule=rule)

    def _clock(self):
        seconds = self.random.choice((-3600, -30, -2, 2, 30, 3600))
        self.events.add("clock", seconds=seconds)
        self.cluster.set_clock(seconds)

    def _resize(self, size):
        return subprocess.run(["mount", "-o", f"remount,size={size}", self.cluster.broker.path("state")], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0

    def _disk_full(self):
        """The file system shrinks to what is in use and a little more, which a writer may have taken meanwhile."""
        used = shutil.disk_usage(self.cluster.broker.path("state")).used
        if "disk_full" in self.beside or not self._resize(used + self.random.choice((16384, 65536, MIB))):
            return
        self._beside("disk_full", self.random.uniform(0.2, 2), lambda: self._resize(self.cluster.size))

    def _kill_client(self):
        """Its leases end with it; another comes in its place."""
        clients = [client for client in self.cluster.clients if client.process.poll() is None and not client.probe]
        if not clients:
            return
        client = self.random.choice(clients)
        self.events.add("kill_client", client=client.name)
        client.process.kill()
        client.process.wait()
        self._clients += 1
        self.cluster.start_client(f"{client.name.split('.')[0]}.{self._clients}", client.uid, client.lanes)

    def _namesake(self):
        """Another host's broker has keys of the same names: they are none of our business."""
        with contextlib.suppress(OSError, ValueError):
            aliases = [key["key_alias"] for key in self.cluster.standin.keys() if key["user_id"].startswith("keybroker:")]
            if aliases:
                alias, install = self.random.choice(aliases), "anotherhost0000000000000"
                self.cluster.standin.add_key(f"sk-somebody-elses-{now_usec()}", key_alias=alias, user_id=f"keybroker:{install}",
                                             metadata={"keybroker": {"install": install, "intent": "x"}})
                self.events.add("namesake", alias=alias)

    def _stray(self):
        """A key of ours that no row knows, as a lost state leaves it: the sweep's to delete."""
        key = f"sk-stray-{now_usec()}"
        with contextlib.suppress(OSError, ValueError):
            self.cluster.standin.add_key(key, key_alias=key[3:], user_id="keybroker:" + self.cluster.install)
            self.events.add("stray", hash=key_hash(key))
