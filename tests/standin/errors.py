"""LiteLLM's three shapes of error, and what differs between its versions."""

DB_MESSAGE = (
    "Can't reach database server at `localhost:5432`\n\n"
    "Please make sure your database server is running at `localhost:5432`."
)
OLD = "1.80.11"


class ApiError(Exception):
    """An answer that is not a success; body is a dict (JSON) or a str (plain text)."""

    def __init__(self, status, body, headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def error(status, message, kind, param=None):
    """{"error": {message, type, param, code}}: code is the status as a string."""
    return ApiError(status, {"error": {"message": message, "type": kind, "param": param, "code": str(status)}})


def detail(status, value, headers=None):
    """{"detail": …}: FastAPI's own shape."""
    return ApiError(status, {"detail": value}, headers)


def invalid(kind, loc, message, given=None, ctx=None):
    """422 with one validation error."""
    entry = {"type": kind, "loc": loc, "msg": message, "input": given}
    if ctx is not None:
        entry["ctx"] = ctx
    return detail(422, [entry])


class Errors:
    """The errors whose wording or status depends on the version."""

    def __init__(self, version):
        self.old = version == OLD

    def wrapped(self, status, value):
        """An HTTPException caught by a management endpoint: its detail printed as Python prints a dict."""
        return error(status, str(value), "internal_server_error", "None" if self.old else None)

    def internal(self, message):
        """500 with a message."""
        prefix = "Internal Server Error, " if self.old else ""
        return error(500, prefix + message, "internal_server_error", "None" if self.old else None)

    def bare(self):
        """An exception that no endpoint caught."""
        if self.old:
            return ApiError(500, "Internal Server Error")
        return ApiError(500, {"error": {"message": "Internal server error", "type": "internal_server_error"}})

    def auth(self, message, status=401):
        """A refused credential, or anything that LiteLLM mistakes for one."""
        return error(status, f"Authentication Error, {message}", "auth_error", "None")

    def unknown_token(self, key, token):
        """The key is in no table: the message repeats its end and its hash."""
        end = key[-4:] if self.old or len(key) >= 16 else ""
        return error(
            401,
            "Authentication Error, Invalid proxy server token passed. "
            f"Received API Key = sk-...{end}, Key Hash (Token) ={token}. "
            "Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
            "token_not_found_in_db",
            "key",
        )

    def not_a_key(self, given):
        """A credential that does not start with sk-; the old version repeats it."""
        if self.old:
            return self.auth(f"LiteLLM Virtual Key expected. Received={given}, expected to start with 'sk-'.")
        text = f"LiteLLM Virtual Key expected. Received={mask(given)}, expected to start with 'sk-'."
        return error(401, text, "auth_error", "None")

    def expired(self, expires, now, param):
        """An expired key; param names it more or less openly."""
        text = f"Authentication Error - Expired Key. Key Expiry time {expires} and current time {now}"
        return error(400 if self.old else 401, text, "expired_key", param)

    def blocked(self):
        """A blocked key."""
        who = "you're admin" if self.old else "you're an admin"
        return self.auth(f"Key is blocked. Update via `/key/unblock` if {who}.")

    def admin_only(self, route):
        """A management route called with a virtual key."""
        user = "unknown" if self.old else "*******"
        return self.auth(
            "Only proxy admin can be used to generate, delete, update info for new keys/users/teams. "
            f"Route={route}. Your role=unknown. Your user_id={user}"
        )

    def auth_without_database(self):
        """The credential can't be looked up because the database is down."""
        if self.old:
            return self.auth(DB_MESSAGE)
        text = "Service Unavailable, the authentication database is temporarily unreachable. Please retry shortly."
        return error(503, text, "no_db_connection", "None")

    def budget(self, owner, spend, limit):
        """Over budget."""
        who = "" if self.old else f"{owner} "
        text = f"Budget has been exceeded! {who}Current cost: {spend}, Max budget: {limit}"
        return error(400 if self.old else 429, text, "budget_exceeded")

    def model_denied(self, owner, models, model):
        """The key's or the team's models exclude this one."""
        text = (f"{owner} not allowed to access model. This {owner} can only access models={models}. "
                f"Tried to access {model}")
        return error(401 if self.old else 403, text, f"{owner}_model_access_denied", "model")

    def key_not_found(self):
        """/key/info of a key that is not in the database."""
        return error(404, "Key not found in database", "not_found_error", "key")

    def unknown_target(self, token):
        """/key/block and /key/unblock of an unknown key."""
        if self.old:
            text = (f"Authentication Error, Invalid proxy server token passed. key={token}, not found in db. "
                    "Create key via `/key/generate` call.")
            return error(401, text, "token_not_found_in_db", "key")
        return error(404, "Key not found.", "not_found_error", "key")

    def alias_taken(self, alias):
        """A second key with an alias that another has."""
        text = f"Key with alias '{alias}' already exists. Unique key aliases across all keys are required."
        return error(400, text, "bad_request_error", "key_alias")


def mask(value):
    """Four characters, four stars, four characters."""
    return f"{value[:4]}****{value[-4:]}" if len(value) > 8 else "****"
