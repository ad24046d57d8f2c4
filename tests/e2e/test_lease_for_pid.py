"""`for_pid`: a lease of an ancestor, which the caller names by a pidfd that goes with the request; and what else is sent so."""

import os
import resource
import signal
import socket
import subprocess

import msgpack
import pytest

from harness.broker import MANY, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.stuck_file import stuck_file
from harness.upstream import row_of, wait_gone
from harness.users import STRANGER, as_user, in_child, need_root
from harness.wait import stays, wait_until

FOR = {"profile": "process", "for_pid": True}


def ask(broker, pid, **params):
    """An acquire for the process `pid`."""
    with broker.rpc() as connection:
        fd = os.pidfd_open(pid)
        try:
            return connection.result(connection.send_with([fd], "acquire", **{**FOR, **params}))
        finally:
            os.close(fd)


def outcome(work):
    """-> (the result, "") or (None, the error's code and text)."""
    try:
        return work(), ""
    except RpcError as error:
        return None, str(error)


class Family:
    """A process of some uid that lives until it is killed, and asks by way of a child of its own."""

    def __init__(self, broker, uid=None):
        self.broker = broker
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if uid is not None:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                answer = in_child(lambda: outcome(lambda: ask(broker, os.getppid())))
                os.write(write, msgpack.packb(answer))
                os.close(write)
                signal.pause()
            finally:
                os._exit(1)
        os.close(write)
        with open(read, "rb") as pipe:
            self.reply, self.error = msgpack.unpackb(pipe.read())
        broker.remember(self.reply)

    def kill(self):
        """SIGKILL; the children's children are long gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def open_to_all(broker):
    """Lets every uid connect."""
    os.chmod(broker.path("run/keybroker"), 0o755)
    os.chmod(broker.socket, 0o666)


@pytest.fixture
def shared_broker(make_broker):
    """A broker for two uids."""
    need_root()
    broker = make_broker(config=rule_all() + f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n',
                         env={"LITELLM_MODELS": "gpt-5", "LITELLM_SERVICE_MODELS": "m"}).start()
    open_to_all(broker)
    return broker


def test_lease_is_the_parents_and_ends_with_it(shared_broker, litellm):
    family = Family(shared_broker, STRANGER)
    assert family.error == ""
    row, = shared_broker.admin("leases")["leases"]
    assert (row["bind"], row["pid"], row["uid"]) == ("process", family.pid, STRANGER)
    acquired, = shared_broker.audit(event="acquire", lease=family.reply["lease"])
    assert acquired["detail"] == f"for process {family.pid}" and acquired["pid"] != family.pid
    stays(lambda: row_of(litellm, family.reply["api_key"]) is not None, 0.3)
    family.kill()
    wait_gone(litellm, family.reply["api_key"], 1)
    released, = shared_broker.audit(event="release")
    assert released["pid"] == family.pid and released["start_time"] > 0


def test_kernel_that_tells_senders_not_pidfds_hands_the_descriptor_on(make_broker, litellm):
    """Before Linux 6.5 the first message carries credentials, too."""
    broker = make_broker(env={"KEYBROKER_NO_PEERPIDFD": "1"}).start()
    reply = in_child(lambda: ask(broker, os.getppid()))
    broker.remember(reply)
    assert broker.admin("leases")["leases"][0]["pid"] == os.getpid() and litellm.chat(reply["api_key"])[0] == 200


def test_grandparent_will_do_and_may_release(broker, litellm):
    top = os.getpid()
    reply = in_child(lambda: in_child(lambda: ask(broker, top)))
    broker.remember(reply)
    assert broker.admin("leases")["leases"][0]["pid"] == os.getpid()
    assert broker.call("acquire", lease=reply["lease"])["api_key"] == reply["api_key"]
    assert broker.call("release", lease=reply["lease"])["released"]
    wait_gone(litellm, reply["api_key"], 1)


def test_caller_may_release_what_it_asked_for(broker, litellm):
    """A command that could not hand the key on."""
    def work():
        reply = ask(broker, os.getppid())
        return reply, broker.call("release", lease=reply["lease"])
    reply, released = in_child(work)
    broker.remember(reply)
    assert released["released"]
    wait_gone(litellm, reply["api_key"], 1)


def test_repeat_yields_the_same_lease_and_outlives_the_broker(broker):
    def work():
        return [ask(broker, os.getppid(), request_id="one")["lease"] for _ in range(2)]
    first, again = in_child(work)
    assert first == again
    broker.kill()
    broker.start()
    assert broker.admin("leases")["leases"][0]["lease"] == first, "the new leader watches the parent by itself"


def denied(broker, code, word, call):
    """The call is refused; a denial is on record, with its reason."""
    before = len(broker.audit(event="acquire", outcome="denied"))
    result, error = call()
    assert result is None and error.startswith(code) and word in error, (result, error)
    rows = broker.audit(event="acquire", outcome="denied")
    assert (len(rows) > before) == (code == "denied")
    return rows


def test_process_that_is_no_ancestor_is_refused(broker):
    with Holder(broker) as sibling:
        rows = denied(broker, "denied", "ancestor", lambda: outcome(lambda: ask(broker, sibling.pid)))
        assert "ancestor" in rows[-1]["detail"]
    assert broker.admin("leases")["leases"] == []


def test_own_process_and_a_child_are_no_ancestors(broker):
    denied(broker, "denied", "ancestor", lambda: outcome(lambda: ask(broker, os.getpid())))
    with subprocess.Popen(["sleep", "60"]) as child:
        assert "ancestor" in outcome(lambda: ask(broker, child.pid))[1]
        child.kill()


def test_ancestor_of_another_uid_is_refused(shared_broker):
    """pytest is root's: a child of another uid must not bind its lease to it."""
    rows = denied(shared_broker, "denied", "uid", lambda: as_user(STRANGER, lambda: outcome(lambda: ask(shared_broker, os.getppid()))))
    assert rows[-1]["uid"] == STRANGER


def test_process_that_has_ended_is_refused(broker):
    child = subprocess.Popen(["true"])
    fd = os.pidfd_open(child.pid)
    child.wait()
    with broker.rpc() as connection:
        assert "ended" in outcome(lambda: connection.result(connection.send_with([fd], "acquire", **FOR)))[1]
    os.close(fd)


def test_process_that_is_no_ancestor_any_more_is_refused(broker):
    """Its child, the caller's parent, has died: the caller is somebody else's child now."""
    read, write = os.pipe()
    top = os.getpid()
    if os.fork() == 0:
        parent = os.getpid()
        if os.fork() == 0:
            wait_until(lambda: os.getppid() != parent, what="another parent")
            os.write(write, outcome(lambda: ask(broker, top))[1].encode() or b"granted")
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert b"ancestor" in pipe.read()
    os.wait()


@pytest.mark.parametrize("make", [lambda: os.open("/dev/null", os.O_RDONLY), lambda: socket.socket().detach(),
                                  lambda: os.memfd_create("x"), lambda: os.open(f"/proc/{os.getppid()}", os.O_RDONLY)],
                         ids=["file", "socket", "memfd", "directory of /proc"])
def test_descriptor_of_another_kind_is_refused(broker, make):
    fd = make()
    with broker.rpc() as connection:
        assert "pidfd" in outcome(lambda: connection.result(connection.send_with([fd], "acquire", **FOR)))[1]
        assert connection.call("whoami")["pid"] == os.getpid()
    os.close(fd)


@pytest.mark.parametrize("count", [1, 100])
def test_descriptors_that_cannot_be_closed_hold_up_nobody(broker, tmp_path, count):
    need_root("to mount")
    with stuck_file(str(tmp_path / "stuck")) as file:
        child = os.fork()
        if child == 0:
            fd = os.open(file.path, os.O_RDONLY)
            for _ in range(count):
                with broker.rpc() as connection:
                    connection.reply(connection.send_with([fd], "acquire", **FOR))
            os._exit(0)
        wait_until(lambda: len(file.waiting) == 2, what="the close() of the broker, and of the child, which ends")
        assert broker.acquire()["api_key"]
        assert ("slow to close" in broker.log) == (count > 64)
    os.waitpid(child, 0)
    family = Family(broker)  # there is room again
    assert family.reply, family.error
    family.kill()


def test_request_without_a_descriptor_is_refused(broker):
    assert outcome(lambda: broker.acquire(**FOR))[1].startswith("invalid_request")


@pytest.mark.parametrize("params", [{"bind": "ttl"}, {"bind": "connection"}, {"lease": "x", "profile": None}], ids=str)
def test_for_pid_goes_with_a_new_process_lease_alone(broker, params):
    assert outcome(lambda: ask(broker, os.getppid(), **params))[1].startswith("invalid_request")


# --- descriptors that nobody asked for ---

def descriptors(broker):
    """How many the daemon has open."""
    return len(os.listdir(f"/proc/{broker.pid}/fd"))


def settled(broker, count):
    """Waits until the daemon has so many descriptors."""
    wait_until(lambda: descriptors(broker) == count, what=lambda: f"{count} descriptors, not {descriptors(broker)}")


@pytest.fixture
def counted(broker):
    """-> (broker, a connection, how many descriptors the daemon has)"""
    need_root("to read a non-dumpable daemon's descriptors")
    broker.acquire(bind="ttl")
    with broker.rpc() as connection:
        connection.call("whoami")
        yield broker, connection, descriptors(broker)


def test_surplus_descriptors_are_closed(counted):
    broker, connection, count = counted
    pidfd = os.pidfd_open(os.getpid())
    for number in (1, 2, 3, 100):
        for method, params in (("whoami", {}), ("acquire", FOR), ("acquire", {**FOR, "bind": "ttl"}), ("no_such", {})):
            outcome(lambda: connection.result(connection.send_with([pidfd] * number, method, **params)))
    os.close(pidfd)
    settled(broker, count)


def test_descriptor_counts_for_the_request_that_it_came_with_alone(counted):
    """One that was not asked for does not serve a later request."""
    broker, connection, count = counted
    pidfd = os.pidfd_open(os.getppid())
    assert connection.result(connection.send_with([pidfd], "whoami"))
    assert outcome(lambda: connection.call("acquire", **FOR))[1].startswith("invalid_request")
    os.close(pidfd)
    settled(broker, count)


def test_unfinished_requests_hold_one_descriptor_each(counted):
    """Each byte brings one; the last one stays until the request is whole, or the peer goes."""
    broker, connection, count = counted
    data = msgpack.packb([0, 77, "whoami", [{"x": "y" * 200}]])
    pidfd = os.pidfd_open(os.getpid())
    for byte in data[:-1]:
        socket.send_fds(connection.socket, [bytes([byte])], [pidfd])
    wait_until(lambda: connection.unread() == 0, what="it has all")
    assert descriptors(broker) <= count + 1
    connection.send_raw(data[-1:])
    assert connection.result(77)["pid"] == os.getpid()
    settled(broker, count)
    socket.send_fds(connection.socket, [data[:5]], [pidfd])
    settled(broker, count + 1)
    os.close(pidfd)
    connection.close()
    settled(broker, count - 2)  # socket and pidfd of the peer go, too


def test_descriptors_of_unfinished_requests_are_charged(make_broker):
    """Of 400 less its own 128 one uid may have half: for each connection itself, its process and what came with it."""
    need_root("to limit a non-dumpable daemon's descriptors")
    broker = make_broker(config=MANY + rule_all(), env={"LITELLM_SERVICE_MODELS": "m"}).start()
    broker.wait_ready()
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (400, 400))
    broker.admin("reload")
    before = descriptors(broker)

    connections = [broker.rpc() for _ in range(60)]
    for connection in connections:
        connection.call("whoami")
    fd = os.pidfd_open(os.getpid())
    for connection in connections:
        socket.send_fds(connection.socket, [b"\x94"], [fd])
    os.close(fd)
    wait_until(lambda: all(connection.unread() == 0 for connection in connections), what="all is read")
    share = (400 - 128) // 2
    assert before + share - 5 <= descriptors(broker) <= before + share
    for connection in connections:
        connection.close()


def test_peer_that_never_finishes_its_request_loses_its_descriptor(make_broker):
    need_root("to read a non-dumpable daemon's descriptors")
    broker = make_broker(timing={"idle_reap_ms": 500}).start()
    broker.wait_ready()
    with broker.rpc() as connection:
        connection.call("whoami")
        count = descriptors(broker)
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(connection.socket, [b"\x94"], [pidfd])
        os.close(pidfd)
        settled(broker, count + 1)
        connection.wait_closed()
        settled(broker, count - 2)


def test_garbage_with_descriptors_leaves_none(counted):
    broker, connection, count = counted
    socket.send_fds(connection.socket, [b"\xc1 no message"], [0, 1, 2])
    connection.wait_closed()
    settled(broker, count - 2)
    for _ in range(50):
        with broker.rpc() as other:
            socket.send_fds(other.socket, [b"\x94"], [0, 1, 2])
    settled(broker, count - 2)


def test_descriptors_are_not_passed_on(counted):
    """Close-on-exec: what the daemon starts has none of them."""
    broker, connection, _ = counted
    before = set(os.listdir(f"/proc/{broker.pid}/fd"))
    pidfd = os.pidfd_open(os.getpid())
    socket.send_fds(connection.socket, [b"\x94"], [pidfd])
    os.close(pidfd)
    fd = wait_until(lambda: set(os.listdir(f"/proc/{broker.pid}/fd")) - before, what="the descriptor").pop()
    with open(f"/proc/{broker.pid}/fdinfo/{fd}", encoding="ascii") as info:
        flags = next(line for line in info if line.startswith("flags:"))
    assert int(flags.split()[1], 8) & os.O_CLOEXEC


def test_descriptors_of_requests_that_wait_are_charged(make_broker, litellm):
    """Of 400 less its own 128 one uid may have half."""
    need_root("to limit a non-dumpable daemon's descriptors")
    litellm.fail(path="/key/generate", hang=True, times=-1)
    broker = make_broker(config=rule_all(), env={"LITELLM_SERVICE_MODELS": "m"}).start()
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (400, 400))
    broker.admin("reload")

    def work():
        with broker.rpc() as connection:
            fd = os.pidfd_open(os.getppid())
            sent = [connection.send_with([fd], "acquire", **{**FOR, "profile": "service"}) for _ in range(200)]
            refused = wait_until(lambda: [number for number in sent if connection.has_reply(number)], what="a refusal")
            connection.call("whoami")  # all that came before it has been dealt with
            refused = [number for number in sent if connection.has_reply(number)]
            return len(refused), {connection.reply(number)[0]["code"] for number in refused}, descriptors(broker)
    refused, codes, held = in_child(work)
    assert (codes, held < 200) == ({"limit_exceeded"}, True) and 60 <= refused < 100
    litellm.clear()
    wait_until(lambda: descriptors(broker) < 40, what="their end")
    assert in_child(lambda: ask(broker, os.getppid()))["api_key"]


def test_pipelined_requests_have_their_own_descriptors(broker):
    """Two that go with different processes, sent before the first is answered."""
    top = os.getpid()

    def work():
        with broker.rpc() as connection:
            fds = [os.pidfd_open(pid) for pid in (os.getppid(), top)]
            sent = [connection.send_with([fd], "acquire", **FOR) for fd in fds]
            return [connection.result(number)["lease"] for number in sent], os.getppid()
    (one, two), parent = in_child(lambda: in_child(work))
    assert parent != os.getpid() and broker.audit(event="acquire", lease=one)[0]["detail"] == f"for process {parent}"
    assert broker.audit(event="acquire", lease=two)[0]["detail"] == f"for process {os.getpid()}"
    wait_until(lambda: [row["lease"] for row in broker.admin("leases")["leases"]] == [two], what="the end of the other parent's")


# --- the command ---

def shell(broker, script, user=None):
    """A shell that runs the command in between."""
    who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.Popen(["/bin/sh", "-c", script], env={**broker.cli_env(), "KB": broker.cli_command()[0]}, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", **who)


@pytest.mark.parametrize("option", ["--for-parent", '--for-pid "$$"'])
def test_key_of_a_shell_goes_with_it(shared_broker, litellm, option):
    process = shell(shared_broker, f'"$KB" get -p process {option}; read -r wait', STRANGER)
    try:
        key = process.stdout.readline().strip()
        shared_broker.issued.add(key)
        assert litellm.chat(key)[0] == 200
        row, = shared_broker.admin("leases")["leases"]
        assert (row["pid"], row["bind"], row["refreshable"], row["uid"]) == (process.pid, "process", False, STRANGER)
        stays(lambda: row_of(litellm, key) is not None, 0.3)
        process.stdin.close()
        process.wait(10)
        wait_gone(litellm, key, 1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_command_says_why_it_is_refused(broker):
    with subprocess.Popen(["sleep", "60"]) as child:
        done = broker.cli("get", "--for-pid", str(child.pid))
        child.kill()
    assert done.code == 77 and "ancestor" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("args, code, word", [(("--for-pid", "0"), 64, "process id"), (("--for-pid", "-5"), 64, "whole number"),
                                              (("--for-pid", "999999999"), 65, "no process"),
                                              (("--for-parent", "--for-pid", "1"), 64, "together"),
                                              (("--for-parent", "--ttl", "5m"), 64, "--ttl")], ids=str)
def test_wrong_use_of_the_command_is_named(broker, args, code, word):
    done = broker.cli("get", *args)
    assert done.code == code and word in done.stderr and done.stdout == "", done


def test_default_of_get_is_a_ttl_lease(broker):
    broker.cli("get").ok()
    assert broker.admin("leases")["leases"][0]["bind"] == "ttl"
