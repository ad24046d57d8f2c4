"""Starts the stand-in and talks to its control interface. For the tests; standard library only."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Standin:
    """A running stand-in.

        with Standin() as litellm:
            litellm.fail(path="/key/generate", status=503, times=2)
            … point the broker at litellm.url and litellm.master_key …
            assert litellm.calls("/key/generate")
    """

    def __init__(self, litellm="1.102.4", second=False, master_key="sk-standin-master", port=0, cache_seconds=60,
                 keep_alive=5, state_file=None):
        self.master_key, self.litellm, self.state_file = master_key, litellm, state_file
        self._command = [sys.executable, os.path.join(HERE, "standin.py"), "--quiet", "--litellm", litellm,
                         "--master-key", master_key, "--cache-seconds", str(cache_seconds),
                         "--keep-alive", str(keep_alive)]
        if state_file:
            self._command += ["--state-file", str(state_file)]
        self._second, self._ports, self._process = second, [port], None
        self.start()

    def start(self):
        """Starts it, or starts it again on the same ports."""
        with tempfile.TemporaryDirectory() as directory:
            port_file = os.path.join(directory, "ports")
            command = self._command + ["--port", str(self._ports[0]), "--port-file", port_file]
            if self._second:
                command += ["--second-port", str(self._ports[1] if len(self._ports) > 1 else 0)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + 10
            while not os.path.exists(port_file):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError("the stand-in did not start")
                time.sleep(0.005)
            with open(port_file, encoding="ascii") as file:
                self._ports = [int(line) for line in file]
        return self

    def change_master_key(self, master_key):
        """Starts it again with another master key; to keep its data it needs a state file."""
        self.stop()
        self._command[self._command.index("--master-key") + 1] = self.master_key = master_key
        return self.start()

    def stop(self):
        """Ends it; with a state file, start() goes on where it was."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        """The process, for tests that stop it with a signal."""
        return self._process.pid

    @property
    def port(self):
        """The first process's port."""
        return self._ports[0]

    @property
    def url(self):
        """The first proxy process."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def second_url(self):
        """The second proxy process, if it was asked for."""
        return f"http://127.0.0.1:{self._ports[1]}"

    def request(self, method, path, body=None, key=None, headers=None, second=False, timeout=30):
        """One request on a connection of its own -> (status, headers, text). body: JSON, or a str as it is."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = "Bearer " + key
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        port = self._ports[1 if second else 0]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request(method, path, data.encode() if data is not None else None, sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def admin(self, method, path, body=None, second=False):
        """A call with the master key -> (status, JSON)."""
        status, _, text = self.request(method, path, body, self.master_key, second=second)
        return status, _json(text)

    def as_key(self, key, method="GET", path="/v1/models", body=None, second=False):
        """A call with a virtual key -> (status, JSON)."""
        status, _, text = self.request(method, path, body, key, second=second)
        return status, _json(text)

    def chat(self, key, model="gpt-5", second=False):
        """One LLM call -> (status, JSON)."""
        body = {"model": model, "messages": [{"role": "user", "content": "ping"}]}
        return self.as_key(key, "POST", "/v1/chat/completions", body, second)

    def _control(self, method, name, body=None):
        status, _, text = self.request(method, "/_standin/" + name, body)
        if status != 200:
            raise ValueError(text)
        return _json(text)

    def keys(self):
        """All stored keys: hashes and columns, never a secret."""
        return self._control("GET", "keys")

    def add_key(self, key, **columns):
        """Inserts a key; also expires_in (seconds)."""
        return self._control("POST", "keys", {"key": key, **columns})

    def teams(self):
        """All teams."""
        return self._control("GET", "teams")

    def calls(self, path=None, method=None):
        """The calls so far, oldest first; those of one path (a prefix) or method only."""
        calls = self._control("GET", "calls")["calls"]
        return [call for call in calls
                if call["path"].startswith(path or "") and method in (None, call["method"])]

    def counts(self):
        """How many calls came to each path."""
        return self._control("GET", "calls")["counts"]

    def clear_calls(self):
        """Empties the journal."""
        self._control("DELETE", "calls")

    def fail(self, **rule):
        """Orders a failure: path, method, process, times, skip, status, body, headers, delay_ms, hang, drop_after,
        duplicate_alias, when ("before": nothing happens; "after": it happens, then fails)."""
        return self._control("POST", "fail", rule)

    def failures(self):
        """The rules in force, with their hits."""
        return self._control("GET", "fail")

    def clear(self):
        """Ends all ordered failures and lets hanging requests go."""
        self._control("DELETE", "fail")

    def mode(self, **modes):
        """Sets db_down, forbid_custom_keys, alias_race, cost_per_call, oversize, redirect, cache_seconds."""
        return self._control("POST", "mode", modes)

    def advance(self, seconds):
        """Moves the stand-in's clock."""
        return self._control("POST", "clock", {"advance_seconds": seconds})

    def freeze(self, still=True):
        """Stops the stand-in's clock, or lets it go on; advance() moves it all the same."""
        return self._control("POST", "clock", {"freeze": still})

    def reset(self):
        """Everything as after a start with an empty database."""
        self._control("POST", "reset")


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
