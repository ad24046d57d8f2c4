"""The /key/ routes."""

import copy
import re
from math import ceil

import clock as times
from errors import error, invalid
from store import new_secret, token_of
from validate import KEY_FIELDS, fields, keys_or_aliases, limits_error, query_bool, query_int, require

ROUTES_OF_TYPE = {"llm_api": ["llm_api_routes"], "management": ["management_routes"], "read_only": ["info_routes"]}
FORBIDDEN = "Custom API key values are disabled by your administrator. Keys must be auto-generated."
LICENCE = ("Regenerating Virtual Keys is an Enterprise feature, You must be a LiteLLM Enterprise user to use this "
           "feature. If you have a license please set `LITELLM_LICENSE` in your env.")
EMPTY = {"models": [], "allowed_routes": [], "metadata": {}, "aliases": {}, "config": {}, "permissions": {}}


class Keys:
    """Handlers: each takes the request and the caller and returns the JSON of a 200."""

    def __init__(self, site, process):
        self.site, self.process = site, process
        self.store, self.errors, self.views, self.modes = site.store, site.errors, site.views, site.modes

    def generate(self, request, caller):
        """POST /key/generate."""
        values = {name: value for name, value in fields(request.data, KEY_FIELDS).items() if value is not None}
        self._check_limits(values, self.errors.wrapped)
        if values.get("team_id") == "" and not self.errors.old:
            del values["team_id"]
        alias = values.get("key_alias")
        if alias is not None:
            self._check_alias(alias, None)
            self.site.meet("key", alias)
        key = self._chosen_key(values.pop("key", None))
        expires = self._first_expiry(values.pop("duration", None))
        if self.modes.db_down:
            raise self.errors.wrapped(500, {"error": "Internal Server Error."})
        if values.get("key_type") in ROUTES_OF_TYPE:
            values["allowed_routes"] = ROUTES_OF_TYPE[values["key_type"]]
        row = self.store.new_key_row(key, values, caller.user)
        row["expires"] = None if expires is None else times.to_ms(expires)
        stored = self.store.keys.get(row["token"])
        if stored is None:
            self.store.add_key(row)
        return self.views.generated(row, key, expires, (stored or row)["created_at"])

    def _check_limits(self, values, refuse):
        """What the newer version refuses and the old one takes."""
        if not self.errors.old and (text := limits_error(values)):
            raise refuse(400, {"error": text})

    def _check_alias(self, alias, own_token):
        if "\n" in alias and not self.errors.old:
            raise error(400, "Invalid key_alias", "bad_request_error", "key_alias")
        if self.modes.db_down:
            raise ConnectionError
        if any(token != own_token for token in self.store.with_alias(alias)):
            raise self.errors.alias_taken(alias)

    def _chosen_key(self, key):
        if key is None:
            return new_secret()
        if self.modes.forbid_custom_keys:
            raise self.errors.wrapped(403, {"error": FORBIDDEN})
        prefix = "Invalid key format. LiteLLM Virtual Key must "
        if not key.startswith("sk-"):
            shown = key if self.errors.old else f"{key[:4]}****{key[-4:]}" if len(key) > 8 else "****"
            raise self.errors.wrapped(400, {"error": f"{prefix}start with 'sk-'. Received: {shown}"})
        if len(key) < 16 and not self.errors.old:
            raise self.errors.wrapped(400, {"error": prefix + "be at least 16 characters long."})
        return key

    def _first_expiry(self, duration):
        if duration is None:
            return None
        try:
            add = times.next_on_the_clock if self.errors.old else times.add_duration
            return add(self.store.clock.now(), duration)
        except ValueError as fault:
            raise self.errors.internal(str(fault)) from None

    def info(self, request, caller):
        """GET /key/info."""
        key = request.query.get("key")
        own = key is None
        if own:
            key = caller.row["token"] if caller.row else ""
        row = self.store.keys.get(token_of(key))
        if row is None:
            raise self.errors.key_not_found()
        if not caller.admin and row["token"] != caller.row["token"]:
            text = "You are not allowed to access this key's info. Your role=internal_user"
            raise self.errors.wrapped(403, text)
        return {"key": key, "info": self.views.info(row)}

    def info_many(self, request, caller):
        """POST /v2/key/info: only the known ones."""
        keys, aliases = keys_or_aliases(request.data)
        tokens = [token_of(key) for key in keys or ()] + [t for a in aliases or () for t in self.store.with_alias(a)]
        rows = [self.store.keys[token] for token in tokens if token in self.store.keys]
        infos = [({"token": row["token"]} if self.errors.old else {}) | self.views.info(row) for row in rows]
        return {"key": keys, "info": infos}

    def update(self, request, caller):
        """POST /key/update."""
        if self.errors.old:
            require(request.data, "key")
        elif request.data.get("key") is None and request.data.get("key_alias") is None:
            text = "Value error, either key or key_alias must be provided"
            raise invalid("value_error", ["body"], text, request.data, {"error": {}})
        values = fields(request.data, KEY_FIELDS)
        key = values.pop("key", None)
        row = self._row_to_update(key, values)
        self._check_limits(values, lambda status, value: error(status, str(value), "auth_error", "None"))
        if values.get("key_alias") is not None:
            self._check_alias(values["key_alias"], row["token"])
        changes = self._changes(values)
        if "key_alias" in changes:
            self.store.rename(row, changes.pop("key_alias"))
        now = times.to_ms(self.store.clock.now())
        row.update(changes, updated_at=now, updated_by=caller.user)
        if not self.errors.old:
            row["settings_updated_at"] = now
        self.process.forget(row["token"])
        return self.views.updated(row, row["token"] if key is None else key)

    def _row_to_update(self, key, values):
        if key is None:
            tokens = self.store.with_alias(values.pop("key_alias"))
            row = self.store.keys[tokens[0]] if tokens else None
        else:
            row = self.store.keys.get(token_of(key))
        if row is None and self.errors.old:
            text = f"Authentication Error: invalid user key - user key does not exist in db. User Key={key}"
            raise error(401, text, "auth_error", "None")
        if row is None:
            raise error(404, "Key not found.", "not_found_error", "key")
        return row

    def _changes(self, values):
        """The columns to write. null clears a column; the old version leaves it."""
        changes = {}
        for name, value in values.items():
            if name == "duration":
                if value is None and self.errors.old:
                    continue
                changes["expires"] = self._later_expiry(value)
            elif name == "key_type":
                continue
            elif value is not None or not self.errors.old:
                changes[name] = copy.copy(EMPTY.get(name)) if value is None else value
        return changes

    def _later_expiry(self, duration):
        if duration is None or (duration == "-1" and not self.errors.old):
            return None
        try:
            return times.to_ms(times.add_duration(self.store.clock.now(), duration))
        except ValueError as fault:
            raise self.errors.auth(str(fault), 400) from None

    def block(self, request, caller):
        """POST /key/block."""
        return self.views.blocked(self._set_blocked(request, True))

    def unblock(self, request, caller):
        """POST /key/unblock."""
        return self.views.unblocked(self._set_blocked(request, False))

    def _set_blocked(self, request, value):
        require(request.data, "key")
        key = fields(request.data, {"key": KEY_FIELDS["key"]})["key"]
        if not re.fullmatch(r"sk-[A-Za-z0-9_-]+|[a-fA-F0-9]{64}", key) or len(key) > 100:
            raise error(400, "Invalid key format.", "bad_request_error", "key")
        row = self.store.keys.get(token_of(key))
        if row is None:
            raise self.errors.unknown_target(token_of(key))
        row["blocked"] = value
        row["updated_at"] = times.to_ms(self.store.clock.now())
        if not self.errors.old:
            row["settings_updated_at"] = row["updated_at"]
        self.process.forget(row["token"])
        return row

    def delete(self, request, caller):
        """POST /key/delete: as soon as one is known, all are called deleted. With keys, aliases are ignored."""
        keys, aliases = keys_or_aliases(request.data)
        named = keys or aliases
        tokens = {token_of(key) for key in keys} if keys else {t for a in aliases for t in self.store.with_alias(a)}
        known = [token for token in tokens if self.store.remove_key(token)]
        if not known:
            raise self.errors.wrapped(404, {"error": "No keys found"})
        for token in known:
            self.process.forget(token)
        return {"deleted_keys": named}

    def regenerate(self, request, caller):
        """POST /key/regenerate and /key/{key}/regenerate: needs a licence."""
        raise self.errors.internal(LICENCE)

    def list(self, request, caller):
        """GET /key/list."""
        query = request.query
        page, size = query_int(query, "page", 1), query_int(query, "size", 10, 100)
        full = query_bool(query, "return_full_object")
        substring = query_bool(query, "substring_matching") and not self.errors.old
        if not caller.admin:
            text = "You are not authorized to access this endpoint. No 'user_id' is associated with your API key."
            raise error(403, text, "bad_request_error", "user_id")
        deleted = query.get("status") == "deleted" and not self.errors.old
        rows = list(self.store.deleted) if deleted else list(reversed(self.store.keys.values()))
        rows = [row for row in rows if self._listed(row, query, substring)]
        if query.get("sort_order") == "asc":
            rows.reverse()
        shown = rows[(page - 1) * size:page * size]
        keys = [self.views.listed(row) for row in shown] if full else [row["token"] for row in shown]
        return {"keys": keys, "total_count": len(rows), "current_page": page, "total_pages": ceil(len(rows) / size)}

    @staticmethod
    def _listed(row, query, substring):
        for name, column in (("team_id", "team_id"), ("user_id", "user_id"), ("key_hash", "token")):
            if query.get(name) and row[column] != query[name]:
                return False
        alias = query.get("key_alias")
        if not alias:
            return True
        if substring:
            return alias.lower() in (row["key_alias"] or "").lower()
        return row["key_alias"] == alias

    def aliases(self, request, caller):
        """GET /key/aliases: the old version knows neither filter nor pages."""
        names = sorted(alias for alias in self.store.by_alias if (alias.strip() if self.errors.old else alias))
        if self.errors.old:
            return {"aliases": names}
        page, size = query_int(request.query, "page", 1), query_int(request.query, "size", 50, 100)
        wanted = request.query.get("search", "").lower()
        names = [name for name in names if wanted in name.lower()]
        return {"aliases": names[(page - 1) * size:page * size], "total_count": len(names), "current_page": page,
                "total_pages": ceil(len(names) / size), "size": size}
