"""`listen` sections: sockets whose mount is the grant, and that outlive each instance like the others."""

import ctypes
import os
import signal
import socket

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.instances import Instances
from harness.rpc import Connection, RpcError
from harness.service import Manager
from harness.users import STRANGER, in_child, need_root
from harness.wait import wait_until

MODELS = {"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"}


def web(broker, profiles='"service"', more=""):
    """A section with a socket in a directory that is closed to all others on this host."""
    return (f'listen "web" {{ path = "{broker.path("files/web/keybroker/keybroker.sock")}" '
            f'profiles = {{ {profiles} }} {more} }}\n')


@pytest.fixture
def mounted(make_broker):
    """-> make(config, more): a running broker with that section; .web is its socket's path."""
    def make(profiles='"service"', more="", start=True, **options):
        broker = make_broker(env=MODELS, **options)
        broker.web = broker.path("files/web/keybroker/keybroker.sock")
        broker.write_config(MANY + rule_all() + web(broker, profiles, more))
        return broker.start() if start else broker
    return make


def call(path, method, **params):
    """One call on a connection of its own."""
    with Connection(path) as connection:
        return connection.call(method, **params)


def in_container(broker, uid, work):
    """work(path) as this uid, where the socket's directory is mounted; -> its value."""
    def become():
        libc = ctypes.CDLL(None, use_errno=True)
        here = broker.path("home")
        assert libc.unshare(0x00020000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
        assert libc.mount(os.path.dirname(broker.web).encode(), here.encode(), None, 0x1000, None) == 0
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    return in_child(lambda: work(broker.path("home/keybroker.sock")), become)


def test_root_of_a_container_has_nothing_to_do_with_the_hosts_root(mounted):
    """Same uid, other leases, other limits, and nothing is heard of them."""
    broker = mounted(timing=FAST)
    broker.wait_ready()
    params = {"bind": "ttl", "ttl_ms": 3000, "request_id": "the-same"}
    host, own = broker.acquire(**params), call(broker.web, "acquire", **params)
    assert host["lease"] != own["lease"] and host["api_key"] == own["api_key"]
    with Connection(broker.web) as inside, broker.rpc() as outside:
        for connection in (inside, outside):
            connection.call("watch", scope="uid")
        broker.admin("rotate", profile="service")
        heard = {}
        for name, connection in (("inside", inside), ("outside", outside)):
            connection.wait_notifications(2, timeout=10)  # rotated, expiring
            heard[name] = {notification[1][0]["lease"] for notification in connection.notifications}
        assert heard == {"inside": {own["lease"]}, "outside": {host["lease"]}}
        for method, more in (("acquire", {}), ("renew", {}), ("report", {"status": 401}), ("ack", {"generation": 2}), ("release", {})):
            for connection, lease in ((inside, host), (outside, own)):
                with pytest.raises(RpcError) as refusal:
                    connection.call(method, lease=lease["lease"], **more)
                assert refusal.value.code == "unknown_lease", method
    assert broker.call("release", lease=host["lease"])["released"] and call(broker.web, "release", lease=own["lease"])["released"]


def test_container_has_limits_of_its_own_after_a_restart_too(mounted):
    broker = mounted()
    broker.write_config("limits { leases = 2 }\n" + rule_all() + web(broker))
    broker.restart()
    leases = [call(broker.web, "acquire", bind="ttl") for _ in range(2)]
    broker.restart()
    with pytest.raises(RpcError) as refusal:
        call(broker.web, "acquire", bind="ttl")
    assert refusal.value.code == "limit_exceeded"
    assert broker.acquire(bind="ttl")["api_key"] and call(broker.web, "renew", lease=leases[0]["lease"])["lease_ends_at_ms"]


def test_mount_is_the_grant_and_rules_are_not_asked(mounted):
    need_root("to mount")
    broker = mounted(more='base_url = "http://127.0.0.1:9/inside" ttl_cap = "1m"')
    for uid in (0, STRANGER):  # root, who may have everything by a rule, is no more than others here
        def use(path):
            seen = call(path, "whoami")
            got = call(path, "acquire", bind="ttl", ttl_ms=3600000)
            refused = []
            for method, params in (("acquire", {"profile": "process"}), ("status", {}),
                                   ("explain", {"profile": "service", "uid": 0})):
                with pytest.raises(RpcError) as refusal:
                    call(path, method, **params)
                refused.append(refusal.value.code)
            return seen, got, refused, call(path, "list")["profiles"], call(path, "explain", profile="process")
        seen, got, refused, profiles, explained = in_container(broker, uid, use)
        assert (seen["uid"], seen["listen"], seen["rules"]) == (uid, "web", ["web"])
        broker.remember(got)
        assert got["base_url"].endswith("/inside") and refused == ["denied"] * 3
        assert [(p["name"], p["rule"]) for p in profiles] == [("service", "web")]
        assert not explained["allowed"] and [r["rule"] for r in explained["rules"]] == ["web"]
    rows = broker.audit(event="acquire", outcome="ok")
    assert {(row["uid"], row["rule"]) for row in rows} == {(0, "web"), (STRANGER, "web")}
    lease = broker.admin("leases")["leases"][0]
    assert lease["rule"] == "web" and lease["ends_at_ms"] - lease["granted_at_ms"] <= 60000


def test_nobody_on_the_host_gets_to_the_socket(mounted):
    need_root()
    broker = mounted()
    assert os.stat(broker.web).st_mode & 0o777 == 0o666
    assert os.stat(broker.path("files/web")).st_mode & 0o777 == 0o700
    with pytest.raises(PermissionError):
        in_child(lambda: call(broker.web, "whoami"), lambda: os.setresuid(STRANGER, STRANGER, STRANGER))
    assert "each user of this host" not in broker.log


def test_open_place_is_warned_of_and_a_group_closes_it(mounted):
    need_root()
    broker = mounted(start=False)
    path, other = broker.path("home/a.sock"), broker.path("home/b.sock")
    broker.write_config(f'listen "open" {{ path = "{path}" profiles = {{ "*" }} }}\n'
                        f'listen "theirs" {{ path = "{other}" group = 77 profiles = {{ "*" }} }}\n')
    broker.start()
    assert f'listen "open": each user of this host can reach {path}' in broker.log and other not in broker.log
    status = os.stat(other)
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, 77)
    as_stranger = lambda: os.setresuid(STRANGER, STRANGER, STRANGER)  # noqa: E731
    assert in_child(lambda: call(path, "whoami"), as_stranger)["listen"] == "open"
    with pytest.raises(PermissionError):
        in_child(lambda: call(other, "whoami"), lambda: (os.setgroups([]), as_stranger()))


def test_each_socket_is_handed_over(mounted):
    broker = mounted(start=False, timing=FAST)
    instances = Instances(broker)
    try:
        a, b = instances.start("a", "b")
        broker.wait_ready()
        inode = os.stat(broker.web).st_ino
        a.signal(signal.SIGSTOP)
        with Connection(broker.web) as waiting:  # in the backlog, whoever serves it then
            asked = waiting.send("acquire", bind="ttl")
            a.kill()
            broker.remember(waiting.result(asked))
        assert instances.wait_leader(a) is b and os.stat(broker.web).st_ino == inode
        c = instances.start("c")
        b.stop()
        assert call(broker.web, "whoami")["rules"] == ["web"] and instances.leader() is c
        assert os.stat(broker.web).st_ino == inode
    finally:
        instances.close()


def test_instance_with_one_section_more_makes_its_socket(mounted):
    """An instance that was started with the old file hands over what it has."""
    broker = mounted(start=False, timing=FAST)
    broker.write_config(MANY + rule_all())
    instances = Instances(broker)
    try:
        a = instances.start("a")
        inode = os.stat(broker.socket).st_ino
        broker.write_config(MANY + rule_all() + web(broker))
        b = instances.start("b")
        assert not os.path.exists(broker.web)
        a.kill()
        assert instances.wait_leader(a) is b
        assert call(broker.web, "whoami")["rules"] == ["web"] and os.stat(broker.socket).st_ino == inode
    finally:
        instances.close()


def test_removed_socket_is_made_anew(mounted):
    broker = mounted(timing=FAST)
    os.unlink(broker.web)
    wait_until(lambda: os.path.exists(broker.web), what="the socket")
    assert call(broker.web, "whoami")["listen"] == "web"


def test_reload_changes_the_grant_and_says_what_waits(mounted):
    broker = mounted()
    assert broker.admin("reload").get("restart") is None
    broker.write_config(MANY + rule_all() + web(broker, '"process"'))
    assert broker.admin("reload").get("restart") is None
    assert [p["name"] for p in call(broker.web, "list")["profiles"]] == ["process"]
    broker.write_config(MANY + rule_all())
    for _ in range(2):
        assert broker.admin("reload")["restart"] == ["listen"]
    assert call(broker.web, "whoami")["rules"] == [] and call(broker.web, "list")["profiles"] == []
    broker.write_config(MANY + rule_all() + web(broker).replace("files/web", "files/other"))
    assert broker.admin("reload")["restart"] == ["listen"]


@pytest.mark.parametrize("what", ["path", "group"])
def test_grant_of_another_socket_waits_with_it(mounted, what):
    """A section's new grant is for who can reach its new socket: the old one gets none of it."""
    broker = mounted()
    other = broker.path("files/other.sock")
    if what == "path":  # two sections change names: each socket has the profile that it had
        broker.stop()
        swapped = [web(broker), f'listen "jobs" {{ path = "{other}" profiles = {{ "process" }} }}\n']
        broker.write_config(MANY + rule_all() + "".join(swapped))
        broker.start()
        names = "".join(swapped).replace('"web"', '"x"').replace('"jobs"', '"web"').replace('"x"', '"jobs"')
        broker.write_config(MANY + rule_all() + names)
    else:
        broker.write_config(MANY + rule_all() + web(broker, '"*"', "group = 77"))
    assert broker.admin("reload")["restart"] == ["listen"]
    with pytest.raises(RpcError) as refusal:
        call(broker.web, "acquire", profile="process", bind="ttl")
    assert refusal.value.code == "denied" and call(broker.web, "list")["profiles"] == []
    if what == "path":
        broker.stop()
        broker.start()
        assert [p["name"] for p in call(broker.web, "list")["profiles"]] == ["service"]
        assert [p["name"] for p in call(other, "list")["profiles"]] == ["process"]


def test_administrator_asks_about_a_peer_of_the_socket(mounted):
    broker = mounted()
    told = broker.cli("explain", "service", "--as", f"uid={STRANGER},listen=web").ok()
    assert "yes, by rule web" in told
    done = broker.cli("explain", "process", "--as", f"uid={STRANGER},listen=web")
    assert done.code == 77 and "it does not name this profile" in done.stdout
    done = broker.cli("explain", "service", "--as", f"uid={STRANGER},listen=nosuch")
    assert done.code == 64 and 'no listen section is called "nosuch"' in done.stderr and done.stdout == "", done


def test_service_manager_passes_it_too(make_broker, litellm):
    need_root()
    manager = Manager(make_broker(), litellm)
    try:
        path = manager.broker.path("web.sock")
        with open(manager.config, "a", encoding="utf-8") as file:
            file.write(f'listen "web" {{ path = "{path}" profiles = {{ "service" }} }}\n')
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listening.bind(path)
        os.chmod(path, 0o666)
        listening.listen(100)
        manager.sockets.append(listening)
        inode = os.stat(path).st_ino
        manager.start("a", "b")
        for last in (False, True):
            assert call(path, "whoami")["rules"] == ["web"] and os.stat(path).st_ino == inode
            if not last:
                manager.processes["a"].kill()
        assert "none of ours" not in manager.log("a") + manager.log("b")
    finally:
        manager.close()
