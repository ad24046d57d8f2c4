"""What PostgreSQL holds for LiteLLM (keys, teams, users), and what each proxy process has cached of it."""

import copy
import hashlib
import json
import os
import secrets
import threading
import uuid
from collections import deque

import clock as times

TIMES = ("expires", "created_at", "updated_at", "settings_updated_at", "last_active", "budget_reset_at")


def token_of(key):
    """The hash under which a key is stored; a hash stands for itself."""
    if key.startswith("sk-"):
        return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    return key


def new_secret():
    """A server-chosen key: sk- and 22 characters."""
    return "sk-" + secrets.token_urlsafe(16)


class Store:
    """The tables. Rows are dicts; times are datetimes of millisecond precision; no row holds a secret."""

    def __init__(self, clock):
        self.clock = clock
        self.lock = threading.RLock()
        self.clear()

    def clear(self):
        """Empties every table."""
        self.keys, self.teams, self.users = {}, {}, {}
        self.by_alias = {}
        self.deleted = deque(maxlen=1000)

    def add_key(self, row):
        """Inserts a key."""
        self.keys[row["token"]] = row
        self._index(row)

    def rename(self, row, alias):
        """Gives a key another alias."""
        self._unindex(row)
        row["key_alias"] = alias
        self._index(row)

    def remove_key(self, token):
        """Deletes a key if it is there; says whether it was."""
        row = self.keys.pop(token, None)
        if row is None:
            return False
        self._unindex(row)
        self.deleted.appendleft(row)
        return True

    def with_alias(self, alias):
        """The tokens of all keys with this alias (a race can make several)."""
        return list(self.by_alias.get(alias, ()))

    def _index(self, row):
        if row["key_alias"] is not None:
            self.by_alias.setdefault(row["key_alias"], {})[row["token"]] = True

    def _unindex(self, row):
        tokens = self.by_alias.get(row["key_alias"])
        if tokens:
            tokens.pop(row["token"], None)
            if not tokens:
                del self.by_alias[row["key_alias"]]

    def new_key_row(self, key, values, caller):
        """A row for /key/generate, with the columns' defaults."""
        now = times.to_ms(self.clock.now())
        row = {
            "token": token_of(key), "key_name": "sk-..." + key[-4:], "key_alias": None, "expires": None,
            "models": [], "user_id": None, "team_id": None, "metadata": {}, "blocked": None, "tpm_limit": None,
            "rpm_limit": None, "max_parallel_requests": None, "max_budget": None, "budget_duration": None,
            "allowed_routes": [], "key_type": "default", "spend": 0.0, "auto_rotate": False,
            "rotation_interval": None, "aliases": {}, "config": {}, "permissions": {}, "created_at": now,
            "created_by": caller, "updated_at": now, "updated_by": caller, "settings_updated_at": None,
            "last_active": None,
        }
        row.update({name: value for name, value in values.items() if name in row})
        return row

    def new_team_row(self, values, caller):
        """A row for /team/new."""
        now = times.to_ms(self.clock.now())
        row = {
            "team_alias": None, "team_id": values.get("team_id") or str(uuid.uuid4()), "metadata": {},
            "models": [], "max_budget": None, "budget_duration": None, "rpm_limit": None, "tpm_limit": None,
            "blocked": False, "spend": 0.0, "created_at": now, "updated_at": now,
            "members_with_roles": [{"user_id": caller, "user_email": None, "role": "admin"}],
        }
        row.update({name: value for name, value in values.items() if name in row and value is not None})
        return row

    def save(self, path):
        """Writes the tables to a file, atomically."""
        with self.lock:
            data = {"keys": list(self.keys.values()), "teams": list(self.teams.values()), "users": self.users}
            text = json.dumps(data, default=times.zulu)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)

    def load(self, path):
        """Reads what save() wrote; a missing file is an empty database."""
        if not os.path.exists(path):
            return
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        for row in data["keys"] + data["teams"]:
            for name in TIMES:
                if row.get(name):
                    row[name] = times.parse(row[name])
        with self.lock:
            self.clear()
            for row in data["keys"]:
                self.add_key(row)
            self.teams = {row["team_id"]: row for row in data["teams"]}
            self.users = data["users"]


class Process:
    """One proxy process: its number, its cache of key rows, its rate counters and its last good health check."""

    def __init__(self, number, store, modes):
        self.number, self.store, self.modes = number, store, modes
        self.clear()

    def clear(self):
        """Forgets everything, as a restart does."""
        self.cache, self.windows = {}, {}
        self.healthy_at = self.store.clock.time()

    def lookup(self, token):
        """-> (key row, team row, was it cached), or None if there is no such key.

        The rows are copies as of the first use: expiry, block and limits change here only when they age out.
        Raises ConnectionError when the database is needed and down.
        """
        now = self.store.clock.time()
        entry = self.cache.get(token)
        if entry and now - entry[0] < self.modes.cache_seconds:
            return entry[1], entry[2], True
        if self.modes.db_down:
            raise ConnectionError
        row = self.store.keys.get(token)
        if row is None:
            self.cache.pop(token, None)
            return None
        team = self.store.teams.get(row["team_id"])
        entry = (now, copy.copy(row), copy.copy(team))
        self.cache[token] = entry
        return entry[1], entry[2], False

    def forget(self, token):
        """Drops a key from the cache: this process served a change of it."""
        self.cache.pop(token, None)
