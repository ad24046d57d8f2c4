"""Signals in the middle of a start, and a second daemon that is to begin anew."""

import contextlib
import os
import subprocess

from harness.broker import FAST
from harness.users import need_root
from harness.wait import wait_until


def has_open(process, path):
    """Has it come as far as opening the file?"""
    folder = f"/proc/{process.pid}/fd"
    with contextlib.suppress(FileNotFoundError):
        return any(os.readlink(os.path.join(folder, fd)) == path for fd in os.listdir(folder))
    return False


# --- signals ---

def test_hangup_during_the_start_does_not_end_it(broker):
    need_root("to read a non-dumpable daemon's descriptors")
    broker.stop()
    with broker.locked():  # a start cannot get beyond the claim
        broker.spawn()
        wait_until(lambda: has_open(broker.process, broker.db), what="the store is being opened")
        broker.reload()
    wait_until(lambda: "READY" in broker.log_since_start or not broker.running, what="READY")
    assert broker.running, f"ended with {broker.process.returncode}"
    assert broker.acquire()["api_key"]


def test_hangup_as_soon_as_it_is_ready_is_a_reload(broker):
    """Who is told READY may signal at once: the reload must not be lost, nor be its end."""
    for _ in range(5):
        broker.restart()
        broker.reload()
        assert broker.call("whoami") and broker.running
    wait_until(lambda: broker.audit(event="reload"), what="the last reload")


# --- --reset-state ---

def beside(broker, *args):
    """The same state under other sockets; ends by itself if it is refused. -> (exit code or None, output)"""
    run = broker.path("run2")
    os.makedirs(run, 0o700, exist_ok=True)
    process = subprocess.Popen(broker.command(*args), env={**broker.env, "XDG_RUNTIME_DIR": run}, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        return process.wait(3), process.stdout.read()
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        process.kill()
        process.communicate()


def test_state_of_a_living_leader_is_not_set_aside(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    held = [broker.acquire(profile=name, bind="ttl")["api_key"] for name in ("service", "process")]
    state = os.stat(broker.db).st_ino
    code, said = beside(broker, "--reset-state")
    assert code == 75 and "--reset-state" in said and str(broker.pid) in said
    assert os.stat(broker.db).st_ino == state
    assert [name for name in os.listdir(os.path.dirname(broker.db)) if "-" in name.replace("-wal", "").replace("-shm", "")] == []
    assert [litellm.chat(key)[0] for key in held] == [200, 200]
    assert broker.acquire(profile="process", bind="ttl")["api_key"] and broker.audit()


def test_state_of_a_stopped_leader_is_not_set_aside(broker):
    """Stopped by a signal it answers on no socket, yet it lives."""
    with broker.frozen():
        assert beside(broker, "--reset-state")[0] == 75
    assert broker.acquire()["api_key"]


def test_state_of_a_killed_leader_is_set_aside(broker):
    broker.kill()
    state = os.stat(broker.db).st_ino
    broker.start("--reset-state")
    broker.wait_ready()
    assert os.stat(broker.db).st_ino != state and broker.admin("status")["term"] == 1


def test_damaged_state_is_set_aside(broker):
    """What cannot be read names no leader; --reset-state is the way out of it."""
    broker.stop()
    with open(broker.db, "r+b") as file:
        file.write(b"not a database at all" * 200)
    broker.start("--reset-state")
    broker.wait_ready()
    assert broker.acquire()["api_key"]


# --- the sockets ---

def test_daemon_that_cannot_have_both_sockets_replaces_neither(broker):
    """The first one's public path has been removed by somebody; its admin socket is served."""
    os.unlink(broker.socket)
    done = broker.run_daemon(env={"XDG_STATE_HOME": broker.path("home")})
    assert done.code == 75 and not os.path.exists(broker.socket)
    assert broker.running and broker.admin("status")
