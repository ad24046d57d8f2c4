"""The failures that a test can order: rules for single requests, and modes of the whole stand-in."""

import threading

from errors import ApiError

TYPES = {400: "bad_request_error", 401: "auth_error", 404: "not_found_error", 429: "throttling_error",
         503: "no_db_connection"}
RULE_FIELDS = {"path", "method", "process", "times", "skip", "status", "body", "headers", "delay_ms", "hang",
               "drop_after", "duplicate_alias", "when"}


class Rule:
    """One ordered failure, for requests whose path begins with `path` ("*": any)."""

    def __init__(self, spec):
        unknown = set(spec) - RULE_FIELDS
        if unknown:
            raise ValueError(f"unknown fields: {sorted(unknown)}")
        self.path, self.method = spec.get("path", "*"), spec.get("method")
        self.process = spec.get("process")
        self.times, self.skip = spec.get("times", 1), spec.get("skip", 0)
        self.status, self.body = spec.get("status"), spec.get("body")
        self.headers = {name: str(value) for name, value in spec.get("headers", {}).items()}
        self.delay, self.hang = spec.get("delay_ms", 0) / 1000, bool(spec.get("hang"))
        self.drop_after, self.duplicate_alias = spec.get("drop_after"), bool(spec.get("duplicate_alias"))
        self.when = spec.get("when", "after" if self.drop_after else "before")
        if self.when not in ("before", "after"):
            raise ValueError("when: before or after")
        self.hits = 0
        self.released = threading.Event()

    def takes(self, process, method, path):
        """Whether this request is one to fail; counts it."""
        if self.times == 0 or (self.path != "*" and not path.startswith(self.path)):
            return False
        if self.method not in (None, method) or self.process not in (None, process):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1 if self.times > 0 else 0
        self.hits += 1
        return True

    def ends(self):
        """Whether the client gets something other than LiteLLM's answer (a mere delay does not)."""
        return self.hang or self.duplicate_alias or self.status is not None or self.drop_after is not None

    def failure(self):
        """The error to show, with a body like LiteLLM's unless the rule brings one."""
        status = self.status or 500
        body = self.body
        if body is None:
            kind = TYPES.get(status, "internal_server_error")
            body = {"error": {"message": "Ordered failure", "type": kind, "param": None, "code": str(status)}}
        return ApiError(status, body, self.headers)

    def describe(self):
        """For GET /_standin/fail."""
        return {"path": self.path, "method": self.method, "process": self.process, "times": self.times,
                "skip": self.skip, "when": self.when, "status": self.status, "hang": self.hang,
                "drop_after": self.drop_after, "delay_ms": int(self.delay * 1000), "hits": self.hits}


class Rules:
    """The rules in force; the first that fits a request takes it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._rules = []

    def add(self, spec):
        """Adds a rule."""
        rule = Rule(spec)
        with self._lock:
            self._rules.append(rule)

    def clear(self):
        """Removes all rules and lets hanging requests go (their connections are closed)."""
        with self._lock:
            for rule in self._rules:
                rule.released.set()
            self._rules = []

    def take(self, process, method, path):
        """The rule for this request, or None."""
        if not self._rules:
            return None
        with self._lock:
            return next((rule for rule in self._rules if rule.takes(process, method, path)), None)

    def describe(self):
        """For GET /_standin/fail."""
        with self._lock:
            return [rule.describe() for rule in self._rules]


class Modes:
    """Settings that hold until they are changed."""

    DEFAULTS = {"db_down": False, "forbid_custom_keys": False, "alias_race": 0, "cost_per_call": 1.625e-05,
                "oversize": 0, "redirect": None, "cache_seconds": 60}

    def __init__(self, cache_seconds):
        self._cache_seconds = cache_seconds
        self.clear()

    def clear(self):
        """Back to the defaults."""
        for name, value in self.DEFAULTS.items():
            setattr(self, name, value)
        self.cache_seconds = self._cache_seconds

    def change(self, spec):
        """Sets what is named."""
        unknown = set(spec) - set(self.DEFAULTS)
        if unknown:
            raise ValueError(f"unknown modes: {sorted(unknown)}")
        for name, value in spec.items():
            setattr(self, name, value)

    def describe(self):
        """All of them."""
        return {name: getattr(self, name) for name in self.DEFAULTS}


class Meeting:
    """Makes requests with one name meet between LiteLLM's check and its insert, as concurrent ones may."""

    def __init__(self, modes):
        self._modes = modes
        self._condition = threading.Condition()
        self._waiting = {}

    def wait(self, name, seconds=2.0):
        """Waits for the others; `alias_race` says how many meet (true: 2). Gives up after a while."""
        size = 2 if self._modes.alias_race is True else int(self._modes.alias_race)
        if size < 2:
            return
        with self._condition:
            group = self._waiting.setdefault(name, [0])
            group[0] += 1
            if group[0] >= size:
                del self._waiting[name]
                self._condition.notify_all()
                return
            full = self._condition.wait_for(lambda: group[0] >= size, seconds)
            if not full and self._waiting.get(name) is group:
                del self._waiting[name]
