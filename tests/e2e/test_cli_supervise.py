"""`keybroker exec` as a parent: --restart-on-rotate, --key-file, --watch-signal; and `keybroker watch`."""

import contextlib
import json
import os
import pathlib
import select
import signal
import stat
import subprocess
import textwrap

import pytest

from harness.broker import FAST
from harness.upstream import wait_gone
from harness.wait import stays, wait_until

LONG = {**FAST, "grace_ms": 60000}
QUICK = {**FAST, "grace_ms": 300}
# Says what it was started with, and what signals it gets; ends by TERM unless told to stay.
PROGRAM = textwrap.dedent("""
    import os, signal, sys, time
    def say(*words):
        with open(sys.argv[1], "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")
    def on(number, frame):
        say("signal", signal.Signals(number).name)
        if number == signal.SIGTERM and "stubborn" not in sys.argv:
            sys.exit(7)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, on)
    say("start", os.environ.get("OPENAI_API_KEY", "-"), os.environ.get("OPENAI_API_KEY_FILE", "-"), os.getpid())
    while True:
        time.sleep(1)
""")


class Run:
    """`keybroker exec` with such a program."""

    def __init__(self, broker, process, notes):
        self.broker, self.process, self.notes = broker, process, notes

    def lines(self, first=None):
        """What the program has said so far, in words."""
        with contextlib.suppress(FileNotFoundError), open(self.notes, encoding="ascii") as file:
            lines = [line.split() for line in file]
            for line in lines:
                if line[0] == "start" and line[1] != "-":
                    self.broker.issued.add(line[1])
            return [line for line in lines if first in (None, line[0])]
        return []

    def wait(self, count, first=None):
        """Until it has said so many; -> them."""
        return count and wait_until(lambda: len(self.lines(first)) >= count and self.lines(first), 15,
                          lambda: f"{count} x {first}: {self.lines()}\n{self.broker.log}")

    @property
    def child(self):
        """The pid of the program that was started last."""
        return int(self.lines("start")[-1][3])


@contextlib.contextmanager
def running(broker, *options, arguments=(), env=None, starts=1):
    """Runs it until the end of the block; it has started so often by then."""
    notes = broker.write("notes", "")
    program = broker.write("program.py", PROGRAM)
    with broker.cli_running("exec", *options, "--", "/usr/bin/python3", program, notes, *arguments, env=env) as process:
        run = Run(broker, process, notes)
        run.wait(starts, "start")
        try:
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(run.child, signal.SIGKILL)
            broker.write("notes", "")  # keys are in it


def read(path):
    """The key in a key file."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


@pytest.fixture
def patient(make_broker):
    """A broker with a grace that no test waits for."""
    broker = make_broker(timing=LONG).start()
    broker.wait_ready()
    return broker


# --- --restart-on-rotate ---

def test_program_is_started_again_with_each_new_key_and_the_old_one_goes_early(patient, litellm):
    with running(patient, "--restart-on-rotate") as run:
        for generation in (2, 3):
            old = run.lines("start")[-1][1]
            pid = run.child
            patient.admin("rotate", profile="service")
            start = run.wait(generation, "start")[-1]
            assert start[1] != old and litellm.chat(start[1])[0] == 200 and int(start[3]) != pid
            wait_gone(litellm, old)
        assert [line[0] for line in run.lines()] == ["start", "signal", "start", "signal", "start"]
        assert [row["detail"] for row in patient.audit(event="ack")] == ["generation 2", "generation 3"]


def test_stubborn_program_holds_its_key_until_it_is_ended(patient, litellm):
    with running(patient, "--restart-on-rotate", arguments=["stubborn"]) as run:
        old = run.lines("start")[-1][1]
        patient.admin("rotate", profile="service")
        run.wait(1, "signal")
        stays(lambda: litellm.chat(old)[0] == 200, 0.5)
        os.kill(run.child, signal.SIGKILL)
        assert litellm.chat(run.wait(2, "start")[-1][1])[0] == 200
        wait_gone(litellm, old)


@pytest.mark.parametrize("code", [0, 37])
def test_exit_code_is_the_programs(patient, code):
    assert patient.cli("exec", "--restart-on-rotate", "--", "sh", "-c", f"exit {code}").code == code


def test_signal_that_ended_the_program_ends_exec_too(patient):
    with running(patient, "--restart-on-rotate") as run:
        os.kill(run.child, signal.SIGKILL)
        assert run.process.wait(10) == -signal.SIGKILL


@pytest.fixture(params=["--restart-on-rotate", "--key-file"])
def supervised(request, patient):
    """The options of either kind."""
    return [request.param, patient.path("files/key")] if request.param == "--key-file" else [request.param]


def test_end_is_noticed_whatever_signals_who_started_it_blocks(patient, supervised):
    with patient.cli_running("exec", *supervised, "--", "sh", "-c", "sleep 0.5; exit 37",
                             preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())) as process:
        assert process.wait(10) == 37


def test_program_does_not_find_in_its_parent_what_it_is_not_to_have(patient, supervised):
    names = ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "OPENAI_API_KEY")
    done = patient.cli("exec", *supervised, "--", "sh", "-c", "tr '\\0' '\\n' < /proc/$PPID/environ",
                       env={name: f"sk-not-for-the-program-{name}" for name in names})
    assert "LITELLM_MASTER_KEY" in done.stderr and "HOME=" in done.ok() and "not-for-the-program" not in done.stdout


def test_program_that_cannot_be_run(patient):
    done = patient.cli("exec", "--restart-on-rotate", "--", "no-such-program-anywhere")
    assert done.code == 127 and "no-such-program-anywhere" in done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_signals_are_handed_on(patient, name):
    with running(patient, "--restart-on-rotate") as run:
        run.process.send_signal(getattr(signal, name))
        assert run.wait(1, "signal") == [["signal", name]]
        if name == "SIGTERM":
            assert run.process.wait(10) == 7
        else:
            stays(lambda: run.process.poll() is None, 0.2)


def test_signals_are_handed_on_while_the_broker_hangs(patient):
    with running(patient, "--restart-on-rotate") as run:
        with patient.frozen():
            run.process.send_signal(signal.SIGUSR1)
            run.wait(1, "signal")


def test_who_ends_exec_amid_a_restart_ends_it(patient):
    with running(patient, "--restart-on-rotate", arguments=["stubborn"]) as run:
        patient.admin("rotate", profile="service")
        run.wait(1, "signal")
        run.process.send_signal(signal.SIGTERM)
        run.wait(2, "signal")
        os.kill(run.child, signal.SIGKILL)
        assert run.process.wait(10) == -signal.SIGKILL
        assert len(run.lines("start")) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_rotation_does_not_start_a_program_again_that_was_told_to_end(patient, name):
    """It drains: it is left to that, and ends for good."""
    with running(patient, "--restart-on-rotate", arguments=["stubborn"]) as run:
        run.process.send_signal(getattr(signal, name))
        run.wait(1, "signal")
        patient.admin("rotate", profile="service")
        wait_until(lambda: select.select([run.process.stderr], [], [], 0)[0], what="a word about it")
        assert "told to end" in run.process.stderr.readline()
        stays(lambda: len(run.lines("signal")) == 1, 0.5)
        os.kill(run.child, signal.SIGKILL)
        assert run.process.wait(10) == -signal.SIGKILL and len(run.lines("start")) == 1


@pytest.mark.unsanitized
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("moment, starts", [("start 1", 0), ("exec 1", 0), ("start 2", 1), ("exec 2", 1)])
def test_signal_is_not_lost_while_no_program_runs(patient, moment, starts, name):
    library = patient.path("files/at_start.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, pathlib.Path(__file__).parent / "harness/at_start.c"], check=True)
    env = {"LD_PRELOAD": library, "KEYBROKER_TEST_MOMENT": moment, "KEYBROKER_TEST_SIGNAL": str(int(getattr(signal, name)))}
    with running(patient, "--restart-on-rotate", starts=starts, env=env) as run:
        if starts:
            patient.admin("rotate", profile="service")
        # the one that it was told in place of, or as that program ended
        assert run.process.wait(10) == (7 if moment == "start 2" else -getattr(signal, name))
        assert len(run.lines("start")) == starts


def test_program_does_not_outlive_exec_with_a_dead_key(patient, litellm):
    with running(patient, "--profile", "process", "--restart-on-rotate") as run:
        key = run.lines("start")[0][1]
        run.process.kill()
        run.wait(1, "signal")
        wait_gone(litellm, key)


def test_lease_of_exec_is_refreshable_and_its_own(patient):
    with running(patient, "--restart-on-rotate") as run:
        lease, = patient.admin("leases")["leases"]
        assert (lease["pid"], lease["refreshable"], lease["bind"]) == (run.process.pid, True, "process")
        os.kill(run.child, signal.SIGTERM)
        assert run.process.wait(10) == 7
    wait_until(lambda: patient.admin("status")["leases"] == 0, what="the lease's end")


def test_revoked_key_is_followed_by_another(patient, litellm):
    with running(patient, "--restart-on-rotate") as run:
        patient.admin("revoke", profile="service")
        start = run.wait(2, "start")[-1]
        assert litellm.chat(start[1])[0] == 200


def test_rotation_while_the_broker_restarts_is_caught_up_with(patient, litellm):
    with running(patient, "--restart-on-rotate") as run:
        patient.stop()
        patient.start()
        patient.wait_ready()
        patient.admin("rotate", profile="service")
        assert litellm.chat(run.wait(2, "start")[-1][1])[0] == 200


def test_program_goes_on_while_the_broker_is_away(patient, litellm):
    with running(patient, "--restart-on-rotate") as run:
        patient.stop()
        stays(lambda: run.process.poll() is None, 1.0)
        patient.start()
        patient.wait_ready()
        patient.admin("rotate", profile="service")
        assert litellm.chat(run.wait(2, "start")[-1][1])[0] == 200


# --- --key-file ---

def test_key_file_is_replaced_in_one_step_and_the_program_told(make_broker, litellm):
    broker = make_broker(timing={**FAST, "grace_ms": 3000}).start()
    broker.wait_ready()
    path = broker.path("files/key")
    with running(broker, "--key-file", path, "--watch-signal", "HUP") as run:
        assert run.lines("start") == [["start", "-", path, str(run.child)]]
        old = read(path)
        broker.issued.add(old)
        assert litellm.chat(old)[0] == 200 and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path, encoding="ascii") as before:
            broker.admin("rotate", profile="service")
            assert run.wait(1, "signal") == [["signal", "SIGHUP"]]
            assert before.read().strip() == old, "who has the file open reads the old key to its end"
        new = read(path)
        broker.issued.add(new)
        assert new != old and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert litellm.chat(new)[0] == litellm.chat(old)[0] == 200, "the grace is the program's"
        assert len(run.lines("start")) == 1
        wait_gone(litellm, old, 10)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(10) == 7
    assert not os.path.exists(path) and [name for name in os.listdir(broker.path("files")) if name.startswith("key.")] == []


def test_key_file_replaces_a_link_and_not_what_it_names(patient):
    kept = patient.write("kept", "as it was")
    path = patient.path("files/link")
    os.symlink(kept, path)
    with running(patient, "--key-file", path):
        assert not os.path.islink(path)
        patient.issued.add(read(path))
    with open(kept, encoding="ascii") as file:
        assert file.read() == "as it was"


def test_key_file_stays_for_the_one_that_took_it_over(patient):
    """A rolling restart: the next one runs before the last one ends."""
    path = patient.path("files/key")
    with running(patient, "--key-file", path) as first:
        patient.issued.add(read(path))
        with patient.cli_running("exec", "--key-file", path, "--", "sh", "-c", "echo runs; read line") as second:
            assert second.stdout.readline() == "runs\n"
            first.process.terminate()
            assert first.process.wait(10) == 7
            assert read(path) in patient.issued
            second.stdin.write("\n")
            second.stdin.flush()
            assert second.wait(10) == 0
    assert not os.path.exists(path)


def test_inherited_key_does_not_reach_a_program_that_reads_a_file(patient):
    path = patient.path("files/key")
    with running(patient, "--key-file", path, env={"OPENAI_API_KEY": "sk-inherited-0123456789abcdef"}) as run:
        assert run.lines("start")[0][1] == "-"
        patient.issued.add(read(path))


def test_key_file_that_cannot_be_written_is_named(patient):
    done = patient.cli("exec", "--key-file", "/nonexistent/key", "--", "true")
    assert done.code == 74 and "/nonexistent/key" in done.stderr


def test_relative_key_file_is_named_absolutely(patient):
    done = patient.cli("exec", "--key-file", "here", "--", "sh", "-c", 'echo "$OPENAI_API_KEY_FILE"; test -s here',
                       cwd=patient.path("files"))
    assert done.ok() == patient.path("files/here") + "\n"


@pytest.mark.parametrize("options,words", [
    (["--watch-signal", "HUP"], "--key-file"), (["--key-file", "x", "--watch-signal", "NONSENSE"], "NONSENSE"),
    (["--key-file", "x", "--watch-signal", "HUP", "--restart-on-rotate"], "--restart-on-rotate"),
    (["--key-file", "x", "--keep-env"], "--keep-env")])
def test_options_that_make_no_sense(patient, options, words):
    done = patient.cli("exec", *options, "--", "true")
    assert done.code == 64 and words in done.stderr


# --- keybroker watch ---

@contextlib.contextmanager
def watch(broker, *options):
    """`keybroker watch`, its lines as they come."""
    process = subprocess.Popen(broker.cli_command(*options, "watch"), env=broker.cli_env(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, bufsize=1)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_watch_prints_a_line_for_each_event_of_this_uid(patient):
    with watch(patient, "--json") as process:
        lease = patient.acquire(bind="ttl")["lease"]
        patient.admin("rotate", profile="service")
        assert json.loads(process.stdout.readline()) == {"event": "rotated", "lease": lease, "profile": "service", "generation": 2}
        patient.admin("revoke", lease=lease)
        assert json.loads(process.stdout.readline()) == {"event": "revoked", "lease": lease}


def test_watch_goes_on_over_a_restart(patient):
    lease = patient.acquire(bind="ttl")["lease"]
    with watch(patient) as process:
        patient.admin("rotate", profile="service")
        line = process.stdout.readline()
        assert "rotated" in line and lease in line and "generation 2" in line
        patient.restart()
        assert process.stdout.readline().endswith("  leader_changed  instance main, term 1\n")
        patient.wait_ready()
        assert "rotated" in process.stdout.readline(), "it is behind still"
        patient.admin("revoke", lease=lease)
        assert process.stdout.readline().endswith(f"  revoked         {lease}\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


# --- status ---

def test_status_shows_who_holds_an_old_key_back(patient):
    with patient.cli_running("exec", "--", "sleep", "60") as program:
        held = wait_until(lambda: [l for l in patient.admin("leases")["leases"] if l["pid"] == program.pid], what="its lease")
        patient.admin("rotate", profile="service")
        patient.acquire()
        retiring, = patient.profile()["retiring"]
        assert retiring["held_by"] == [{"lease": held[0]["lease"], "uid": os.getuid(), "bind": "process", "pid": program.pid}]
        assert retiring["unacked"] == 0 and retiring["held_until_ms"] > retiring["delete_at_ms"]
        shown = patient.cli("status").ok()
        assert f"held by 1 fixed lease (pid {program.pid}), deleted when it ends, in 2" in shown and " at most" in shown


def test_status_marks_who_holds_an_old_key_for_a_time(patient):
    """Whoever asked for it may be gone, and its pid be another's."""
    patient.cli("get").ok()
    patient.admin("rotate", profile="service")
    assert f"held by 1 fixed lease (uid {os.getuid()} by TTL), deleted when it ends, in " in patient.cli("status").ok()


def test_status_says_since_when_a_held_key_is_due(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing={**FAST, "grace_ms": 300, "fixed_max_ms": 1000}).start()
    broker.wait_ready()
    broker.cli("get").ok()
    broker.admin("rotate", profile="service")
    own_litellm.stop()
    wait_until(lambda: "held by 1 fixed lease" in (text := broker.cli("status").ok()) and "due since 20" in text, what="it is due")


def test_status_stays_readable_with_many_old_keys(patient):
    for _ in range(120):
        patient.acquire(bind="ttl", refreshable=False)
        patient.admin("rotate", profile="service")
    profile = patient.profile()
    assert len(profile["retiring"]) == 100 and profile["retiring_more"] == 20
    assert profile["retiring"][0]["generation"] == 1
