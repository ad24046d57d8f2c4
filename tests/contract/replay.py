"""Replays the recorded steps (tests/standin/recorded) against a stand-in or a real LiteLLM, and compares.

A case is {name, about, only?, setup?, steps}. A step is one of
    {"mint": NAME, "body": …}        a key, named for later
    {"team": ID, "models": …}        a team
    {"wait": SECONDS}                time passes (the stand-in's clock is moved)
    {"mode": {…}}                    a mode of the stand-in
    {"method", "path", "as", …}      a request; `as` is its bearer credential, `expect` what came back, by version;
                                     `at` in it: when, for what depends on the time of day
Placeholders: ${master}, ${wrong}, ${unknown}, ${key:NAME}, ${hash:NAME}, ${team:NAME}, ${chosen}, ${run} (a prefix
of this run alone), ${pad:N} (an alias of N characters), ${long} (a key of 5,000), ${basic}.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import time
import uuid
from urllib.parse import quote, urlsplit

from compare import differences, moment

RECORDED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "standin", "recorded")
PLACEHOLDER = re.compile(r"\$\{(\w+)(?::(\w+))?\}")
LLM_ROUTES = ("/v1/", "/chat/", "/models")


def case_names():
    """All recorded cases."""
    return sorted(name[:-5] for name in os.listdir(RECORDED) if name.endswith(".json") and name != "shapes.json")


def load(name):
    """One case."""
    with open(os.path.join(RECORDED, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


class StandinTarget:
    """A stand-in: time is moved, modes can be set, there is a second process."""

    real = False

    def __init__(self, standin):
        self.standin, self.version, self.master = standin, standin.litellm, standin.master_key
        self.bases = [standin.url, standin.second_url]
        self.wait = standin.advance

    def stop_clock(self, text):
        """Stops the clock at a recorded moment."""
        now = moment(self.standin.freeze()["now"])
        self.standin.advance((moment(text) - now).total_seconds())

    def mode(self, modes):
        """Sets a mode."""
        self.standin.mode(**modes)


class RealTarget:
    """A real LiteLLM: time passes by itself."""

    real = True
    wait = staticmethod(time.sleep)

    def __init__(self, base, master):
        self.bases, self.master = [base.rstrip("/")], master
        self.version = "1.80.11" if self._reported() == "1.80.11" else "1.102.4"

    def _reported(self):
        for path in ("/health/readiness", "/health/readiness/details"):
            body = send(self.bases[0], "GET", path, self.master).json()
            if isinstance(body, dict) and body.get("litellm_version"):
                return body["litellm_version"]
        return None


class Answer:
    """A response: status, headers (lower case), text."""

    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text

    def json(self):
        """The body, or None if it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def send(base, method, path, bearer=None, body=None, headers=None):
    """One request -> Answer."""
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=60)
    sent = dict(headers or {})
    if bearer is not None:
        sent["Authorization"] = "Bearer " + bearer
    try:
        connection.request(method, parts.path + path, body.encode() if body is not None else None, sent)
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read().decode("utf-8", "replace"))
    finally:
        connection.close()


class Replay:
    """One run of one case."""

    def __init__(self, target, llm_calls=True):
        self.target, self.llm_calls = target, llm_calls
        self.run = "ct" + uuid.uuid4().hex[:8] + "-"
        self.keys, self.teams, self.users = {}, {}, set()
        self.tokens, self.team_ids = set(), set()

    def play(self, case):
        """-> the differences found, each a line."""
        for step in case.get("setup", ()):
            self._do(step)
        found = []
        for number, step in enumerate(case["steps"]):
            answer = self._do(step)
            if answer is None or "expect" not in step:
                continue
            wanted = step["expect"].get("any") or step["expect"].get(self.target.version)
            if wanted is None:
                continue
            path = step["path"].partition("?")[0]
            label = f"{case['name']}[{number}] {step['method']} {path} ({step.get('note', '')})"
            found += [f"{label}: {line}" for line in differences(self._fill(wanted), answer, path)]
        return found

    def clean_up(self):
        """Deletes what this run made on a real LiteLLM."""
        if not self.target.real:
            return
        for token in sorted(self.tokens):
            self._call("POST", "/key/delete", {"keys": [token]})
        for team_id in sorted(self.team_ids):
            self._call("POST", "/team/delete", {"team_ids": [team_id]})
        for user in sorted(self.users):
            self._call("POST", "/user/delete", {"user_ids": [user]})

    def _do(self, step):
        if "wait" in step:
            self.target.wait(step["wait"])
        elif "mode" in step:
            self.target.mode(step["mode"])
        elif "mint" in step:
            self._mint(step)
        elif "team" in step:
            team_id = self._fill(step["team"])
            answer = self._call("POST", "/team/new", {"team_id": team_id, "models": step["models"]})
            assert answer.status == 200, answer.text
        elif not self._left_out(step):
            return self._request(step)
        return None

    def _left_out(self, step):
        """On a real LiteLLM only admin calls are made, unless LLM calls are asked for too."""
        if not self.target.real:
            return False
        return step.get("real") is False or (step["path"].startswith(LLM_ROUTES) and not self.llm_calls)

    def _mint(self, step):
        answer = self._call("POST", "/key/generate", self._fill(step["body"]))
        assert answer.status == 200, answer.text
        self.keys[step["mint"]] = answer.json()["key"]

    def _request(self, step):
        """Sends a recorded request."""
        wanted = step.get("expect", {}).get(self.target.version, {})
        if "at" in wanted and not self.target.real:
            self.target.stop_clock(wanted["at"])
        headers = {name: self._fill(value) for name, value in step.get("headers", {}).items()}
        body = step.get("raw")
        if body is None and "body" in step:
            body = json.dumps(self._fill(step["body"]))
        kind = step.get("content_type", "application/json") if body is not None else None
        if kind:
            headers["Content-Type"] = kind
        bearer = self._fill(step.get("as", "${master}"))
        base = self.target.bases[1 if step.get("second") else 0]
        answer = send(base, step["method"], self._fill(step["path"], quote), bearer, body, headers)
        self._remember(step, answer)
        return answer

    def _call(self, method, path, body):
        answer = send(self.target.bases[0], method, path, self.target.master, json.dumps(body),
                      {"Content-Type": "application/json"})
        self._remember({"path": path}, answer)
        return answer

    def _remember(self, step, answer):
        """Names what the step made, and notes it for clean_up."""
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            return
        path, name = step["path"], step.get("save")
        if path == "/key/generate":
            self.tokens.add(body["token"])
            self.keys[name] = body["key"]
        elif path == "/team/new":
            self.team_ids.add(body["team_id"])
            self.teams[name] = body["team_id"]
        elif path == "/user/new":
            self.users.add(body["user_id"])

    def _fill(self, value, form=str):
        """Replaces the placeholders in strings, wherever they are."""
        if isinstance(value, str):
            return PLACEHOLDER.sub(lambda match: form(self._value(*match.groups())), value)
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if isinstance(value, dict):
            return {name: self._fill(item) for name, item in value.items()}
        return value

    def _value(self, kind, name):
        if kind == "hash":
            return hashlib.sha256(self._value("key", name).encode()).hexdigest()
        if kind == "key":
            return self._value("chosen", None) if name == "chosen" else self.keys[name]
        if kind == "team":
            return self.teams[name]
        if kind == "pad":
            return self.run.ljust(int(name), "a")
        if kind == "basic":
            return base64.b64encode(f"x:{self.target.master}".encode()).decode()
        return {"master": self.target.master, "wrong": "sk-wrong-master", "run": self.run, "RUN": self.run.upper(),
                "unknown": "sk-unknown-0000000000000", "chosen": "sk-" + self.run + "chosen-by-client",
                "long": "sk-" + "a" * 5000}[kind]


def fresh(standin):
    """Emptied, five minutes past the half hour: 1.80.11 ends keys on the clock, which must not come mid-test."""
    standin.reset()
    standin.advance(int(300 - time.time()) % 1800)
    standin.admin("GET", "/health/readiness")  # a good answer, kept as after a start
    standin.clear_calls()
    return standin
