"""The control interface under /_standin/: for tests, without a credential."""

import json

import clock as times
from http_server import Response

SHOWN = ("token", "key_name", "key_alias", "expires", "blocked", "team_id", "user_id", "models", "metadata",
         "max_budget", "rpm_limit", "tpm_limit", "allowed_routes", "spend", "created_at")


class Control:
    """Answers control requests; a wrong one is 400 {"error": …}."""

    def __init__(self, site):
        self.site = site
        self.actions = {
            ("GET", "keys"): self._keys, ("POST", "keys"): self._add_key, ("GET", "teams"): self._teams,
            ("GET", "calls"): lambda spec: site.journal.describe(), ("DELETE", "calls"): self._clear_calls,
            ("GET", "fail"): lambda spec: site.rules.describe(), ("POST", "fail"): self._fail,
            ("DELETE", "fail"): self._clear_failures,
            ("GET", "mode"): lambda spec: site.modes.describe(), ("POST", "mode"): self._mode,
            ("GET", "clock"): lambda spec: self._clock({}), ("POST", "clock"): self._clock,
            ("POST", "reset"): self._reset,
        }

    def answer(self, request):
        """-> Response."""
        name = request.path.removeprefix("/_standin/").strip("/")
        action = self.actions.get((request.method, name))
        if action is None:
            return Response(404, {"error": "unknown control request"})
        try:
            spec = json.loads(request.body) if request.body else {}
            return Response(200, action(spec))
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            return Response(400, {"error": f"{type(fault).__name__}: {fault}"})

    def _keys(self, spec):
        with self.site.store.lock:
            return [shown(row, SHOWN) for row in self.site.store.keys.values()]

    def _teams(self, spec):
        with self.site.store.lock:
            return [shown(row, row) for row in self.site.store.teams.values()]

    def _add_key(self, spec):
        """Inserts a key as if an earlier owner had made it: {key, any column, expires_in: seconds}."""
        site = self.site
        with site.store.lock:
            row = site.store.new_key_row(spec.pop("key"), {}, "default_user_id")
            if "expires_in" in spec:
                now = site.clock.now()
                row["expires"] = times.to_ms(times.add_duration(now, f"{int(spec.pop('expires_in'))}s"))
            unknown = set(spec) - set(row)
            if unknown:
                raise ValueError(f"unknown columns: {sorted(unknown)}")
            for name in ("expires", "created_at"):
                if spec.get(name):
                    spec[name] = times.parse(spec[name])
            row.update(spec)
            site.store.add_key(row)
        return shown(row, SHOWN)

    def _clear_calls(self, spec):
        self.site.journal.clear()
        return {}

    def _fail(self, spec):
        for rule in spec if isinstance(spec, list) else [spec]:
            self.site.rules.add(rule)
        return self.site.rules.describe()

    def _clear_failures(self, spec):
        self.site.rules.clear()
        return {}

    def _mode(self, spec):
        self.site.modes.change(spec)
        return self.site.modes.describe()

    def _clock(self, spec):
        if "freeze" in spec:
            self.site.clock.freeze(bool(spec["freeze"]))
        offset = self.site.clock.advance(float(spec.get("advance_seconds", 0)))
        return {"now": times.zulu(self.site.clock.now()), "offset_seconds": offset}

    def _reset(self, spec):
        self.site.reset()
        return {}


def shown(row, names):
    """Some columns of a row, as JSON values."""
    return {name: times.zulu(row[name]) if hasattr(row[name], "isoformat") else row[name] for name in names}
