"""One scenario being played: a broker, a library's drivers, and what each step does.

A step is a table of scenarios.toml with exactly one of these:

    ask     what the driver is asked (clients/README.md, "The driver"), with its fields. Besides:
              expect   fields of the answer (match.py); of the error, if `error` names its code
              save     a name for the answer: "$name.field" later
              within   milliseconds that it may take
              times    so often; `until` seconds: again and again until it is as expected; `always` seconds: each time
              pending  do not wait: a name for a later `answer` step, which has expect, save, within
    do      what happens outside: the methods do_NAME below, with their parameters
    count   audit rows of this event (`outcome`, `profile`), or, with a "/", calls that came to LiteLLM (`status`): `is` so many,
            within `until` seconds. Those since the start, or since the last { do = "mark" }
"""

import contextlib
import os
import pathlib
import re
import signal
import time

from harness import leaks
from harness.broker import FAST, KEY, key_hash, rule_all
from harness.instances import Instances
from harness.rpc import Closed, RpcError
from harness.upstream import row_of
from harness.users import STRANGER, need_root
from harness.wait import stays, wait_until

from . import match
from .driver import Driver, Refused
from .elsewhere import Elsewhere
from .fakes import KEY as FAKE_KEY, Fake

FALLBACK_KEY = "sk-" + "environmentskey" * 3
ASK = {"ask", "expect", "error", "save", "within", "times", "until", "always", "pending"}
COUNT = {"count", "is", "until", "outcome", "profile", "status", "detail"}
SCENARIO = {"name", "steps", "config", "timing", "env", "broker_env", "start", "instances", "root", "without", "closed_to_us"}
SLACK_MS = 1000  # what a busy machine may add to a time-out


class Scene:
    """What a scenario plays on."""

    def __init__(self, scenario, installed, make_broker, litellm, configs):
        assert set(scenario) <= SCENARIO, f"no such keys of a scenario: {set(scenario) - SCENARIO}"
        if scenario.get("root"):
            need_root(scenario["root"])
        self.scenario, self.litellm, self.configs, self._installed = scenario, litellm, configs, installed
        self._stack = contextlib.ExitStack()
        config = scenario.get("config")
        self.broker = make_broker(config=self._config(config) if config else None, env=scenario.get("broker_env"),
                                  timing={**FAST, **scenario.get("timing", {})})
        self.elsewhere = Elsewhere()
        self._stack.callback(self.elsewhere.close)
        self.saved = {"socket": self.broker.socket, "litellm": litellm.url, "elsewhere": self.elsewhere.url, "uid": os.getuid(),
                      "directory": os.path.dirname(self.broker.socket), "fallback_key": FALLBACK_KEY,
                      "fallback_hash": key_hash(FALLBACK_KEY)[:8], "fake_hash": key_hash(FAKE_KEY)[:8]}
        self.broker.secrets |= {FALLBACK_KEY, FAKE_KEY}
        self.driver = self.instances = self.fake = None
        self._drivers, self._pending = [], []
        self._row, self._call = 0, 0
        if "instances" in scenario:
            self.instances = Instances(self.broker)
            self._stack.callback(self.instances.close)

    def _config(self, name):
        return "limits { requests_per_second = 1000000 }\n" + self.configs[name].replace("$RULE_ALL", rule_all()).replace("$UID", str(os.getuid()))

    # --- the play ---

    def play(self):
        """All steps, and what holds for every scenario. -> what went wrong, or None."""
        with self._stack:
            number, step = 0, "start"
            try:
                if self.scenario.get("start", True):
                    self.do_start()
                for number, step in enumerate(self.scenario["steps"], 1):
                    self._step(step)
                step = "the end"
                self._end()
            except (AssertionError, Refused, RpcError) as problem:
                return f"{number}: {step}: {problem}\n{self._shown()}"
        return None

    def _step(self, step):
        kind, = {"ask", "answer", "do", "count"} & set(step)
        if kind == "do":
            getattr(self, "do_" + step["do"])(**match.filled({name: value for name, value in step.items() if name != "do"}, self.saved))
        else:
            getattr(self, "_" + kind)(step)

    def _shown(self):
        driver = f"--- the driver's answers\n{self.driver.said[-3000:]}--- its stderr\n{self.driver.stderr[-3000:]}" if self.driver else ""
        log = self.instances.logs() if self.instances else self.broker.log if os.path.exists(self.broker.log_path) else ""
        return f"{driver}--- the broker's log\n{log[-3000:]}"

    def _end(self):
        assert not self._pending, f"never answered: {self._pending}"
        self.do_end_driver()
        with contextlib.suppress(OSError, Closed, RpcError, TimeoutError):
            self.broker.acquire(bind="ttl", timeout_ms=1000)  # so that the search knows a key that may be in all their outputs
        outputs = {}
        for number, driver in enumerate(self._drivers):
            outputs |= {f"{name} {number}": text for name, text in driver.outputs.items()}
        found = leaks.find(self.broker.issued | self.broker.secrets, outputs)
        found += [f"{name} has something like a key: {KEY.search(text.decode('utf-8', 'replace'))[0][:8]}…"
                  for name, text in outputs.items() if KEY.search(text.decode("utf-8", "replace"))]
        assert not found, found
        assert not any(KEY.search(str(head)) for head in self.elsewhere.heads), "a key went to another origin"

    # --- ask ---

    def _start_driver(self):
        env = self.broker.cli_env(match.filled(self.scenario.get("env", {}), self.saved))
        prefix = []
        if self.scenario.get("closed_to_us") and os.geteuid() == 0:  # root opens what it likes, unless it may not
            prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        self.driver = Driver(self._installed / "driver", env, self.broker.path("files/driver"), prefix)
        self._stack.callback(self.driver.kill)
        self._drivers.append(self.driver)

    def _ask(self, step):
        if self.driver is None:
            self._start_driver()
        request = match.filled({name: value for name, value in step.items() if name not in ASK or name == "ask"}, self.saved)
        if "pending" in step:
            self.driver.send(**request)
            self._pending.append(step["pending"])
            return
        assert not self._pending, "an answer is to come first"
        once = lambda: self._received(step, lambda: self.driver.ask(**request))  # noqa: E731
        if "until" in step:
            said = []
            wait_until(lambda: self._tried(once, said), step["until"], lambda: said[-1])
        elif "always" in step:
            stays(lambda: once() or True, step["always"])
        else:
            for _ in range(step.get("times", 1)):
                once()

    def _answer(self, step):
        assert self._pending and self._pending.pop(0) == step["answer"], "answers come in order"
        self._received(step, self.driver.answer)

    @staticmethod
    def _tried(once, said):
        try:
            once()
        except (AssertionError, Refused) as problem:
            said.append(str(problem))
            return False
        return True

    def _received(self, step, get):
        expected = match.filled(step.get("expect", {}), self.saved)
        try:
            answer = get()
        except Refused as refusal:
            if "error" not in step:
                raise
            answer = refusal.error
            codes = step["error"] if isinstance(step["error"], list) else [step["error"]]
            assert answer["code"] in codes, f"another error: {answer}"
        else:
            assert "error" not in step, f"no error: {answer}"
        for name, value in expected.items():
            assert match.matches(value, answer.get(name)), f"{name} is {answer.get(name)!r}, not {value!r}: {answer}"
        if "within" in step:
            assert answer["ms"] <= step["within"], f"it took {answer['ms']} ms"
        if "save" in step:
            self.saved[step["save"]] = answer

    # --- count ---

    def _count(self, step):
        assert set(step) <= COUNT, f"no such keys: {set(step) - COUNT}"
        wanted = step["is"]
        look = lambda: match.matches(wanted, self._number(step))  # noqa: E731
        said = lambda: f"{wanted!r}, but {self._number(step)}: {self._things(step['count'])}"  # noqa: E731
        if "until" in step:
            wait_until(look, step["until"], said)
        assert look(), said()

    def _things(self, name):
        if name == "elsewhere":
            return self.elsewhere.heads
        if name.startswith("/"):
            return [{**call, "outcome": "ok"} for call in self._calls(name)]
        return self._rows(name)

    def _number(self, step):
        wanted = {"outcome": "ok", **{name: step[name] for name in ("outcome", "profile", "status", "detail") if name in step}}
        return sum(step["count"] == "elsewhere" or match.matches(wanted, thing) for thing in self._things(step["count"]))

    def _calls(self, path):
        return [call for call in self.litellm.calls()[self._call:] if call["path"].startswith(path)]

    def _rows(self, event):
        """Those that are not of this process's own calls."""
        return self.broker.rows("SELECT sequence, event, outcome, profile, pid, lease, detail, wall_ms FROM audit"
                                " WHERE event = ? AND pid <> ? AND sequence > ? ORDER BY sequence", event, os.getpid(), self._row)

    # --- do: the broker ---

    def do_start(self):
        """The broker, or the instances; waits for the shared key."""
        if self.instances:
            self.instances.start(*self.scenario["instances"])
        else:
            self.broker.start()
        if any(profile["name"] == "service" and profile["mode"] == "shared" for profile in self.broker.admin("status")["profiles"]):
            self.broker.wait_ready()

    def do_stop(self):
        """SIGTERM."""
        self.broker.stop()

    def do_kill(self):
        """SIGKILL."""
        self.broker.kill()

    def do_restart(self):
        """SIGTERM, and a new one."""
        self.do_stop()
        self.do_start()

    def do_failover(self):
        """SIGKILL to the leader; waits for the next one, and starts another to stand by."""
        dead = self.instances.leader()
        dead.kill()
        self.instances.wait_leader(dead)
        self.instances.start(f"{dead.name}{len(self.instances.all)}")

    def do_freeze(self):
        """SIGSTOP."""
        frozen = self.broker.frozen()
        frozen.__enter__()
        self._thaw = frozen

    def do_thaw(self):
        """SIGCONT."""
        self._thaw.__exit__(None, None, None)

    def do_rotate(self, profile="service", **more):
        """A new key."""
        self.broker.admin("rotate", profile=profile, **more)

    def do_revoke(self, **what):
        """Leases and keys, as the operator names them."""
        assert self.broker.admin("revoke", **what)["leases"] > 0

    def do_reload(self, config):
        """Another configuration."""
        self.broker.write_config(self._config(config))
        self.broker.admin("reload")

    # --- do: LiteLLM ---

    def _row_of(self, key):
        row, = [row for row in self.litellm.keys() if row["token"].startswith(key)]
        return row

    def do_delete_key(self, key):
        """Behind the broker's back."""
        status, said = self.litellm.admin("POST", "/key/delete", {"keys": [self._row_of(key)["token"]]})
        assert status == 200, said

    def do_key_gone(self, key, until=5):
        """Waits until LiteLLM has it no more."""
        wait_until(lambda: not [row for row in self.litellm.keys() if row["token"].startswith(key)], until, "the key's deletion")

    def do_key_there(self, key, always=0):
        """LiteLLM has it, and goes on having it for so many seconds."""
        stays(lambda: self._row_of(key), max(always, 0.001))

    def do_fail(self, **rule):
        """LiteLLM fails as tests/standin/README.md says."""
        self.litellm.fail(**{"times": -1, **rule})

    def do_called(self, path, n=1):
        """Waits until LiteLLM was called there."""
        wait_until(lambda: len(self._calls(path)) >= n, 10, f"calls to {path}")

    def do_mend(self):
        """LiteLLM fails no more."""
        self.litellm.clear()

    def do_redirect(self, to):
        """LiteLLM sends everybody there."""
        self.litellm.mode(redirect=to or None)

    # --- do: the rest ---

    def do_mark(self):
        """What is counted begins here."""
        self._row = self.broker.count("SELECT coalesce(max(sequence), 0) FROM audit")
        self._call = len(self.litellm.calls())

    def do_between(self, first, last, ms):
        """The time between the last row of one event and the first of another after it."""
        begin = self._rows(first)[-1]
        end = next(row for row in self._rows(last) if row["sequence"] > begin["sequence"])
        passed = end["wall_ms"] - begin["wall_ms"]
        assert match.matches(ms, passed), f"{passed} ms"

    def do_wait_for(self, at_ms):
        """Waits for a time of day."""
        wait_until(lambda: time.time() * 1000 > at_ms, 60, "the time")

    def do_fake(self, how, path=None, stranger=False):
        """A server that is no broker, in its place."""
        self.do_end_fake()
        self.fake = Fake(path or self.broker.socket, how, STRANGER if stranger else None)
        self._stack.callback(self.fake.close)

    def do_end_fake(self):
        """No more."""
        if self.fake:
            self.fake.close()
        self.fake = None

    def do_asked_nothing(self):
        """The fake has not been sent a request."""
        assert self.fake.requests == 0

    def do_file(self, path, text=""):
        """A file of this content."""
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        pathlib.Path(path).write_text(text, encoding="utf-8")

    def do_chmod(self, path, mode):
        """Permissions, in octal."""
        os.chmod(path, int(mode, 8))

    def do_chown(self, path, uid=STRANGER):
        """Another owner."""
        os.chown(path, uid, uid)

    def do_hidden(self, shows):
        """No text has more of a key than its beginning and its last four characters; each has been seen to have the key's place."""
        keys = {self.broker.acquire(bind="ttl")["api_key"]}
        for text in shows["texts"]:
            parts = [key[i:i + 6] for key in keys for i in range(3, len(key) - 8) if key[i:i + 6] in text]
            assert not parts, f"a part of the key is in: {text}"
        assert any(re.search("sk-…", text) for text in shows["texts"]), "it shows that there is a key"

    def do_end_driver(self):
        """EOF: it ends, and well."""
        if self.driver is None:
            return
        code = self.driver.end()
        assert code == 0, f"the driver ended with {code}\n{self.driver.stderr}"
        self.driver = None

    def do_kill_driver(self):
        """SIGKILL."""
        self.driver.process.send_signal(signal.SIGKILL)
        self.driver.process.wait(10)
        self.driver = None
