"""The journal of calls that tests read. It holds no credential: hashes and names of fields only."""

import json
import re
import threading
import time
from collections import Counter, deque

from auth import credential
from store import token_of

KEPT = 20000
SECRET = re.compile(r"sk-[A-Za-z0-9_-]+")


class Journal:
    """The latest calls, and a count of all by path."""

    def __init__(self, master_key):
        self._lock, self._master_key = threading.Lock(), master_key
        self.clear()

    def clear(self):
        """Forgets all calls."""
        with self._lock:
            self._calls, self._counts = deque(maxlen=KEPT), Counter()

    def open(self, request, process):
        """Enters a call before it is carried out; -> its entry, whose status is filled in later."""
        path = SECRET.sub("{key}", request.path)
        body = _body(request)
        targets = [body.get("key"), request.query.get("key"), *_strings(body.get("keys"))]
        entry = {
            "method": request.method, "path": path, "status": None, "at": time.time(), "process": process,
            "body_fields": sorted(body), "query_fields": sorted(request.query),
            "alias": body.get("key_alias", request.query.get("key_alias")),
            "targets": [token_of(key) for key in targets if isinstance(key, str)],
            "caller": self._caller(request.headers), "user_agent": request.headers.get("user-agent"), "fault": False,
        }
        with self._lock:
            self._calls.append(entry)
            self._counts[path] += 1
        return entry

    def _caller(self, headers):
        """The hash of the credential ("master" for the master key), or null."""
        key = credential(headers)
        if key == self._master_key:
            return "master"
        return token_of(key) if key else None

    def describe(self):
        """For GET /_standin/calls."""
        with self._lock:
            return {"calls": list(self._calls), "counts": dict(self._counts), "total": sum(self._counts.values())}


def _body(request):
    try:
        data = json.loads(request.body) if request.body else {}
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _strings(value):
    return value if isinstance(value, list) else []
