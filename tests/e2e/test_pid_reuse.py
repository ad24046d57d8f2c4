"""A pid that goes to another process: nobody is ever taken for it. In a pid namespace with a small pid_max."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import socket

import msgpack
import pytest

from harness.broker import FAST, MANY
from harness.users import STRANGER, in_child, need_root
from harness.wait import wait_until

PID_MAX = 400
LAST_PID = "/proc/sys/kernel/ns_last_pid"
NEWNS, NEWPID, PRIVATE = 0x00020000, 0x20000000, 0x44000


def in_pid_namespace(work, small=True):
    """work() as the first process of a new pid namespace, whose pids soon come again if it is small; -> its value."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid_max = pathlib.Path("/proc/sys/kernel/pid_max")
    outer = pid_max.read_text(encoding="ascii")

    def unshare():
        assert libc.unshare(NEWPID | NEWNS) == 0, os.strerror(ctypes.get_errno())

    def first():
        assert libc.mount(b"none", b"/", None, PRIVATE, None) == 0 and libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0
        if small and pid_max.read_text(encoding="ascii") == outer:
            return None  # a new namespace begins with the greatest there is: this one is not its own
        if small:
            pid_max.write_text(str(PID_MAX), encoding="ascii")
        return work()
    value = in_child(lambda: in_child(first), unshare)
    assert pid_max.read_text(encoding="ascii") == outer
    if value is None:
        pytest.skip("pid_max is the whole host's on this kernel (Linux 6.14 has one for each pid namespace)")
    return value


def need_reuse():
    """Skips where no pid can be had again at will."""
    need_root("to make a pid namespace")
    if not os.path.exists(LAST_PID):
        pytest.skip("needs /proc/sys/kernel/ns_last_pid, to have a pid reused at once")


def next_pid(pid):
    """The next process of this pid namespace gets this one."""
    pathlib.Path(LAST_PID).write_text(str(pid - 1), encoding="ascii")


class Round:
    """A process connects and dies; a child keeps its connection; its pid goes to a program that may have keys."""

    def __init__(self, broker, program, before, queued):
        self.broker, self.said = broker, []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            self._connector(theirs, before, queued)
        theirs.close()
        self.control = ours
        assert ours.recv(10) == b"connected"
        os.waitpid(self.pid, 0)
        next_pid(self.pid)
        self.heir = os.posix_spawn(program[0], program, {})
        assert self.heir == self.pid, "the pid was not reused"
        wait_until(lambda: os.readlink(f"/proc/{self.heir}/exe").endswith("/trusted"), what="the program")

    def _connector(self, control, before, queued):
        with contextlib.suppress(BaseException):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(self.broker.socket)
            for number, method in enumerate(before):
                self._ask(connection, number, method)
            for number, method in enumerate(queued):
                self._send(connection, number, method)
            if os.fork() == 0:
                for method in control.recv(1000).decode().split() or []:
                    self._send(connection, len(queued), method)
                    queued = [*queued, method]
                control.send(msgpack.packb(self._answers(connection, len(queued))))
            else:
                control.send(b"connected")
        os._exit(0)

    @staticmethod
    def _send(connection, number, method):
        params = {"bind": "ttl"} if method == "acquire" else {}
        connection.sendall(msgpack.packb([0, number, method, [params]]))

    def _ask(self, connection, number, method):
        self._send(connection, number, method)
        return self._answers(connection, 1)

    @staticmethod
    def _answers(connection, count):
        unpacker, answers = msgpack.Unpacker(), []
        while len(answers) < count:
            data = connection.recv(65536)
            assert data
            unpacker.feed(data)
            answers += [message[2:] for message in unpacker]
        return answers

    def answers(self, *methods):
        """The child asks this too; -> [(error, result)] of all that has no answer yet."""
        self.control.send(" ".join(methods).encode() or b" ")
        return msgpack.unpackb(self.control.recv(1 << 20))

    def close(self):
        """Ends the program; reaps."""
        os.kill(self.heir, signal.SIGKILL)
        os.waitpid(self.heir, 0)
        self.control.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def rounds(broker, program, env, count):
    """-> how many answers of each kind; a wrong one ends it."""
    broker.start(env=env)
    broker.wait_ready()
    reused, denied = 0, 0
    for number in range(count):
        waits = number % 2 == 0  # in the backlog, until the pid is another's
        if waits:
            broker.process.send_signal(signal.SIGSTOP)
        one = Round(broker, program, [] if waits else ["whoami"], ["whoami", "acquire"] if waits and number % 4 else [])
        if waits:
            broker.process.send_signal(signal.SIGCONT)
        for error, result in one.answers("whoami", "acquire"):
            assert error and error["code"] == "denied" and not result, (number, error, result)
            assert "has ended" in error["message"] or "another process" in error["message"], error
            denied += 1
        reused += one.heir == one.pid
        one.close()
    granted = broker.admin("status")["leases"]
    rows = [row for row in broker.audit() if row["event"] in ("whoami", "acquire")]
    broker.stop()
    return reused, denied, granted, [row for row in rows if row["outcome"] != "denied" or row.get("exe", "").endswith("trusted")]


@pytest.mark.parametrize("env,uid,count", [({}, 0, 1000), ({"KEYBROKER_NO_PEERPIDFD": "1"}, STRANGER, 200)],
                         ids=["pidfd", "by-number"])
def test_nobody_is_taken_for_the_heir_of_a_pid(make_broker, env, uid, count):
    """Before Linux 6.5 a process of the same uid could be: so there the heir is another user's."""
    need_reuse()
    broker = make_broker(env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"})
    trusted = os.path.join(broker.root, "trusted")
    shutil.copy("/bin/sleep", trusted)
    os.chmod(trusted, 0o755)
    broker.write_config(MANY + f'rule "trusted" {{ uid = {uid} exe = "{trusted}" profiles = {{ "*" }} }}\n')
    program = [trusted, "600"]
    if uid:
        program = [shutil.which("setpriv"), "--reuid", str(uid), "--clear-groups", *program]
    reused, denied, granted, wrong = in_pid_namespace(lambda: rounds(broker, program, env, count))
    assert (reused, granted, wrong) == (count, 0, []) and denied >= 2 * count


def heir_is_told(broker, restarted):
    """-> what a process that watches hears of the TTL lease of one that had its pid; how often that was so."""
    broker.start()
    broker.wait_ready()

    def ask():
        with broker.rpc() as connection:
            return os.getpid(), connection.call("acquire", bind="ttl")["lease"]

    def hear():
        with broker.rpc() as connection:
            connection.call("watch", scope="process")
            connection.call("acquire", bind="ttl")  # its own is no other's
            connection.call("whoami")
            return os.getpid(), [params[0]["lease"] for _, params in connection.notifications]
    pid, _ = in_child(ask)
    if restarted:
        broker.restart()
        broker.wait_ready()
    broker.admin("rotate", profile="service")
    next_pid(pid)
    heir, told = in_child(hear)
    broker.stop()
    return heir == pid, told


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_heir_of_a_pid_is_not_told_of_the_dead_ones_lease(make_broker, restarted):
    need_reuse()
    broker = make_broker(env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"}, timing={**FAST, "grace_ms": 60000})
    assert in_pid_namespace(lambda: heir_is_told(broker, restarted), small=False) == (True, [])
