"""The other verbs: formats, exit codes, and messages that say what to do."""

import grp
import json
import os
import shlex
import socket
import stat
import subprocess
import tempfile

import pytest

from harness.broker import FAST, KEY, MANY, key_hash, rule_all
from harness.upstream import row_of, wait_gone
from harness.users import STRANGER, need_root
from harness.wait import wait_until


# --- get ---

def test_get_prints_the_key_alone(broker, litellm):
    done = broker.cli("get")
    assert KEY.fullmatch(done.ok().removesuffix("\n")) and done.stdout.count("\n") <= 1 and done.stderr == ""
    assert litellm.chat(done.stdout.strip())[0] == 200
    lease, = broker.admin("leases")["leases"]
    assert lease["bind"] == "ttl" and lease["profile"] == "service"


def test_get_env_is_for_eval(broker, litellm):
    out = broker.cli("get", "--format", "env").ok()
    words = [word for word in shlex.split(out.replace("\n", " ")) if "=" in word]
    values = dict(word.split("=", 1) for word in words)
    assert values["OPENAI_BASE_URL"] == litellm.url + "/v1" and litellm.chat(values["OPENAI_API_KEY"])[0] == 200
    shown = subprocess.run(["sh", "-c", 'eval "$1"; printf %s "$OPENAI_API_KEY"', "sh", out],
                           capture_output=True, text=True, check=True).stdout
    assert shown == values["OPENAI_API_KEY"]


@pytest.mark.parametrize("args", [("--format", "json"), ("--json",)])
def test_get_json_has_all_of_it(broker, litellm, args):
    reply = broker.cli("get", *args).json()
    assert litellm.chat(reply["api_key"])[0] == 200
    assert reply["base_url"] == litellm.url + "/v1" and reply["profile"] == "service" and reply["generation"] == 1
    assert reply["lease"] and reply["lease_ends_at_ms"]


def test_get_of_another_profile_and_ttl(broker, litellm):
    done = broker.cli("get", "--profile", "process", "--ttl", "1s")
    key = done.ok().strip()
    assert row_of(litellm, key)
    wait_gone(litellm, key, 4)


@pytest.mark.parametrize("args", [("--format", "xml"), ("--ttl", "soon"), ("extra",), ("--profile", "")])
def test_get_used_wrongly_is_64(broker, args):
    done = broker.cli("get", *args)
    assert done.code == 64 and done.stdout == "" and done.stderr


def test_get_that_is_denied_is_77(make_broker):
    broker = make_broker(config="").start()
    done = broker.cli("get")
    assert done.code == 77 and done.stdout == "" and "service" in done.stderr


def test_get_without_upstream_is_69_or_75(make_broker, own_litellm):
    own_litellm.stop()
    broker = make_broker(upstream=own_litellm, timing={**FAST, "acquire_wait_ms": 300}).start()
    done = broker.cli("get", "--timeout", "1")
    assert done.code in (69, 75) and done.stdout == "" and done.stderr


# --- the others ---

def test_list_and_whoami(broker):
    text = broker.cli("list").ok()
    assert "service" in text and "process" in text and "shared" in text
    assert {p["name"] for p in broker.cli("list", "--json").json()["profiles"]} == {"service", "process"}
    seen = broker.cli("whoami", "--json").json()
    assert seen["uid"] == os.getuid() and seen["pid"] > 0
    assert str(os.getuid()) in broker.cli("whoami").ok()


def test_status(broker, litellm):
    text = broker.cli("status").ok()
    assert "service" in text and litellm.url in text and "agents-service" in text
    status = broker.cli("status", "--json").json()
    assert status["pid"] == broker.pid and {p["name"] for p in status["profiles"]} == {"service", "process"}


def test_rotate(broker, litellm):
    old = broker.acquire()["api_key"]
    made = broker.cli("rotate", "service", "--json").json()
    assert made["generation"] == 2 and made["alias"] == "agents-service"
    assert row_of(litellm, old)["key_alias"] == "agents-service.g1"
    assert "generation 3" in broker.cli("rotate").ok(), "without a name it is service"


@pytest.mark.parametrize("how", ["lease", "profile", "uid", "key_hash"])
def test_revoke(make_broker, litellm, how):
    broker = make_broker(timing=FAST).start()
    reply = broker.acquire(profile="process")
    value = {"lease": reply["lease"], "profile": "process", "uid": str(os.getuid()),
             "key_hash": key_hash(reply["api_key"])}[how]
    done = broker.cli("revoke", "--" + how.replace("_", "-"), value)
    assert done.code == 0, done
    wait_gone(litellm, reply["api_key"])
    assert "60" in done.stdout + done.stderr, "the tail in other processes is said"


def test_revoke_needs_exactly_one_target(broker):
    assert broker.cli("revoke").code == 64
    assert broker.cli("revoke", "--profile", "service", "--uid", "0").code == 64


def test_audit_read(broker):
    reply = broker.acquire()
    text = broker.cli("audit", "read").ok()
    assert "acquire" in text and "service" in text and str(os.getpid()) in text
    rows = _rows(broker.cli("audit", "read", "--json").ok())
    numbers = [row["sequence"] for row in rows]
    assert numbers == list(range(numbers[0], numbers[0] + len(rows)))
    assert [row for row in rows if row.get("lease") == reply["lease"]]


def _rows(out):
    """JSON lines, one array, or an object with rows."""
    try:
        value = json.loads(out)
    except ValueError:
        return [json.loads(line) for line in out.splitlines()]
    return value["rows"] if isinstance(value, dict) and "rows" in value else value if isinstance(value, list) else [value]


def test_audit_read_pages_through_everything(broker):
    with broker.rpc() as connection:
        for _ in range(120):
            connection.call("acquire")
    rows = _rows(broker.cli("audit", "read", "--after", "0", "--limit", "1000", "--json").ok())
    assert len([row for row in rows if row["event"] == "acquire"]) == 120
    latest = _rows(broker.cli("audit", "read", "--limit", "5", "--json").ok())
    assert [row["sequence"] for row in latest][:1] >= [row["sequence"] for row in rows][-6:][:1] and len(latest) == 5


@pytest.mark.parametrize("verb", [None, "exec", "get", "list", "whoami", "status", "rotate", "revoke", "import", "audit", "audit read"])
def test_help_needs_no_broker(make_broker, verb):
    broker = make_broker()
    done = broker.cli(*(verb.split() if verb else []), "--help")
    assert done.code == 0 and "keybroker" in done.stdout and (verb or "exec") in done.stdout and done.stderr == ""
    assert broker.cli("help", *(verb.split() if verb else [])).stdout == done.stdout
    if verb is None:
        for name in ("exec", "get", "list", "whoami", "status", "rotate", "revoke", "import", "audit"):
            assert name in done.stdout


@pytest.mark.parametrize("args", [(), ("no-such-verb",), ("status", "--no-such-option"), ("import",),
                                  ("audit",), ("audit", "paint")], ids=str)
def test_wrong_usage_is_64(broker, args):
    done = broker.cli(*args)
    assert done.code == 64 and done.stdout == "" and done.stderr


def test_version(make_broker):
    assert "0." in make_broker().cli("--version").ok()


# --- finding the broker ---

def test_no_broker_names_each_socket_and_how_to_start_one(make_broker):
    broker = make_broker()
    done = broker.cli("get")
    assert done.code == 69 and done.stdout == ""
    assert broker.socket in done.stderr and "/run/keybroker/keybroker.sock" in done.stderr
    assert "keybrokerd" in done.stderr


def test_socket_of_the_environment_and_of_the_option(broker):
    elsewhere = {"XDG_RUNTIME_DIR": "/nonexistent"}
    assert broker.cli("whoami", env=elsewhere).code == 69
    assert broker.cli("whoami", env={**elsewhere, "KEYBROKER_SOCKET": broker.socket}).code == 0
    assert broker.cli("whoami", env={**elsewhere, "KEYBROKER_SOCKET": "unix://" + broker.socket}).code == 0
    assert broker.cli("--socket", broker.socket, "whoami", env=elsewhere).code == 0
    wrong = broker.cli("whoami", env={"KEYBROKER_SOCKET": "/nonexistent/kb.sock"})
    assert wrong.code == 69 and "/nonexistent/kb.sock" in wrong.stderr and broker.socket not in wrong.stderr


def test_admin_socket_is_found_beside_the_clients(broker):
    elsewhere = {"XDG_RUNTIME_DIR": "/nonexistent"}
    assert broker.cli("--socket", broker.socket, "status", env=elsewhere).code == 0
    assert broker.cli("status", env={**elsewhere, "KEYBROKER_ADMIN_SOCKET": broker.admin_socket}).code == 0
    assert broker.cli("--admin-socket", broker.admin_socket, "status", env=elsewhere).code == 0


def test_permission_denied_names_the_group_to_join(make_broker):
    need_root()
    broker = make_broker(config=MANY + rule_all()).start()
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o660)
    os.chown(broker.socket, -1, 1)
    done = broker.cli("--socket", broker.socket, "get", user=STRANGER)
    assert done.code == 77 and done.stdout == ""
    assert f"join the group {grp.getgrgid(1).gr_name} (" in done.stderr
    os.chown(broker.socket, -1, 65534)  # what the kernel cannot name in this user namespace
    done = broker.cli("--socket", broker.socket, "get", user=STRANGER)
    assert done.code == 77 and "its owner's alone" in done.stderr and "usermod" not in done.stderr
    os.chmod(os.path.dirname(broker.socket), 0o700)
    done = broker.cli("--socket", broker.socket, "get", user=STRANGER)
    assert done.code == 77 and "its owner's alone" in done.stderr and "usermod" not in done.stderr
    done = broker.cli("--socket", "/etc/passwd", "get", user=STRANGER)
    assert done.code == 69 and "is not a socket" in done.stderr and "usermod" not in done.stderr


def test_client_socket_of_a_foreign_server_is_refused(make_broker):
    need_root()
    broker = make_broker()
    directory = tempfile.mkdtemp(prefix="kb-", dir="/tmp")
    path = os.path.join(directory, "kb.sock")
    try:
        os.chown(directory, STRANGER, STRANGER)
        os.chmod(directory, 0o755)
        _with_foreign_server(broker, path)
    finally:
        if os.path.exists(path):
            os.unlink(path)
        os.rmdir(directory)


def _with_foreign_server(broker, path):
    """Another uid listens; a client that trusted it would send its request."""
    script = ("import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o666);"
              "s.listen(); print('up', flush=True); s.settimeout(20); c, _ = s.accept(); print(len(c.recv(4096)), flush=True)")
    server = subprocess.Popen(["/usr/bin/python3", "-c", script, path], stdout=subprocess.PIPE, text=True,
                              user=STRANGER, group=STRANGER, extra_groups=[])
    try:
        assert server.stdout.readline() == "up\n"
        done = broker.cli("--socket", path, "get", timeout=10)
        assert done.code == 77 and path in done.stderr and done.stdout == ""
        assert str(STRANGER) in done.stderr
    finally:
        server.kill()
        server.communicate()


def test_server_uid_variable_names_whom_to_trust(make_broker):
    need_root()
    broker = make_broker(config=MANY + f'rule "r" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n' + rule_all()).start()
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o666)
    assert broker.cli("get", user=STRANGER, env={"KEYBROKER_SERVER_UID": "4242"}).code == 0, "root is always trusted"


def test_socket_in_a_directory_that_others_can_write_is_refused(broker):
    directory = os.path.dirname(broker.socket)
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    os.chmod(directory, 0o777)
    try:
        done = broker.cli("whoami")
    finally:
        os.chmod(directory, mode)
    assert done.code == 77 and directory in done.stderr


def test_backlog_without_a_broker_meets_the_deadline(make_broker):
    broker = make_broker()
    path = broker.path("files/silent.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        done = broker.cli("--socket", path, "get", "--timeout", "1", timeout=20)
    assert done.code in (69, 75) and path in done.stderr and done.stdout == ""


def test_server_that_speaks_something_else_is_an_error(make_broker):
    broker = make_broker()
    path = broker.path("files/other.sock")
    script = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up', flush=True);"
              "c, _ = s.accept(); c.recv(4096); c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n'); c.recv(4096)")
    server = subprocess.Popen(["/usr/bin/python3", "-c", script, path], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "up\n"
        done = broker.cli("--socket", path, "whoami", timeout=20)
        assert done.code == 76 or done.code in (69, 70), done
        assert done.stdout == "" and done.stderr
    finally:
        server.kill()
        server.communicate()


def test_cli_waits_for_a_broker_that_restarts(make_broker, litellm):
    """A connection that is lost in the middle is made again with the same request id."""
    broker = make_broker(timing={**FAST, "takeover_ms": 10000}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=600)
    with broker.cli_running("get", "--profile", "process", "--ttl", "60s") as program:
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the POST")
        broker.kill()
        broker.start()
        key = program.stdout.readline().strip()
        assert program.wait(10) == 0
    broker.issued.add(key)
    assert litellm.chat(key)[0] == 200
    assert len([k for k in litellm.keys() if k["key_alias"] != "agents-service"]) == 1


@pytest.mark.parametrize("args", [("list",), ("whoami",), ("status",), ("leases",), ("rotate",), ("reload",), ("version",),
                                  ("revoke", "--uid", str(os.getuid())), ("audit", "read", "--limit", "1"), ("get",)], ids=" ".join)
def test_json_everywhere(make_broker, args):
    broker = make_broker(config=MANY + rule_all()).start()
    broker.wait_ready()
    broker.acquire()
    done = broker.cli(*args, "--json")
    assert done.code == 0, done
    assert json.loads(done.stdout.splitlines()[0] if args[0] == "audit" else done.stdout)


def test_error_as_json(broker):
    done = broker.cli("get", "--profile", "nothing-like-it", "--json")
    assert done.code != 0 and done.stdout == "" and json.loads(done.stderr)["code"] == "unknown_profile"


def test_leases_and_reload(broker):
    broker.acquire()
    assert str(os.getpid()) in broker.cli("leases").ok()
    assert "2 profiles" in broker.cli("reload").ok()
