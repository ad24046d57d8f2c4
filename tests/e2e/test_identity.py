"""Who is at the other end: units, executable, processes that have gone, foreign pid namespaces."""

import contextlib
import os
import shutil
import subprocess
import time

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.cgroups import units
from harness.holder import Holder
from harness.instances import Instance
from harness.rpc import Connection, RpcError
from harness.users import STRANGER, as_user, need_root
from harness.wait import wait_until

MASKED = {"KEYBROKER_NO_PEERPIDFD": "1"}  # as on Linux before 6.5
BOTH = pytest.mark.parametrize("env", [{}, MASKED], ids=["pidfd", "by-number"])


@pytest.fixture
def cgroups():
    """Makes cgroups named like units."""
    with units() as make:
        yield make


@pytest.fixture
def ruled(make_broker):
    """Makes a running broker with these rules that everybody can reach."""
    def make(rules, **options):
        env = options.pop("env", None)
        broker = make_broker(config=MANY + rules, env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"}, **options)
        broker.start(env=env)
        broker.wait_ready()
        os.chmod(os.path.dirname(broker.socket), 0o755)
        os.chmod(broker.socket, 0o666)
        return broker
    return make


def code(work):
    """The code that a call fails with, and its text; ("", "") if it does not."""
    try:
        work()
    except RpcError as refusal:
        return refusal.code, refusal.text
    return "", ""


@contextlib.contextmanager
def peer_in(broker, cgroup, uid=None):
    """A process in this cgroup before it connects."""
    with Holder(broker, uid=uid) as peer:
        cgroup.add(peer.pid)
        yield peer


# --- units and executable ---

def test_units_and_executable_are_seen_and_on_record(ruled, cgroups):
    need_root()
    broker = ruled(rule_all())
    system = cgroups("kb-web.service")
    user = cgroups("user-1000.slice", "user@1000.service", "app.slice", "kb-agent.service")
    with peer_in(broker, system) as web, peer_in(broker, user) as agent, Holder(broker) as nobody:
        seen = web.call("whoami")
        assert seen["unit"] == "kb-web.service" and "user_unit" not in seen
        assert seen["exe"] == os.readlink("/proc/self/exe") and "exe_elsewhere" not in seen
        seen = agent.call("whoami")
        assert (seen["unit"], seen["user_unit"]) == ("user@1000.service", "kb-agent.service")
        assert "unit" not in nobody.call("whoami")
        for peer in (web, agent, nobody):
            peer.call("acquire", bind="ttl")
    rows = broker.audit(event="acquire")
    assert [row.get("unit", "") for row in rows] == ["kb-web.service", "user@1000.service/kb-agent.service", ""]
    assert {row["exe"] for row in rows} == {os.readlink("/proc/self/exe")}
    for unit in ("kb-web.service", "user@1000.service", "kb-agent.service"):
        found = broker.cli("--json", "audit", "read", "--unit", unit, "--event", "acquire").json()["rows"]
        assert len(found) == 1 and unit in found[0]["unit"], unit
    assert f"{os.getuid()}/{rows[0]['pid']} kb-web.service" in broker.cli("audit", "read", "--event", "acquire").ok()
    assert broker.cli("--json", "audit", "read", "--unit", "kb-web").json()["rows"] == []


def test_rule_by_unit(ruled, cgroups):
    need_root()
    broker = ruled('rule "web" { unit = "kb-web-*.service" profiles = { "service" } }\n')
    with peer_in(broker, cgroups("kb-web-1.service"), STRANGER) as web, \
            peer_in(broker, cgroups("kb-other.service"), STRANGER) as other, \
            peer_in(broker, cgroups("user-1.slice", "user@1.service", "kb-web-1.service"), STRANGER) as imitator, \
            Holder(broker, STRANGER) as none:
        assert web.call("acquire")["api_key"] and web.call("whoami")["rules"] == ["web"]
        for peer in (other, imitator, none):
            assert code(lambda peer=peer: peer.call("acquire"))[0] == "denied"


def test_rule_by_user_unit(ruled, cgroups):
    need_root()
    broker = ruled(f'rule "agents" {{ uid = {STRANGER} user_unit = "kb-agent*" profiles = {{ "service" }} }}\n')
    below = ("user-1.slice", "user@1.service", "app.slice")
    with peer_in(broker, cgroups(*below, "kb-agent.service"), STRANGER) as agent, \
            peer_in(broker, cgroups(*below, "kb-other.service"), STRANGER) as other, \
            peer_in(broker, cgroups("kb-agent.service"), STRANGER) as system, \
            peer_in(broker, cgroups(*below, "kb-agent.service"), STRANGER + 1) as another:
        assert agent.call("acquire")["api_key"]
        for peer in (other, system, another):
            assert code(lambda peer=peer: peer.call("acquire"))[0] == "denied"


def test_rule_by_executable(ruled):
    """The program itself, and neither another, nor another file that has its path elsewhere."""
    need_root()
    broker = ruled("")
    own = os.path.join(broker.root, "agent")
    shutil.copy(broker.cli_command()[0], own)
    os.chmod(own, 0o755)
    broker.write_config(MANY + f'rule "agent" {{ uid = {os.getuid()} exe = "{own}" profiles = {{ "service" }} }}\n')
    broker.admin("reload")

    def get(program):
        return broker.run(program, "--socket", broker.socket, "--json", "list").json()["profiles"]
    assert [p["rule"] for p in get(own)] == ["agent"]
    assert get(broker.cli_command()[0]) == []
    elsewhere = subprocess.run(["unshare", "-m", "sh", "-c", f"mount --bind {broker.cli_command()[0]} {own} && "
                                f"exec {own} --socket {broker.socket} --json explain"], env=broker.cli_env(), check=False,
                               capture_output=True, text=True, timeout=20)
    assert elsewhere.returncode == 77 and '"exe_elsewhere":true' in elsewhere.stdout, elsewhere


@pytest.mark.systemd
def test_unit_where_systemd_runs(ruled):
    broker = ruled('rule "web" { unit = "kb-e2e-*.service" profiles = { "service" } }\n')
    done = subprocess.run(["systemd-run", "--wait", "--pipe", "--quiet", "--collect", f"--unit=kb-e2e-{os.getpid()}.service",
                           *broker.cli_command("--socket", broker.socket, "--json", "whoami")],
                          capture_output=True, text=True, timeout=30, check=True)
    assert f'"unit":"kb-e2e-{os.getpid()}.service"' in done.stdout and '"rules":["web"]' in done.stdout


# --- a process that has gone, and its connection has not ---

class Inherited:
    """A process connects, forks a child that keeps the connection, and dies: what the child is answered."""

    def __init__(self, broker, dies=True, speaks=False, uid=None):
        self.read, write = os.pipe()
        self.go, go = os.pipe()
        self.start, self.broker = go, broker
        self.pid = os.fork()
        if self.pid == 0:
            self._connect(dies, speaks, uid, write)
        os.close(write)
        if dies:
            os.waitpid(self.pid, 0)

    def _connect(self, dies, speaks, uid, write):
        try:
            os.close(self.read)
            os.close(self.start)
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            connection = Connection(self.broker.socket)
            if speaks:
                connection.call("whoami")
            if os.fork() == 0:
                os.read(self.go, 1)
                said = [code(lambda method=method, params=params: connection.call(method, **params))
                        for method, params in (("whoami", {}), ("list", {}), ("acquire", {"bind": "ttl"}), ("acquire", {}))]
                os.write(write, repr(said).encode())
            elif not dies:
                os.wait()
        finally:
            os._exit(0)

    def answers(self):
        """Lets the child speak; -> [(code, text)]"""
        os.close(self.start)
        os.close(self.go)
        with open(self.read, "rb") as file:
            return eval(file.read())  # noqa: S307: our own child's


@BOTH
@pytest.mark.parametrize("speaks", [False, True])
def test_child_that_keeps_a_dead_process_s_connection_is_denied(ruled, env, speaks):
    broker = ruled(rule_all(), env=env)
    said = Inherited(broker, speaks=speaks).answers()
    assert [c for c, _ in said] == ["denied"] * 4, said
    assert all("has ended" in text and "connect again" in text for _, text in said), said
    row, = broker.audit(event="whoami")
    assert row["outcome"] == "denied" and "ended" in row["detail"]
    assert broker.acquire()["api_key"] and broker.admin("status")["leases"] == 1


def ask_and_die(broker, **params):
    """A process asks for a key, forks a child that keeps its connection, and dies -> what reads the child's reply."""
    read, write = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            connection = Connection(broker.socket)
            number = connection.send("acquire", timeout_ms=20000, **params)
            wait_until(lambda: connection.unread() == 0, what="the broker to read it")
            if os.fork() == 0:
                os.close(go)
                os.read(wait, 1)  # the end of both
                os.write(write, repr(code(lambda: connection.result(number))).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.close(wait)
    os.waitpid(pid, 0)

    def answer():
        os.close(go)
        with open(read, "rb") as file:
            return eval(file.read())  # noqa: S307: our own child's
    return answer


@BOTH
@pytest.mark.parametrize("params", [{"bind": "ttl"}, {"bind": "connection", "profile": "process"}], ids=["shared", "dedicated"])
def test_child_does_not_get_the_key_that_a_dead_process_asked_for(make_broker, litellm, env, params):
    litellm.fail(path="/key/generate", status=503, times=-1)
    broker = make_broker(config=MANY + rule_all(), env={"LITELLM_MODELS": "gpt-5", "LITELLM_SERVICE_MODELS": "m", **env}, timing=FAST).start()
    answer = ask_and_die(broker, **params)
    broker.call("whoami")
    litellm.clear()
    said, text = answer()
    assert said == "denied" and "has ended" in text, (said, text)
    row, = broker.audit(event="acquire")
    assert row["outcome"] == "denied" and broker.admin("status")["leases"] == 0


LASTING = {"watch": (False, "watch", {"scope": "uid"}), "follow": (True, "audit_follow", {}),
           "lease": (False, "acquire", {"profile": "process", "bind": "connection"})}


@BOTH
@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_as_long_as_a_connection_ends_with_its_process(ruled, litellm, env, kind):
    """Its child, which has the socket and may be of another uid, hears no more of it."""
    broker = ruled(rule_all(), env=env)
    admin, method, params = LASTING[kind]
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        connection = broker.rpc(admin=admin)
        connection.call(method, **params)
        if os.fork() == 0:
            try:
                connection.wait_closed()
                os.write(write, b"closed")
            finally:
                os._exit(0)
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as file:
        assert file.read() == b"closed"
    wait_until(lambda: not broker.admin("leases")["leases"], what="the end of its lease")


def test_child_does_not_get_the_key_whose_asker_died_during_the_commit(make_broker, litellm):
    """The lease is on record by then, and ends with that process; the key stays here."""
    broker = make_broker(config=MANY + rule_all(), env={"LITELLM_SERVICE_MODELS": "m"}).start()
    broker.wait_ready()
    for _ in range(20):  # it may die before the request is looked at
        with broker.locked():
            answer = ask_and_die(broker, bind="ttl")
        said, text = answer()
        assert said == "denied" and "has ended" in text, (said, text)
        if broker.audit(event="acquire", outcome="ok"):
            return
    raise AssertionError("it never died between the grant and the reply")


def test_first_message_must_be_the_connectors_where_the_kernel_does_not_pin_it(ruled):
    broker = ruled(rule_all(), env=MASKED)
    inherited = Inherited(broker, dies=False)
    said = inherited.answers()
    os.waitpid(inherited.pid, 0)
    assert [c for c, _ in said] == ["denied"] * 4 and "another process" in said[0][1], said


def test_child_of_a_living_process_may_use_its_connection(ruled):
    broker = ruled(rule_all())
    inherited = Inherited(broker, dies=False)
    said = inherited.answers()
    os.waitpid(inherited.pid, 0)
    assert [c for c, _ in said] == [""] * 4, said


def test_without_peerpidfd_all_is_as_before(ruled):
    """Leases end with their process, by a pidfd that was opened by number."""
    need_root()
    broker = ruled(rule_all(), env=MASKED)
    with Holder(broker) as peer:
        assert peer.call("acquire", profile="process")["api_key"]
        seen = peer.call("whoami")
        assert seen["pid"] == peer.pid and seen["start_time"] > 0 and seen["exe"]
        peer.kill()
    wait_until(lambda: broker.admin("status")["leases"] == 0, what="the lease's end")
    assert broker.cli("get").ok() and broker.cli("whoami").ok()


@BOTH
def test_uid_65534_never_matches(ruled, env):
    need_root()
    broker = ruled('rule "all" { group = 65534 profiles = { "*" } }\n', env=env)
    refusal = code(lambda: broker.call_as(65534, "acquire", bind="ttl"))
    assert refusal[0] == "denied" and broker.call_as(65534, "whoami")["rules"] == []
    why = broker.call_as(65534, "explain", profile="service")["rules"][0]["why"]
    assert "65534" in why
    assert broker.call_as(STRANGER, "acquire", gid=65534, bind="ttl")["api_key"]


# --- foreign pid namespaces ---

class Foreign:
    """Brokers in pid namespaces of their own, to which everybody else is pid 0."""

    PREFIX = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

    def __init__(self, make_broker):
        self._make, self.instances = make_broker, []

    def __call__(self, rules, env=None):
        need_root("to make a pid namespace")
        if subprocess.run([*self.PREFIX, "true"], check=False, capture_output=True).returncode:
            pytest.skip("needs unshare --pid")
        broker = self._make(config=MANY + rules, env={"LITELLM_SERVICE_MODELS": "m", "LITELLM_MODELS": "m"})
        self.start(broker, env)
        os.chmod(os.path.dirname(broker.socket), 0o755)
        os.chmod(broker.socket, 0o666)
        broker.wait_ready()
        return broker

    def start(self, broker, env=None):
        """One instance more; -> it, once it leads or stands by."""
        made = Instance(broker, "abc"[len(self.instances)], self.PREFIX, env)
        self.instances.append(made)
        wait_until(lambda: "READY" in made.log or "STANDBY" in made.log or not made.running, what=lambda: made.log)
        assert made.running, made.log
        return made


@pytest.fixture
def foreign(make_broker):
    """Makes brokers that see nobody's pid."""
    made = Foreign(make_broker)
    yield made
    for instance in made.instances:
        instance.kill()


def test_foreign_process_needs_a_rule_that_says_so(foreign):
    broker = foreign(f'rule "plain" {{ uid = {STRANGER} profiles = {{ "service" }} }}\n'
                     f'rule "far" {{ uid = {STRANGER + 1} foreign_pid = yes profiles = {{ "service" }} }}\n'
                     f'rule "group" {{ group = 77 foreign_pid = yes profiles = {{ "process" }} }}\n')
    refusal = code(lambda: broker.call_as(STRANGER, "acquire", bind="ttl"))
    assert refusal[0] == "denied" and "a foreign pid namespace" in refusal[1]
    assert broker.call_as(STRANGER + 1, "acquire", bind="ttl")["api_key"]
    assert broker.call_as(STRANGER, "acquire", gid=77, profile="process", bind="ttl")["api_key"]
    seen = broker.call_as(STRANGER + 1, "whoami")
    assert seen["pid"] == 0 and seen["foreign_pid"] is True and "exe" not in seen
    row, = broker.audit(uid=STRANGER, outcome="denied")
    assert "plain: the process is in a foreign pid namespace" in row["detail"]
    row, = broker.audit(uid=STRANGER + 1, event="acquire")
    assert row["pid"] == 0 and "foreign pid namespace" in row["detail"]


def test_lease_of_a_foreign_process_ends_with_it_and_is_its_own(foreign):
    broker = foreign(f'rule "far" {{ uid = {STRANGER} foreign_pid = yes profiles = {{ "*" }} }}\n')
    with Holder(broker, STRANGER) as one, Holder(broker, STRANGER) as other:
        mine = one.call("acquire", profile="process")
        others = other.call("acquire", profile="process")
        assert mine["api_key"] != others["api_key"]
        assert code(lambda: other.call("acquire", lease=mine["lease"]))[0] == "unknown_lease"
        assert one.call("acquire", lease=mine["lease"])["api_key"] == mine["api_key"]
        one.kill()
        wait_until(lambda: [x["lease"] for x in broker.admin("leases")["leases"]] == [others["lease"]],
                   what="the end of the first lease alone")
        assert other.call("acquire", lease=others["lease"])["api_key"] == others["api_key"]


def test_lease_of_a_foreign_process_is_taken_up_after_a_change_of_leader(foreign):
    broker = foreign(f'rule "far" {{ uid = {STRANGER} foreign_pid = yes profiles = {{ "*" }} }}\n')
    successor = foreign.start(broker)
    with Holder(broker, STRANGER) as one, Holder(broker, STRANGER) as other:
        lease = one.call("acquire", profile="process")
        foreign.instances[0].kill()
        again = wait_until(lambda: not code(lambda: other.call("whoami"))[0] and other.call("whoami"), what=lambda: successor.log)
        assert again["pid"] == 0
        assert code(lambda: other.call("acquire", lease=lease["lease"]))[0] == "unknown_lease"
        with contextlib.suppress(Exception):
            one.call("whoami")  # its connection is gone; the next call has a new one
        assert one.call("acquire", lease=lease["lease"])["api_key"] == lease["api_key"]
        one.kill()
        wait_until(lambda: broker.admin("status")["leases"] == 0, what="the lease's end")


def test_dead_foreign_process_s_child_is_denied(foreign):
    broker = foreign(f'rule "far" {{ uid = {STRANGER} foreign_pid = yes profiles = {{ "*" }} }}\n')
    said = Inherited(broker, uid=STRANGER).answers()
    assert [c for c, _ in said] == ["denied"] * 4 and "has ended" in said[0][1], said


def test_without_peerpidfd_a_foreign_process_is_denied(foreign):
    broker = foreign(f'rule "far" {{ uid = {STRANGER} foreign_pid = yes profiles = {{ "*" }} }}\n', MASKED)
    for bind in ("ttl", "process"):
        assert code(lambda bind=bind: broker.call_as(STRANGER, "acquire", bind=bind))[0] == "denied"
    why = broker.call_as(STRANGER, "explain", profile="service")["rules"][0]["why"]
    assert "does not tell which" in why


# --- a rule's limits ---

def test_limits_of_a_rule_apply_to_its_peers_alone(ruled):
    need_root()
    broker = ruled(f'rule "few" {{ uid = {STRANGER} profiles = {{ "*" }} max_leases = 2 mints_per_minute = 1 ttl_cap = "1m" }}\n'
                   f'rule "many" {{ uid = {STRANGER + 1} profiles = {{ "*" }} }}\n')

    def use():
        results = []
        with broker.rpc() as connection:
            for profile in ("process", "process", "service", "service"):
                error, result = connection.reply(connection.send("acquire", profile=profile, bind="ttl", ttl_ms=3600000))
                results.append(error["code"] if error else result["lease_ends_at_ms"] - int(time.time() * 1000))
        return results

    few = as_user(STRANGER, use)
    assert few[1] == few[3] == "limit_exceeded" and all(50000 < few[i] <= 60000 for i in (0, 2)), few
    many = as_user(STRANGER + 1, use)
    assert all(isinstance(left, int) and left > 3500000 for left in many), many
