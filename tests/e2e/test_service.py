"""Two instances as systemd starts them: its sockets, the unit's user, credentials and directories."""

import os
import signal
import socket
import subprocess

import pytest

from harness.knock import Knockers
from harness.service import CLIENTS, UID, Manager
from harness.users import STRANGER, need_root
from harness.wait import stays, wait_until


@pytest.fixture(name="manager")
def fixture_manager(make_broker, litellm):
    need_root()
    made = Manager(make_broker(), litellm)
    yield made
    made.close()


@pytest.fixture(name="pair")
def fixture_pair(manager):
    """Instances a, which leads, and b."""
    manager.start("a", "b")
    assert manager.leader() == "a"
    return manager


def test_both_are_ready_and_say_which_leads(pair):
    a, b = pair.processes["a"].pid, pair.processes["b"].pid
    assert any(line.startswith("STATUS=leading") for line in pair.heard(a))
    assert f"STATUS=standby, pid {a} leads" in pair.heard(b)
    assert pair.broker.admin("status")["instance"] == "a"
    for pid in (a, b):
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status.read()


def test_group_reaches_the_clients_socket_and_others_do_not(pair):
    broker = pair.broker
    assert broker.call_as(STRANGER, "acquire", groups=[CLIENTS])["api_key"]
    for admin, groups in ((False, []), (True, [CLIENTS])):
        with pytest.raises(PermissionError):
            broker.call_as(STRANGER, "whoami", groups=groups, admin=admin)
    assert broker.call_as(UID, "status", admin=True)["instance"] == "a"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_leader_ends_and_nobody_is_refused(pair, end):
    broker, inode = pair.broker, os.stat(pair.broker.socket).st_ino
    with Knockers(broker.socket) as knockers:
        for old, other in (("a", "b"), ("b", "a")):
            assert pair.leader() == old
            pair.processes[old].send_signal(end)
            assert pair.processes[old].wait(10) == (-end if end == signal.SIGKILL else 0)
            knockers.wait_served("service after the leader's end")
            assert pair.leader() == other
            pair.start(old)  # as Restart= does
            assert "STATUS=standby" in "\n".join(pair.heard(pair.processes[old].pid))
    assert not knockers.refused and os.stat(broker.socket).st_ino == inode


def test_blocking_sockets_stop_nobody(pair):
    """O_NONBLOCK belongs to the open file that all have: whatever systemd starts with the sockets may take it off."""
    for one in pair.sockets:
        one.setblocking(True)
    for _ in range(3):
        assert pair.broker.call("whoami")
    stays(lambda: pair.leader() == "a", 3)  # longer than a standby takes to call a leader dead


def test_units_keep_the_sockets_from_blocking(pair):
    for unit in ("keybrokerd.service", "keybrokerd@.service"):
        assert "\nNonBlocking=yes\n" in (pair.units / unit).read_text()
    for one in pair.sockets:
        assert not one.getblocking()


def test_reload_reaches_a_standby(pair):
    b = pair.processes["b"]
    b.send_signal(signal.SIGHUP)
    wait_until(lambda: "RELOADING=1" in pair.heard(b.pid) and pair.heard(b.pid)[-1] == "READY=1", what=lambda: pair.log("b"))


def test_configuration_error_is_not_worth_a_restart(manager):
    with open(manager.config, "a", encoding="utf-8") as file:
        file.write("nonsense = 1\n")
    code = manager.spawn("a").wait(10)
    assert str(code) in manager.service.words("RestartPreventExitStatus"), manager.log("a")
    assert "READY=1" not in manager.heard(manager.processes["a"].pid)


def test_waiting_client_starts_nothing_anew(pair):
    """Both gone: who connects waits in the manager's backlog until one is there again."""
    for process in pair.processes.values():
        process.kill()
        process.wait(10)
    with pair.broker.rpc() as early:
        sent = early.send("whoami")
        assert not early.has_reply(sent)
        pair.start("a")
        assert early.result(sent)["uid"] == os.geteuid()


def test_lost_seal_key_is_not_replaced(make_broker):
    """What the unit does before each start would hide that the stored keys cannot be read any more."""
    broker = make_broker().start()
    broker.wait_ready()
    broker.stop()
    path = broker.path("config/keybroker/seal.key")
    assert broker.run_daemon("--init-seal").code == 0
    os.rename(path, path + "-lost")
    done = broker.run_daemon("--init-seal")
    assert done.code == 78 and "--reset-state" in done.stderr and not os.path.exists(path)


def test_foreign_sockets_are_closed(manager):
    """Sockets at other paths than ours are said and not used."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(manager.broker.path("run/other.sock"))
        other.listen(8)
        manager.sockets.append(other)
        manager.start("a")
        assert "is none of ours" in manager.log("a") and manager.broker.call("whoami")
        targets = subprocess.run(["ls", "-l", f"/proc/{manager.processes['a'].pid}/fd"], capture_output=True, text=True, check=True)
        assert f"socket:[{os.fstat(other.fileno()).st_ino}]" not in targets.stdout
