"""What a person meets at the terminal: help that is true, tables that fit, hints that lead on, waits that are explained."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time

import pytest

from harness.broker import FAST, key_hash, rule_all
from harness.upstream import row_of, wait_gone
from harness.wait import wait_until


# --- help and hints ---

def test_help_of_revoke_promises_no_default(make_broker):
    text = make_broker().cli("help", "revoke").ok()
    assert "--profile" in text and "default: service" not in text and "8 to 64" in text
    assert "default: service" in make_broker().cli("help", "get").ok()


@pytest.mark.parametrize("args", [("audit",), ("audit", "paint"), ("help", "audit", "paint")], ids=" ".join)
def test_half_a_command_names_the_whole_ones(make_broker, args):
    done = make_broker().cli(*args)
    assert done.code == 64 and "audit read " in done.stderr and "audit prune " in done.stderr and done.stdout == ""


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
    assert all(line.count("keybrokerd: ") == 1 for line in done.stderr.splitlines())


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
    assert "; 1 lease\n" in text and "reachable since 20" in text


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


def test_import_of_an_unknown_key_is_65_without_advice_about_profiles(broker):
    path = broker.write("token.json", json.dumps({"token": "sk-nonexistent1234567890", "alias": "none"}))
    done = broker.cli("import", path)
    assert done.code == 65 and "does not know this key" in done.stderr and "budget" not in done.stderr
    failed = broker.cli("import", "-", "--json", stdin=open(path, encoding="utf-8").read())
    assert failed.code == 65 and json.loads(failed.stderr)["code"] == "invalid_request"


def _import(broker, litellm, key_columns, file_members, mode=0o600):
    key = "sk-review-0123456789abcdef"
    litellm.add_key(key, key_alias="old-one", **key_columns)
    broker.secrets.add(key)
    path = broker.write("token.json", json.dumps({"token": key, "alias": "old-one", **file_members}), mode)
    done = broker.cli("import", path)
    assert done.code == 0, done
    return [line for line in done.stderr.splitlines() if "warning: " in line], done.stderr


@pytest.mark.parametrize("columns,members,words", [
    ({"models": []}, {}, ["belongs to no team", "may use every model; profile service says all-team-models"]),
    ({"models": ["a", "b", "c", "d", "e", "f"], "team_id": "t"}, {}, ["team t;", "may use a, b, c, d, e and 1 more;"]),
    ({"models": ["all-team-models"], "team_id": "ours"}, {}, []),
    ({"models": ["all-team-models"], "team_id": "ours"}, {"team_id": "made-up"}, ["file says team made-up, LiteLLM says ours"]),
    ({"models": ["all-team-models"], "team_id": "ours"}, {"base_url": "http://127.0.0.1:1/v1"}, ["another base URL"]),
], ids=["no-team", "other-team", "same", "file-team", "file-url"])
def test_import_warns_of_what_the_key_differs_in(broker, litellm, columns, members, words):
    own = row_of(litellm, broker.acquire()["api_key"])["team_id"]
    columns = {name: own if value == "ours" else value for name, value in columns.items()}
    warnings, _ = _import(broker, litellm, columns, members)
    assert len(warnings) == len(words), warnings
    for line, word in zip(warnings, words):
        assert word.replace("ours", own) in line


@pytest.mark.parametrize("mode,warned", [(0o644, True), (0o600, False)], ids=["open", "closed"])
def test_import_tells_of_the_file_that_holds_the_key(broker, litellm, mode, warned):
    own = row_of(litellm, broker.acquire()["api_key"])["team_id"]
    warnings, text = _import(broker, litellm, {"models": ["all-team-models"], "team_id": own}, {}, mode)
    assert bool(warnings) == warned and "delete it" in text
    assert not warned or "mode 0644" in warnings[0]


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


def test_reload_names_what_waits_for_a_restart(make_broker):
    broker = make_broker(config=rule_all()).start()
    broker.write_config(rule_all() + f'durability = crash\nsocket = "{broker.path("run/other.sock")}"\n')
    done = broker.cli("reload")
    assert done.code == 0 and "only after a restart of the broker: socket, admin_socket, durability" in done.stderr
    broker.write_config(rule_all())
    assert "after a restart of the broker" not in broker.cli("reload").stderr


@pytest.mark.parametrize("env,words", [
    ({}, "LITELLM_MASTER_KEY at each start"), ({"LITELLM_MASTER_KEY": ""}, "is not set"),
    ({"LITELLM_MASTER_KEY": "", "LITELLM_BASE_URL": ""}, "url and master_key_file"),
    ({"LITELLM_MASTER_KEY": "", "LITELLM_BASE_URL": "", "OPENAI_API_KEY": "sk-proj-of-the-operator-0123456789"}, "key_file"),
], ids=["from-environment", "no-key", "nothing", "static"])
def test_init_says_what_is_still_missing(make_broker, env, words):
    done = make_broker(env=env).run_daemon("--init")
    assert "Still missing" in done.ok() and words in done.stdout


def test_init_with_a_key_file_misses_nothing(make_broker, litellm):
    broker = make_broker(env={"LITELLM_MASTER_KEY": ""})
    broker.env["LITELLM_MASTER_KEY_FILE"] = broker.write("master.key", litellm.master_key)
    assert "missing" not in broker.run_daemon("--init").ok()
    for name in ("LITELLM_BASE_URL", "LITELLM_MASTER_KEY_FILE"):
        del broker.env[name]
    broker.start()  # with the file alone, as it says


# --- hints that do not contradict each other ---

def test_refusal_that_is_tried_again_does_not_say_that_this_is_useless(make_broker, litellm):
    broker = make_broker(env={"LITELLM_TEAM_ID": "no-such-team"}, config=rule_all() +
                         'profile "x" { mode = shared models = { "gpt-5" } team_id = "no-such-team" }\n', timing=FAST).start()
    wait_until(lambda: broker.profile("x").get("error"), what="the refusal")
    done = broker.cli("get", "--profile", "x")
    assert done.code == 78 and "Try again in" in done.stderr and "not help" not in done.stderr


def test_admin_is_not_told_to_acquire(broker):
    done = broker.cli("revoke", "--lease", "nope")
    assert done.code == 65 and "acquire" not in done.stderr and "`keybroker leases`" in done.stderr


def test_rotation_that_a_stop_meets_goes_on_and_says_so(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", status=503, times=-1)
    with broker.cli_running("rotate") as rotation:
        wait_until(lambda: litellm.failures() and broker.admin("status")["keys"]["intent"], what="its intent")
        broker.stop()
        text = rotation.communicate(timeout=10)[1]
    assert rotation.returncode == 75 and "goes on when a broker is back" in text and "again" not in text
    litellm.clear()
    broker.start()
    wait_until(lambda: broker.wait_ready()["generation"] == 2, what="the rotation")


def test_denial_names_explain_once(make_broker):
    done = make_broker(config="").start().cli("get")
    assert done.code == 77 and done.stderr.count("keybroker explain") == 1


# --- small things ---

@pytest.mark.parametrize("args,code,name", [
    (("revoke",), 64, "usage"), (("nonsense",), 64, "usage"), (("exec", "--", "no-such-program"), 127, "not_found"),
    (("exec", "--", "/etc/passwd"), 126, "cannot_run"), (("import", "/nonexistent/f"), 66, "no_input"),
    (("revoke", "--uid", "999999"), 65, "data"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else None)
def test_errors_of_the_command_line_are_json_too(broker, args, code, name):
    done = broker.cli("--json", *args)
    assert done.code == code
    error = json.loads(done.stderr)
    assert error["code"] == name and error["message"]


def test_status_says_never_and_its_words_are_explained(broker):
    row, = [line for line in broker.cli("status").ok().splitlines() if line.startswith("service")]
    assert row.split()[-3:] == ["never", "no", "limit"]
    assert "waiting:" in broker.cli("help", "status").ok() and "fixed:" in broker.cli("help", "leases").ok()


@pytest.mark.parametrize("args,words", [
    (("rotate", "nope"), "`keybroker status` shows"), (("revoke", "--profile", "nope"), "`keybroker status` shows"),
    (("get", "--profile", "process", "--min-valid", "40d"), "--min-valid"),
], ids=["rotate", "revoke", "get"])
def test_refusal_names_the_way_out(broker, args, words):
    done = broker.cli(*args)
    assert done.code in (64, 65, 78) and words in done.stderr


def test_next_try_that_is_due_is_not_in_the_past(make_broker, litellm):
    litellm.fail(path="/key/generate", status=400, times=1)
    broker = make_broker(timing=FAST)
    broker.start()
    wait_until(lambda: broker.profile().get("error"), what="the refusal")
    litellm.fail(path="/key/generate", hang=True, times=-1)
    wait_until(lambda: broker.profile().get("retry_at_ms", 1 << 60) < time.time() * 1000 - 2000, 20, lambda: broker.profile())
    told = broker.cli("status").ok()
    assert "error" in told and "next try" not in told


def test_key_that_could_not_be_printed_leaves_no_lease(broker):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(broker.cli_command("get"), env=broker.cli_env(), stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=20, check=False)
    assert done.returncode == 74 and "No space left" in done.stderr
    assert broker.admin("leases")["leases"] == []


@pytest.mark.parametrize("variable,option", [("LITELLM_MAX_BUDGET", "max_budget"), ("LITELLM_RPM_LIMIT", "rpm_limit"),
                                             ("LITELLM_TPM_LIMIT", "tpm_limit")])
def test_limit_that_lets_nothing_through_is_warned_of(make_broker, variable, option):
    done = make_broker(env={variable: "0"}).run_daemon("--check")
    assert done.code == 0 and variable in done.stdout and f"has {option} 0" in done.stdout


def test_check_without_anything_names_the_file(make_broker):
    broker = make_broker(env={"LITELLM_BASE_URL": "", "LITELLM_MASTER_KEY": ""})
    done = broker.run_daemon("--check")
    assert done.code == 78 and broker.config_path in done.stderr


def test_state_directory_that_cannot_be_made_is_not_called_unsafe(make_broker):
    done = make_broker().run_daemon("--state-dir", "/etc/passwd/x")
    assert done.code == 78 and "/etc/passwd/x" in done.stderr and "not safe" not in done.stderr
