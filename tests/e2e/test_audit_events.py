"""Completeness: each thing that happens is driven once, and the rows are compared with a table."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import Closed, RpcError
from harness.users import STRANGER, as_user, need_root
from harness.wait import stays, wait_until

OLD = "sk-of-the-old-provisioner-0123456789"
STRAY = "sk-stray-of-this-install-0123456789"
TIMES = {**FAST, "grace_ms": 100, "duration_min_ms": 1000, "extend_floor_ms": 0}
PEER = {"uid", "gid", "pid", "start_time", "exe"}
KEY = {"profile", "key_tag"}
LEASE = {"rule", "profile", "lease"}
# (event, outcome) -> the columns that each such row fills, beside those that all do.
TABLE = {
    ("lead", "ok"): {"detail"},
    ("stop", "ok"): set(),
    ("reload", "ok"): {"detail"},
    ("reload", "failed"): {"detail"},
    ("acquire", "ok"): PEER | KEY | LEASE,
    ("acquire", "denied"): PEER | {"profile", "detail"},
    ("renew", "denied"): PEER | {"profile", "detail"},
    ("release", "ok"): KEY | LEASE | {"uid", "gid", "pid"},
    ("expire", "ok"): KEY | LEASE | {"uid", "gid", "pid", "detail"},
    ("revoke", "asked"): {"uid", "gid", "pid", "detail"},
    ("revoke", "ok"): {"uid", "gid", "pid", "detail"},
    ("mint", "ok"): KEY | {"detail"},
    ("mint", "refused"): KEY | {"detail"},
    ("extend", "ok"): KEY | {"detail"},
    ("rotate", "asked"): PEER | {"profile"},
    ("rotate", "ok"): KEY | {"detail"},
    ("rotate", "denied"): PEER | {"detail"},
    ("ack", "ok"): PEER | KEY | LEASE | {"detail"},
    ("report", "dead"): PEER | KEY | {"lease", "detail"},
    ("retire", "ok"): KEY | {"detail"},
    ("delete", "ok"): KEY | {"detail"},
    ("burn", "ok"): KEY | {"detail"},
    ("sweep", "ok"): {"key_tag", "detail"},
    ("legacy", "renamed"): KEY | {"detail"},
    ("import", "ok"): PEER | KEY | {"detail"},
    ("team", "made"): {"detail"},
    ("audit_read", "ok"): PEER | {"detail"},
    ("audit_follow", "ok"): PEER | {"detail"},
}
ALWAYS = {"sequence", "wall_ms", "boot_ms", "term", "instance", "event", "outcome", "hash"}


def config(*profiles, short="3s"):
    """Rules for these profiles; `closed` is nobody's."""
    names = ", ".join(f'"{name}"' for name in profiles)
    return MANY + f'rule "some" {{\n uid = {os.getuid()}\n profiles = {{ {names} }}\n}}\n' + "".join(
        f'profile "{name}" {{ mode = dedicated models = {{ "gpt-5" }} duration = "{life}" }}\n'
        for name, life in (("closed", "1h"), ("refused", "1h"), ("short", short)))


def seen(broker):
    """The rows as the database has them, without leaving rows by looking."""
    return broker.rows("SELECT * FROM audit ORDER BY sequence")


def wait_row(broker, event, outcome="ok", **wanted):
    """Waits for a row."""
    def found():
        return [row for row in seen(broker) if (row["event"], row["outcome"]) == (event, outcome)
                and all(row[name] == value for name, value in wanted.items())]
    return wait_until(found, 8, lambda: f"a row {event} {outcome} {wanted}; there are "
                      f"{sorted({(row['event'], row['outcome']) for row in seen(broker)})}")[-1]


def refused(code, call, method, **params):
    """The call ends with this error."""
    with pytest.raises(RpcError) as problem:
        call(method, **params)
    assert problem.value.code == code
    return problem.value


def drive_leases(broker):
    """acquire, release three ways, expire, revoke, extend, renew."""
    lease = broker.acquire(profile="process")["lease"]
    broker.call("release", lease=lease)
    wait_row(broker, "release", lease=lease)
    with Holder(broker) as peer:
        lease = peer.call("acquire")["lease"]
    assert wait_row(broker, "release", lease=lease)["detail"] == "its process has ended"
    lease = broker.acquire(profile="process", bind="ttl", ttl_ms=1000)["lease"]
    wait_row(broker, "expire", lease=lease)
    lease = broker.acquire(profile="short")["lease"]
    wait_row(broker, "extend", profile="short")
    broker.admin("revoke", lease=lease)
    row = wait_row(broker, "revoke", lease=lease, rule="some")
    assert f"held by uid {os.getuid()}, pid {os.getpid()}" in row["detail"] and row["key_tag"]


def die_reported(broker, litellm):
    """A key that is gone upstream, and a report of it: was that how it was found out?"""
    reply = broker.acquire(profile="process")
    litellm.admin("POST", "/key/delete", {"keys": [key_hash(reply["api_key"])]})
    with contextlib.suppress(RpcError):
        broker.call("report", lease=reply["lease"], status=401)
    return [row for row in seen(broker) if row["event"] == "report"]


def drive_keys(broker, litellm):
    """Mints that go wrong, rotation, import, the sweep."""
    litellm.fail(path="/key/generate", status=400, times=1)
    refused("upstream_refused", broker.call, "acquire", profile="refused")
    wait_row(broker, "mint", "refused", profile="refused")
    count = len(litellm.calls("/key/generate"))
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) > count, what="the POST")
    wait_row(broker, "retire", profile="process")
    lease = broker.acquire()["lease"]
    broker.admin("rotate", profile="service")
    broker.call("ack", lease=lease, generation=broker.acquire(lease=lease)["generation"])
    wait_until(lambda: die_reported(broker, litellm), what="a death that was reported before the sweep has seen it")
    broker.admin("import", profile="service", token=OLD, alias="agents-service")
    assert wait_row(broker, "retire", profile="service")["detail"].endswith("an imported key takes its place")
    litellm.add_key(STRAY, key_alias="stray", user_id=broker.user_id)
    wait_row(broker, "sweep", key_tag=broker.tag(STRAY))


def drive_burn(broker, litellm):
    """A broker that is killed in the middle of a mint: the next one makes sure of that key."""
    count = len(litellm.calls("/key/generate"))
    litellm.fail(path="/key/generate", delay_ms=200)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) > count, what="the POST")
        broker.kill()
    broker.start()
    burned = wait_row(broker, "burn", profile="process")
    wait_row(broker, "delete", key_tag=burned["key_tag"])


def drive_admin(broker):
    """Readings, reloads good and bad, and what is refused."""
    broker.admin("audit_read")
    with broker.rpc(admin=True) as connection:
        connection.call("audit_follow")
    refused("denied", broker.call, "acquire", profile="closed")
    refused("denied", broker.call, "rotate", profile="service")
    lease = broker.acquire(profile="process", bind="ttl")["lease"]
    broker.write_config(config("service", "short"))
    broker.admin("reload")
    refused("denied", broker.call, "renew", lease=lease)
    broker.write_config("nonsense {")
    refused("invalid_request", broker.admin, "reload")
    broker.write_config(config("service", "process", "short", "refused"))


def test_each_event_has_its_row_and_its_columns(make_broker, litellm):
    litellm.add_key(OLD, key_alias="agents-service", models=["gpt-5"])
    broker = make_broker(config("service", "process", "short", "refused"), env=DROPIN, timing=TIMES).start()
    broker.secrets.update({OLD, STRAY})
    broker.wait_ready()
    drive_leases(broker)
    drive_keys(broker, litellm)
    drive_burn(broker, litellm)
    drive_admin(broker)
    broker.restart()
    rows = seen(broker)
    assert {(row["event"], row["outcome"]) for row in rows} == set(TABLE)
    for row in rows:
        filled = {name for name, value in row.items() if value not in ("", -1, 0)}
        filled |= {name for name in ("uid", "gid") if row[name] == 0}  # root's
        wanted = ALWAYS | TABLE[row["event"], row["outcome"]]
        assert wanted <= filled, (row, wanted - filled)
    assert [row["term"] for row in rows if row["event"] == "lead"] == [1, 2, 3]


def test_every_key_made_upstream_has_a_mint_row(make_broker, litellm):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    first = broker.acquire()["api_key"]
    broker.admin("rotate", profile="service")
    second = broker.acquire()["api_key"]
    own = broker.acquire(profile="process")
    made = {row["key_tag"]: row for row in broker.audit(event="mint", outcome="ok")}
    assert {broker.tag(key) for key in (first, second, own["api_key"])} == set(made)
    row = made[broker.tag(own["api_key"])]
    assert (row["lease"], row["uid"], row["pid"]) == (own["lease"], os.getuid(), os.getpid()) and row["rule"]


def test_key_that_nobody_waited_for_any_more_has_both_rows(make_broker, litellm):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: litellm.calls("/key/generate")[1:], what="the POST")
    retired = wait_row(broker, "retire", profile="process")
    assert wait_row(broker, "mint", profile="process")["key_tag"] == retired["key_tag"]


def test_lead_row_names_who_led_before(make_broker):
    broker = make_broker().start()
    pids = [broker.pid]
    broker.stop()
    broker.start()
    pids.append(broker.pid)
    broker.kill()
    broker.start()
    first, second, third = broker.audit(event="lead")
    holder = broker.rows("SELECT holder FROM leader")[0]["holder"]
    assert first["detail"].endswith("; the first") and f"pid {pids[0]}" in first["detail"]
    assert second["detail"].endswith("; term 1 of instance main was given up")
    before = second["detail"].split("term 2 of ")[1].split(",")[0]
    assert third["detail"] == f"term 3 of {holder}, pid {broker.pid}; term 2 of {before}, pid {pids[1]}, instance main was taken over"


def test_first_row_of_a_term_says_whose_it_is_though_the_first_turn_is_refused(make_broker):
    """Another process has the lock just then; the release of a lease whose process is gone waits for the same turn."""
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    with Holder(broker) as holder:
        holder.call("acquire", profile="service")
        broker.kill()
    broker.spawn(env={"KEYBROKER_FAIL": "lead.after_claim:stop"})
    wait_until(lambda: broker.rows("SELECT term FROM leader")[0]["term"] == 2 and broker.is_stopped, what="the claim")
    with broker.locked():
        broker.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "cannot be recorded now" in broker.log_since_start, what="a refused turn")
    wait_row(broker, "release", term=2)
    assert [row["event"] for row in broker.audit() if row["term"] == 2][:2] == ["lead", "release"]


def test_reload_row_counts_what_changed(make_broker, litellm):
    broker = make_broker(config("service", "process", short="1h"), env=DROPIN).start()
    broker.wait_ready()
    text = config("service", short="2h").replace('"closed" { mode', '"opened" { mode')
    broker.write_config(text + "limits { leases = 7 }\n" + rule_all("more"))
    broker.reload()
    row = wait_row(broker, "reload")
    assert row["detail"] == ("SIGHUP: 5 profiles (1 added, 1 removed, 1 changed), 2 rules (1 added, 0 removed, 1 changed),"
                             " 1 setting changed") and row["uid"] == -1
    broker.admin("reload")
    row = broker.audit(event="reload")[-1]
    assert "0 added, 0 removed, 0 changed), 2 rules (0 added, 0 removed, 0 changed), 0 settings" in row["detail"]
    assert row["uid"] == os.getuid()


def test_failed_reload_says_why(make_broker):
    broker = make_broker().start()
    broker.write_config("profile {")
    broker.reload()
    row = wait_row(broker, "reload", "failed")
    assert row["detail"].startswith("SIGHUP: ") and "keybroker.conf:1" in row["detail"]
    problem = refused("invalid_request", broker.admin, "reload")
    assert broker.audit(event="reload", outcome="failed")[-1]["detail"] in problem.text


def test_denials_become_one_row_at_the_windows_end(make_broker):
    broker = make_broker(config("service"), env=DROPIN, timing={**TIMES, "denial_window_ms": 400}).start()
    broker.wait_ready()
    for _ in range(5):
        refused("denied", broker.call, "acquire", profile="closed")
        refused("denied", broker.call, "revoke", profile="service")
    denied = "SELECT event, profile, detail FROM audit WHERE outcome = 'denied' ORDER BY sequence"
    assert [row["detail"] for row in broker.rows(denied)][:2] == ["no rule allows it, and none names the profile", "an admin method on the clients' socket"]
    wait_until(lambda: len(broker.rows(denied)) == 4, 3, "the counts")
    assert [(row["event"], row["profile"]) for row in broker.rows(denied)[2:]] == [("acquire", "closed"), ("revoke", "")]
    assert {row["detail"] for row in broker.rows(denied)[2:]} == {"4 more within a minute"}
    stays(lambda: len(broker.rows(denied)) == 4, 0.6)
    refused("denied", broker.call, "acquire", profile="closed")
    assert len(broker.rows(denied)) == 5


def test_stranger_on_the_admin_socket_is_on_record(make_broker):
    """Somebody opened its modes: the broker still refuses, and says who came."""
    need_root()
    broker = make_broker().start()
    for path in (broker.path("run"), os.path.dirname(broker.admin_socket), broker.admin_socket):
        os.chmod(path, 0o777)

    def ask():
        with broker.rpc(admin=True) as connection:
            with pytest.raises(RpcError) as problem:
                connection.call("status")
            with contextlib.suppress(Closed, BrokenPipeError):
                connection.call("whoami")
                return "served"
            return problem.value.code
    assert as_user(STRANGER, ask) == "denied"
    row, = broker.audit(event="admin", outcome="denied")
    assert (row["uid"], row["detail"]) == (STRANGER, "the admin socket is not for this uid")


HOSTILE = '''
import sys, os
sys.path.insert(0, sys.argv[1])
from harness.rpc import Connection
print(Connection(sys.argv[2]).call("acquire")["lease"])
'''


def test_program_with_a_hostile_path_does_not_make_the_audit_unreadable(broker):
    """A path is any bytes; what is sent and stored as text is UTF-8."""
    directory = os.fsencode(broker.path("files")) + b"/\xff\xc3(\xe2\x82"
    os.mkdir(directory)
    program = directory + b"/python3"
    shutil.copy(os.path.realpath(sys.executable), program)
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run([program, "-c", HOSTILE, here, broker.socket], capture_output=True, check=True,
                          env={**os.environ, "PYTHONHOME": sys.base_prefix})
    row = next(row for row in broker.audit(event="acquire") if row["lease"] == done.stdout.decode().strip())
    assert row["exe"] == os.fsdecode(os.fsencode(broker.path("files"))) + "/??(??/python3"
    assert broker.rows("SELECT exe FROM audit WHERE lease = ?", row["lease"])[0]["exe"] == row["exe"]


def test_revocation_by_a_short_hash_names_the_key(broker):
    key = broker.acquire()["api_key"]
    broker.admin("revoke", key_hash=key_hash(key)[:8])
    row = [row for row in broker.audit(event="revoke") if row["detail"].startswith("by key")][-1]
    assert row["key_tag"] == broker.tag(key) and row["profile"] == "service"
