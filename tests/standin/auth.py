"""Who is calling, and what it may call: LiteLLM's user_api_key_auth."""

from errors import detail
from store import token_of

LLM_ROUTES = {"/v1/models", "/models", "/v1/chat/completions", "/chat/completions", "/v1/embeddings",
              "/embeddings", "/v1/messages"}
INFO_ROUTES = {"/key/info", "/key/health", "/team/info", "/team/list", "/v2/team/list", "/user/info",
               "/v2/key/info", "/health", "/key/list", "/models", "/v1/models"}
WRITE_ROUTES = {"/key/generate", "/key/update", "/key/delete", "/key/block", "/key/unblock", "/key/regenerate",
                "/key/aliases", "/team/new", "/team/update", "/team/delete", "/user/new"}
GROUPS = {"llm_api_routes": LLM_ROUTES, "info_routes": INFO_ROUTES, "management_routes": WRITE_ROUTES | INFO_ROUTES}
MASTER_USER = "default_user_id"


class Caller:
    """The authenticated caller; row and team are None for the master key."""

    __slots__ = ("row", "team", "admin", "user")

    def __init__(self, row=None, team=None, admin=True, user=MASTER_USER):
        self.row, self.team, self.admin, self.user = row, team, admin, user


def credential(headers):
    """The credential as LiteLLM finds it: its own header, then Authorization, api-key, x-api-key.

    None when there is none at all, "" when it can't be read.
    """
    own = headers.get("x-litellm-api-key")
    if own is not None:
        return own.removeprefix("Bearer ")
    bearer = headers.get("authorization")
    if bearer is not None:
        for prefix in ("Bearer ", "bearer ", "Basic "):
            if bearer.startswith(prefix):
                return bearer[len(prefix):].strip()
        return ""
    return headers.get("api-key", headers.get("x-api-key"))


class Authenticator:
    """Checks credentials for one proxy process."""

    def __init__(self, process, store, errors, master_key):
        self.process, self.store, self.errors, self.master_key = process, store, errors, master_key

    def authenticate(self, request, route):
        """-> Caller, or raises the refusal. route is the matched route's template."""
        key = credential(request.headers)
        if key is None:
            raise self.errors.auth("No api key passed in.")
        if key == self.master_key:
            return Caller()
        if not key:
            raise self.errors.auth("Malformed API Key passed in. Ensure Key has `Bearer ` prefix.")
        if not key.startswith("sk-"):
            raise self.errors.not_a_key(key)
        row, team = self._live_row(key)
        user = self.store.users.get(row["user_id"])
        admin = bool(user) and user["user_role"] == "proxy_admin"
        self._check_route(row, admin, route)
        return Caller(row, team, admin, row["user_id"])

    def _live_row(self, key):
        token = token_of(key)
        try:
            found = self.process.lookup(token)
        except ConnectionError:
            raise self.errors.auth_without_database() from None
        if found is None:
            raise self.errors.unknown_token(key, token)
        row, team, cached = found
        if row["blocked"]:
            raise self.errors.blocked()
        now = self.store.clock.now()
        if row["expires"] is not None and row["expires"] < now:
            param = key if cached else token
            raise self.errors.expired(row["expires"], now, param if self.errors.old else "sk-..." + param[-4:])
        return row, team

    def _check_route(self, row, admin, route):
        """The old version asks for the role first, the newer one for allowed_routes."""
        if self.errors.old:
            self._check_role(admin, route)
            check_allowed(row, route)
        else:
            check_allowed(row, route)
            self._check_role(admin, route)

    def _check_role(self, admin, route):
        if not admin and (route in WRITE_ROUTES or route.endswith("/regenerate")):
            raise self.errors.admin_only(route)


def check_allowed(row, route):
    """A key with allowed_routes may call those alone (routes, or names of groups of them)."""
    allowed = row["allowed_routes"]
    if not allowed or route in allowed or any(route in GROUPS.get(name, ()) for name in allowed):
        return
    raise detail(403, "Virtual key is not allowed to call this route. "
                      f"Only allowed to call routes: {allowed}. Tried to call route: {route}")
