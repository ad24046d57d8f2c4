"""Several daemons over the state and the sockets of one Broker."""

import contextlib
import re
import signal
import subprocess

from harness import leaks
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, wait_gone
from harness.wait import wait_until


class Instance:
    """One daemon of several; its log is a file of its own. Behind a prefix it hears no signal but SIGKILL."""

    def __init__(self, broker, name, prefix=(), env=None):
        self.name, self.log_path, self.deaf = name, broker.path(f"log-{name}"), bool(prefix)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*prefix, *broker.command("--instance", name)],
                                            env={**broker.env, **(env or {})}, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=broker.root)

    @property
    def pid(self):
        """Of the daemon."""
        return self.process.pid

    @property
    def running(self):
        """Has it not ended?"""
        return self.process.poll() is None

    @property
    def log(self):
        """All it wrote."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def signal(self, number):
        """Sends it a signal."""
        self.process.send_signal(number)

    def freeze(self):
        """SIGSTOP, and waits until it has stopped."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T", what="its stop")

    def _state(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        """SIGTERM; asserts a clean end."""
        self.signal(signal.SIGTERM)
        assert self.process.wait(10) == 0, self.log


class Instances:
    """A Broker with any number of daemons, none of them its own."""

    def __init__(self, broker):
        self.broker, self.all = broker, []

    def start(self, *names, **options):
        """Starts one after the other, each once the one before it leads or stands by."""
        made = []
        for name in names:
            instance = Instance(self.broker, name, **options)
            self.all.append(instance)
            made.append(instance)
            wait_until(lambda: re.search("READY|STANDBY", instance.log) or not instance.running, what=lambda: instance.log)
            assert instance.running, instance.log
        return made[0] if len(made) == 1 else made

    def start_together(self, *names, **options):
        """Starts all at once, and waits for none."""
        made = [Instance(self.broker, name, **options) for name in names]
        self.all.extend(made)
        return made

    def leader(self):
        """The instance that answers."""
        pid = self.broker.admin("status")["pid"]
        return next(instance for instance in self.all if instance.pid == pid)

    def wait_leader(self, *others, timeout=10):
        """Waits until one that is not in `others` answers; -> it."""
        def look():
            try:
                leader = self.leader()
            except (OSError, RpcError, Closed, TimeoutError, StopIteration):
                return None
            return leader if leader not in others else None
        return wait_until(look, timeout, lambda: "a leader\n" + self.logs())

    def logs(self):
        """All logs, for a failure's sake."""
        return "\n".join(f"--- {instance.name}\n{instance.log}" for instance in self.all)

    def close(self):
        """Ends all; asserts that no log and no file holds a secret."""
        for instance in self.all:
            if instance.running:
                instance.signal(signal.SIGCONT)
                instance.signal(signal.SIGKILL if instance.deaf else signal.SIGTERM)
        for instance in self.all:
            try:
                instance.process.wait(10)
            except subprocess.TimeoutExpired:
                instance.kill()
        secrets = self.broker.issued | self.broker.secrets
        found = leaks.find(secrets, {instance.name: instance.log.encode() for instance in self.all})
        assert not found, found


def memory_has(pid, needle):
    """Is it in what the process may read? (root only)"""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if " r" not in line[:line.index(" ") + 2] or "[v" in line or end - start > 1 << 26:
                continue
            try:
                memory.seek(start)
                if needle.encode() in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def mint_through_a_failover(broker, upstream, point):
    """The leader dies at this point of a dedicated mint; who asked repeats its request, and the next leader has one key for it."""
    instances = Instances(broker)
    try:
        a = instances.start("a", env={"KEYBROKER_FAIL": f"{point}:kill:2"})  # the first is the shared key's
        broker.wait_ready(timeout=30)
        b = instances.start("b")
        with broker.rpc() as connection:
            asked = connection.send("acquire", profile="process", bind="ttl", request_id="the-same")
            with contextlib.suppress(Closed, ConnectionResetError):
                connection.result(asked)
                raise AssertionError(f"{point} was not reached")
        assert a.process.wait(10) == -signal.SIGKILL
        lease = broker.acquire(profile="process", bind="ttl", request_id="the-same", timeout_ms=30000)
        assert instances.wait_leader(a) is b and upstream.chat(lease["api_key"])[0] == 200
        assert broker.acquire(profile="process", bind="ttl", request_id="the-same")["lease"] == lease["lease"]
        accounted_for(broker, upstream, timeout=30)
        assert broker.call("release", lease=lease["lease"])["released"] is True
        wait_gone(upstream, lease["api_key"], timeout=15)
    finally:
        instances.close()
