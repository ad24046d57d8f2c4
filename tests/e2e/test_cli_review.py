"""What a person meets at the terminal: help that is true, tables that fit, hints that lead on, waits that are explained."""

import fcntl
import json
import os
import pty
import struct
import termios

import pytest

from harness.broker import FAST, key_hash
from harness.upstream import row_of, wait_gone


# --- help and hints ---

def test_help_of_revoke_promises_no_default(make_broker):
    text = make_broker().cli("help", "revoke").ok()
    assert "--profile" in text and "default: service" not in text and "8 to 64" in text
    assert "default: service" in make_broker().cli("help", "get").ok()


@pytest.mark.parametrize("args", [("audit",), ("audit", "paint"), ("help", "audit")], ids=" ".join)
def test_half_a_command_names_the_whole(make_broker, args):
    done = make_broker().cli(*args)
    assert done.code == 64 and '"audit read"' in done.stderr and done.stdout == ""


def test_unknown_command_is_not_taken_for_half_of_one(make_broker):
    for word in ("aud", "", "auditread"):
        done = make_broker().cli(word)
        assert done.code == 64 and "there is no command" in done.stderr


def test_version_behind_a_command_runs_nothing(broker):
    done = broker.cli("get", "--version")
    assert done.ok().startswith("keybroker ") and not broker.admin("leases")["leases"]


def test_nothing_to_hand_out_is_said_with_one_prefix(make_broker):
    done = make_broker(env={"LITELLM_BASE_URL": "", "LITELLM_MASTER_KEY": ""}).run_daemon("--check")
    assert done.code == 78 and "there is nothing to hand out" in done.stderr
    assert done.stderr.count("keybrokerd: ") == 1


def test_template_in_the_environment_says_what_is_filled_in(make_broker):
    done = make_broker(env={"LITELLM_KEY_ALIAS": "x-${foo}"}).run_daemon("--check")
    assert done.code == 78 and "LITELLM_KEY_ALIAS" in done.stderr
    for name in ("${pid}", "%{pid}", "%{user}", "%{profile}"):
        assert name in done.stderr


# --- revoking by the digits that are shown ---

@pytest.mark.parametrize("digits", [8, 20, 64])
@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower", "upper"])
def test_revoke_takes_the_digits_that_leases_shows(make_broker, litellm, digits, case):
    broker = make_broker(timing=FAST).start()
    key, other = (broker.acquire(profile="process")["api_key"] for _ in range(2))
    assert key_hash(key)[:8] in broker.cli("leases").ok()
    done = broker.cli("revoke", "--key-hash", case(key_hash(key)[:digits]), "--json")
    assert done.json() == {"leases": 1, "keys": 1}
    wait_gone(litellm, key)
    assert row_of(litellm, other)


@pytest.mark.parametrize("text", ["", "1234567", "xyzwabcd", "a" * 65, "12345678 "])
def test_revoke_refuses_what_is_no_hash(broker, text):
    done = broker.cli("revoke", "--key-hash", text)
    assert done.code == 64 and "hex digits" in done.stderr


# --- tables ---

def _on_terminal(broker, columns, *args):
    """stdout of the CLI, if it is a terminal of that width."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with broker.cli_running(*args) as piped:
            whole = piped.communicate(timeout=20)[0]
        pid = os.fork()
        if pid == 0:
            os.dup2(theirs, 1)
            os.execve(broker.cli_command()[0], broker.cli_command(*args), broker.cli_env())
        os.close(theirs)
        theirs = -1
        seen = b""
        while chunk := _read(ours):
            seen += chunk
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return seen.decode().splitlines(), whole.splitlines()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: its last holder has gone
        return b""


def test_table_is_cut_for_a_terminal_only(broker):
    for _ in range(3):
        broker.acquire(profile="process")
    seen, whole = _on_terminal(broker, 80, "leases")
    assert len(seen) == len(whole) == 4
    assert max(map(len, seen)) <= 80 and any("…" in line for line in seen)
    assert max(map(len, whole)) > 80 and not any("…" in line for line in whole)
    seen, _ = _on_terminal(broker, 300, "leases")
    assert not any("…" in line for line in seen)


def test_status_counts_in_the_singular(make_broker):
    broker = make_broker().start()
    broker.wait_ready()
    broker.acquire()
    text = broker.cli("status").ok()
    assert "; 1 lease;" in text and "reachable since 20" in text


# --- waits and caps ---

def test_long_wait_for_litellm_is_explained(make_broker, own_litellm):
    own_litellm.stop()
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    done = broker.cli("get", "--timeout", "4")
    assert done.code in (69, 75) and done.stdout == "" and "--timeout" in done.stderr.splitlines()[0]
    assert "waiting" not in broker.cli("get", "--timeout", "4", "--quiet").stderr


def test_lease_that_ends_before_what_was_asked_for_is_said(make_broker):
    broker = make_broker(config='lease { ttl_max = "1h" }\n' + 'rule "r" { uid = %d profiles = { "*" } }\n' % os.getuid()).start()
    done = broker.cli("get", "--ttl", "2h")
    assert done.code == 0 and "earlier than asked for" in done.stderr and len(done.stdout.split()) == 1
    assert broker.cli("get", "--ttl", "1h").stderr == ""
    assert broker.cli("get", "--ttl", "2h", "--quiet").stderr == ""


# --- importing ---

def test_import_says_that_old_holders_are_unknown(broker, litellm):
    key = "sk-review-0123456789abcdef"
    litellm.add_key(key, key_alias="old-one", models=["gpt-5"])
    broker.secrets.add(key)
    path = broker.write("token.json", json.dumps({"token": key, "alias": "old-one"}))
    done = broker.cli("import", path)
    assert done.code == 0 and "within 24 h of its rotation" in done.stderr


def test_import_of_an_unknown_key_gives_no_advice_about_profiles_alone(broker):
    path = broker.write("token.json", json.dumps({"token": "sk-nonexistent1234567890", "alias": "none"}))
    done = broker.cli("import", path)
    assert done.code == 78 and "Trying again will not help" in done.stderr


def test_import_of_a_file_that_is_not_there_is_66(broker):
    done = broker.cli("import", "/nonexistent/none.json")
    assert done.code == 66 and "none.json" in done.stderr


def test_admin_command_without_a_broker_names_the_admin_socket(make_broker):
    done = make_broker().cli("status")
    assert done.code == 69 and "--admin-socket or KEYBROKER_ADMIN_SOCKET" in done.stderr


# --- exit codes and advice ---

def test_reload_of_a_bad_file_is_78(make_broker):
    rules = 'rule "r" { uid = %d profiles = { "*" } }\n' % os.getuid()
    broker = make_broker(config=rules).start()
    assert broker.cli("reload").code == 0
    broker.write_config(rules + "nonsense = 1\n")
    done = broker.cli("reload")
    assert done.code == 78 and "keybroker.conf:2" in done.stderr


def test_denial_names_whoami_once(make_broker):
    done = make_broker(config="").start().cli("get")
    assert done.code == 77 and done.stderr.count("whoami") == 1
