"""One keybrokerd in a temporary home of its own: started, driven, killed, searched for secrets."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile

from . import audit, build, leaks
from .rpc import Connection
from .users import as_user
from .wait import wait_until

KEY = re.compile(r"sk-[A-Za-z0-9_-]{16,}")
SECRET_VERBS = ("get", "exec")  # what carries a key on purpose
# Short times, for tests of what happens again or later.
FAST = {"retry_base_ms": 20, "breaker_ms": 100, "upstream_recheck_ms": 200, "delete_retry_ms": 200,
        "sweep_every_ms": 500, "burn_delete_ms": 500, "takeover_ms": 300}
# A file with profiles of its own has the drop-in's two only if a variable speaks of them.
DROPIN = {"LITELLM_SERVICE_MODELS": "all-team-models", "LITELLM_MODELS": "gpt-5"}
MANY = "limits { mints_per_minute = 100000 requests_per_second = 1000000 }\n"


def rule_all(name="all", **more):
    """A rule that lets this user have everything, as without a configuration file."""
    lines = "".join(f"  {key} = {value}\n" for key, value in more.items())
    return f'rule "{name}" {{\n  uid = {os.getuid()}\n  profiles = {{ "*" }}\n{lines}}}\n'


def key_hash(key):
    """LiteLLM's name of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def machine_id():
    """By which a deleted state finds its keys again; "" in many containers."""
    try:
        name = pathlib.Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    return name if len(name) == 32 else ""  # machine-id(5): empty or a word before the first boot


class Finished:
    """A program that has ended."""

    def __init__(self, args, code, stdout, stderr):
        self.args, self.code, self.stdout, self.stderr = args, code, stdout, stderr

    def __repr__(self):
        return f"{self.args} -> {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def ok(self):
        """Asserts exit code 0; -> stdout."""
        assert self.code == 0, self
        return self.stdout

    def json(self):
        """stdout as JSON."""
        return json.loads(self.ok())


class Broker:
    """A daemon and its surroundings: <root>/{home,config,state,run,log}."""

    def __init__(self, litellm=None, config=None, env=None, args=(), timing=None):
        self.root = tempfile.mkdtemp(prefix="kb-", dir="/tmp")
        os.chmod(self.root, 0o755)
        for name, mode in (("home", 0o755), ("config", 0o700), ("state", 0o755), ("run", 0o755), ("files", 0o700)):
            os.mkdir(self.path(name), mode)
            os.chmod(self.path(name), mode)
        self.args, self.timing = list(args), dict(timing or {})
        self.env = self._home()
        if litellm is not None:
            self.env.update(LITELLM_BASE_URL=litellm.url, LITELLM_MASTER_KEY=litellm.master_key)
        self.env.update(env or {})
        self.litellm, self.process = litellm, None
        self.issued, self.outputs = set(), {}
        self.secrets = {litellm.master_key} if litellm is not None else set()
        self.log_path, self.db = self.path("log"), self.path("state/keybroker/state.db")
        self.socket = self.path("run/keybroker/keybroker.sock")
        self.admin_socket = self.path("run/keybroker-admin/admin.sock")
        self.config_path = self.path("config/keybroker/keybroker.conf")
        if config is not None:
            self.write_config(config)

    def path(self, name):
        """A path in the temporary home."""
        return os.path.join(self.root, name)

    def write(self, name, text, mode=0o600):
        """Writes a file (bytes or text) under files/; -> its path."""
        path = self.path("files/" + name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def write_config(self, text, name="keybroker.conf"):
        """Writes the configuration, or a file below conf.d."""
        path = os.path.join(os.path.dirname(self.config_path), name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _home(self):
        return {"HOME": self.path("home"), "XDG_CONFIG_HOME": self.path("config"), "LC_ALL": "C.UTF-8",
                "XDG_STATE_HOME": self.path("state"), "XDG_RUNTIME_DIR": self.path("run"), "PATH": "/usr/bin:/bin",
                **build.sanitizer_environment()}

    # --- the daemon's life ---

    def command(self, *more):
        """The daemon's command line."""
        if self.timing:
            lines = "".join(f"{name} {value}\n" for name, value in self.timing.items())
            more = ("--timing", self.write("timing", lines), *more)
        return [build.binary("keybrokerd"), *self.args, *more]

    def spawn(self, *more, env=None):
        """Starts it without waiting."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with open(self.log_path, "ab") as log:
            self._mark = log.tell()
            self.process = subprocess.Popen(self.command(*more), env={**self.env, **(env or {})},
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root)
        return self

    def start(self, *more, env=None, timeout=15):
        """Starts it and waits until it is ready."""
        self.spawn(*more, env=env)
        wait_until(lambda: "READY" in self.log_since_start or self.process.poll() is not None, timeout,
                   lambda: "READY\n" + self.log)
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
        return self

    def wait(self, timeout=10):
        """Waits for its end; -> the exit code (negative: the signal)."""
        return self.process.wait(timeout)

    def stop(self, timeout=10):
        """SIGTERM; asserts a clean end."""
        self.process.send_signal(signal.SIGTERM)
        code = self.wait(timeout)
        assert code == 0, f"SIGTERM ended it with {code}:\n{self.log}"

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def restart(self, *more, env=None):
        """A clean stop and a new start."""
        self.stop()
        return self.start(*more, env=env)

    def reload(self):
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    @contextlib.contextmanager
    def frozen(self):
        """Stopped by a signal meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: self.is_stopped, what="its stop")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def held_in_a_turn(self):
        """To be called with the state locked, for which a turn then waits: what comes in meanwhile, the next pass of its loop
        finds all together, and the timers that are due after it. (Stopped within epoll_wait() it would see timers first.)"""
        with self.rpc(admin=True) as connection:
            connection.call("whoami")
            connection.send("audit_read", limit=1)
            wait_until(lambda: connection.unread() == 0, what="a turn that has something to write down")
            with self.frozen():
                yield

    @property
    def is_stopped(self):
        """By a signal."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    @property
    def pid(self):
        """Of the daemon."""
        return self.process.pid

    @property
    def running(self):
        """Has it not ended?"""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self):
        """All it wrote."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def log_since_start(self):
        """What it wrote since its last start."""
        with open(self.log_path, "rb") as file:
            file.seek(self._mark)
            return file.read().decode("utf-8", "replace")

    def rss(self):
        """VmRSS in bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))

    # --- its clients ---

    def rpc(self, admin=False, path=None):
        """A new connection."""
        return Connection(path or (self.admin_socket if admin else self.socket), self.remember)

    def remember(self, result):
        """Notes an issued key."""
        if isinstance(result, dict) and result.get("api_key"):
            self.issued.add(result["api_key"])

    def call(self, method, **params):
        """One call on a connection of its own, which is closed after it."""
        with self.rpc() as connection:
            return connection.call(method, **params)

    def admin(self, method, **params):
        """One call on the admin socket."""
        with self.rpc(admin=True) as connection:
            return connection.call(method, **params)

    def acquire(self, **params):
        """One acquire; the lease is bound to this test's process unless `bind` says otherwise."""
        return self.call("acquire", **params)

    def profile(self, name="service"):
        """The profile's entry in `status`."""
        return next(p for p in self.admin("status")["profiles"] if p["name"] == name)

    def wait_ready(self, profile="service", timeout=10):
        """Waits until a shared profile has its key."""
        return wait_until(lambda: self.profile(profile)["state"] == "ready" and self.profile(profile), timeout,
                          lambda: f"{profile} ready\n{self.log}")

    def audit(self, **wanted):
        """All audit rows, by audit_read; those with the wanted columns only."""
        rows, after = [], 0
        while after is not None:
            page = self.admin("audit_read", after=after)
            rows += page["rows"]
            after = page.get("next")
        return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]

    def call_as(self, uid, method, gid=None, groups=(), admin=False, **params):
        """One call by another uid."""
        result = as_user(uid, lambda: self.admin(method, **params) if admin else self.call(method, **params), gid, groups)
        self.remember(result)
        return result

    # --- the command line ---

    def cli_env(self, env=None):
        """The environment of a command: the same home, and nothing of the daemon's."""
        return {**self._home(), **(env or {})}

    def cli_command(self, *args):
        """The command line of a CLI call."""
        return [os.path.join(build.public_directory(), "keybroker"), *args]

    def cli(self, *args, env=None, stdin=None, user=None, group=None, groups=(), timeout=30, cwd=None):
        """Runs the CLI to its end; -> Finished."""
        who = {} if user is None else {"user": user, "group": user if group is None else group,
                                       "extra_groups": list(groups)}
        done = subprocess.run(self.cli_command(*args), env=self.cli_env(env), input=stdin or "", text=True,
                              capture_output=True, timeout=timeout, check=False, cwd=cwd or "/", **who)
        return self._finished(args, done.returncode, done.stdout, done.stderr)

    def run(self, program, *args, env=None, timeout=30):
        """Runs a program of ours in this home to its end; -> Finished."""
        done = subprocess.run([program, *args], env=self.cli_env(env), stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=timeout, check=False, cwd="/")
        return Finished([program, *args], done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def cli_running(self, *args, env=None, **popen):
        """A CLI call that goes on; killed at the end if it still runs."""
        process = subprocess.Popen(self.cli_command(*args), env=self.cli_env(env), text=True, cwd="/",
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        try:
            yield process
        finally:
            process.kill()
            stdout, stderr = process.communicate(timeout=10)
            self._finished(args, process.returncode, stdout, stderr)

    def _finished(self, args, code, stdout, stderr):
        name = " ".join(["keybroker", *args])
        if args and any(arg in SECRET_VERBS for arg in args):
            self.issued.update(KEY.findall(stdout))
        else:
            self.outputs[f"stdout of {name} #{len(self.outputs)}"] = stdout.encode()
        self.outputs[f"stderr of {name} #{len(self.outputs)}"] = stderr.encode()
        return Finished(["keybroker", *args], code, stdout, stderr)

    def run_daemon(self, *args, env=None, timeout=20, user=None):
        """Runs keybrokerd to its end (--check, a refused start); -> Finished."""
        who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        done = subprocess.run(self.command(*args), env={**self.env, **(env or {})}, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=timeout, check=False, cwd=self.root, **who)
        for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            self.outputs[f"{name} of keybrokerd {' '.join(args)} #{len(self.outputs)}"] = text.encode()
        return Finished(["keybrokerd", *args], done.returncode, done.stdout, done.stderr)

    # --- its state ---

    def rows(self, sql, *values):
        """Reads the database as it is, the daemon running or not."""
        connection = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=5)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def count(self, sql, *values):
        """The one number that a query yields."""
        return next(iter(self.rows(sql, *values)[0].values()))

    @contextlib.contextmanager
    def locked(self):
        """Another process holds the database's lock meanwhile: no turn commits."""
        connection = sqlite3.connect(self.db, timeout=5)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    @property
    def install(self):
        """Identity of the state."""
        return self.admin("status")["install"]

    @property
    def user_id(self):
        """By which our keys are known upstream."""
        return "keybroker:" + self.install

    @property
    def seal_key(self):
        """The raw seal key, which its file holds in hex."""
        with open(self.path("config/keybroker/seal.key"), encoding="ascii") as file:
            return bytes.fromhex(file.read())

    def tag(self, key):
        """The audit's name of a key."""
        return audit.tag(self.seal_key, key)

    def delete_state(self):
        """Removes the state directory."""
        shutil.rmtree(self.path("state/keybroker"))

    # --- the end ---

    def places(self, unreadable=None):
        """Everything where no secret may be: log, state, outputs, and /proc while it runs."""
        places = {"log": self.log.encode()} if os.path.exists(self.log_path) else {}
        places |= leaks.files_below(self.path("state")) | leaks.files_below(self.path("run")) | self.outputs
        if self.running:
            places |= leaks.process_places(self.pid, [] if unreadable is None else unreadable)
        return places

    def find_leaks(self, unreadable=None):
        """Where an issued or given secret stands that must not."""
        return leaks.find({secret for secret in self.issued | self.secrets if secret}, self.places(unreadable))

    def close(self):
        """Ends it and removes its home; asserts that it ended well and that nothing leaked."""
        try:
            found = self.find_leaks()
            if self.running:
                self.stop()
            found += self.find_leaks()
            assert not found, found
        finally:
            self.abandon()

    def abandon(self):
        """Ends it whatever it does, and removes its home."""
        if self.running:
            self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
