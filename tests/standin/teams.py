"""The /team/ and /user/ routes."""

from math import ceil

import clock as times
from errors import detail, error
from validate import TEAM_FIELDS, fields, limits_error, query_int, require


class Teams:
    """Handlers, as in Keys."""

    def __init__(self, site, process):
        self.site, self.process = site, process
        self.store, self.errors, self.views, self.modes = site.store, site.errors, site.views, site.modes

    def _check_limits(self, values):
        if not self.errors.old and (text := limits_error(values)):
            raise self.errors.wrapped(400, {"error": text})

    def new(self, request, caller):
        """POST /team/new: an alias may repeat, an id may not."""
        values = fields(request.data, TEAM_FIELDS)
        self._check_limits(values)
        team_id = values.get("team_id")
        if team_id in self.store.teams:
            text = f"Team id = {team_id} already exists. Please use a different team id."
            raise self.errors.wrapped(400, {"error": text})
        if team_id is not None:
            self.site.meet("team", team_id)
        if team_id in self.store.teams:
            raise self.errors.internal("Unique constraint failed on the fields: (`team_id`)")
        row = self.store.new_team_row(values, caller.user)
        self.store.teams[row["team_id"]] = row
        return self.views.team("team_new", row)

    def info(self, request, caller):
        """GET /team/info: a database that is down looks like a team that is not there."""
        team_id = request.query.get("team_id")
        if team_id is None:
            raise error(422, "{'message': 'Malformed request. No team id passed in.'}", "auth_error", "None")
        row = None if self.modes.db_down else self.store.teams.get(team_id)
        if row is None:
            text = str({"message": f"Team not found, passed team id: {team_id}."})
            raise error(404, text, "auth_error", "None")
        if not caller.admin and caller.row["team_id"] != team_id:
            text = (f"API key not authorized to access this team={team_id}. "
                    "No user_id or team_id associated with this key.")
            raise error(403, str({"error": text}), "auth_error", "None")
        keys = [{"token": key["token"], **self.views.info(key)}
                for key in self.store.keys.values() if key["team_id"] == team_id]
        return {"team_id": team_id, "team_info": self.views.team("team_info", row), "keys": keys,
                "team_memberships": []}

    def _check_admin(self, caller):
        if not caller.admin:
            text = "Only admin users can query all teams/other teams. Your user role=internal_user"
            raise detail(401, {"error": text})

    def list(self, request, caller):
        """GET /team/list: all of them (or a user's, of which there are none here)."""
        self._check_admin(caller)
        if request.query.get("user_id"):
            return []
        return [self.views.team("team_list", row) for row in self.store.teams.values()]

    def list_v2(self, request, caller):
        """GET /v2/team/list: pages, newest first; team_alias matches any part in any case."""
        page, size = query_int(request.query, "page", 1), query_int(request.query, "page_size", 10, 100)
        self._check_admin(caller)
        alias, team_id = request.query.get("team_alias", "").lower(), request.query.get("team_id")
        rows = [row for row in reversed(self.store.teams.values())
                if alias in (row["team_alias"] or "").lower() and team_id in (None, row["team_id"])]
        counts = {}
        for key in self.store.keys.values():
            counts[key["team_id"]] = counts.get(key["team_id"], 0) + 1
        teams = [self.views.team("team_v2", row) for row in rows[(page - 1) * size:page * size]]
        for team in teams:
            if "keys_count" in team:
                team["keys_count"] = counts.get(team["team_id"], 0)
        return {"teams": teams, "total": len(rows), "page": page, "page_size": size,
                "total_pages": ceil(len(rows) / size)}

    def update(self, request, caller):
        """POST /team/update."""
        require(request.data, "team_id")
        values = fields(request.data, TEAM_FIELDS)
        self._check_limits(values)
        row = self.store.teams.get(values.pop("team_id"))
        if row is None:
            text = f"Team not found, passed team_id={request.data['team_id']}"
            raise self.errors.wrapped(404, {"error": text})
        row.update({name: value for name, value in values.items() if value is not None})
        row["updated_at"] = times.to_ms(self.store.clock.now())
        return {"team_id": row["team_id"], "data": self.views.team("team_new", row)}

    def delete(self, request, caller):
        """POST /team/delete: all or nothing; the teams' keys go too, though the old version still has them cached."""
        require(request.data, "team_ids")
        ids = request.data["team_ids"]
        for team_id in ids:
            if team_id not in self.store.teams:
                raise detail(404, {"error": f"Team not found, passed team_id={team_id}"})
        for team_id in ids:
            self.store.teams.pop(team_id, None)
        for token in [key["token"] for key in self.store.keys.values() if key["team_id"] in ids]:
            self.store.remove_key(token)
            if not self.errors.old:
                self.process.forget(token)
        return {"deleted_teams": ids}

    def new_user(self, request, caller):
        """POST /user/new, without a key of its own."""
        user_id, role = request.data.get("user_id"), request.data.get("user_role", "internal_user_viewer")
        if user_id in self.store.users:
            raise self.errors.wrapped(409, {"error": f"User with id {user_id} already exists"})
        row = {"user_id": user_id, "user_role": role}
        self.store.users[user_id] = row
        return self.views.user({**row, "key": ""})
