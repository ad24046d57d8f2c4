"""Request validation as FastAPI and pydantic do it: 422 and the place of the fault."""

import json
import re

from errors import detail, invalid

MISSING_KEYS = "Value error, At least one of 'keys' or 'key_aliases' must be provided."


def parse_body(request, errors):
    """-> the JSON body as a dict. Runs before authentication, as FastAPI's parsing does.

    What can't be read at all is refused here; what is JSON of the wrong kind fails in LiteLLM's own code.
    Returns None if there is none, or not sent as JSON: refused after authentication, by require_object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        return None
    if not kind and errors.old and request.body:
        return None
    if not request.body:
        return None
    try:
        data = json.loads(request.body)
    except ValueError as fault:
        place = getattr(fault, "pos", 0)
        reason = getattr(fault, "msg", str(fault))
        raise invalid("json_invalid", ["body", place], "JSON decode error", {}, {"error": reason}) from None
    if not isinstance(data, dict):
        if errors.old:
            raise errors.auth(f"'{type(data).__name__}' object has no attribute 'get'")
        raise errors.bare()
    return data


def require_object(request, data):
    """422 for no body, and for one that was not sent as JSON."""
    if not request.body:
        raise invalid("missing", ["body"], "Field required")
    if data is None:
        text = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", ["body"], text, request.body.decode("utf-8", "replace"))
    return data


def _string(name, value):
    if not isinstance(value, str):
        raise invalid("string_type", ["body", name], "Input should be a valid string", value)
    return value


def _list(name, value):
    if not isinstance(value, list):
        raise invalid("list_type", ["body", name], "Input should be a valid list", value)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise invalid("string_type", ["body", name, index], "Input should be a valid string", item)
    return value


def _dict(name, value):
    if not isinstance(value, dict):
        raise invalid("dict_type", ["body", name], "Input should be a valid dictionary", value)
    return value


def _bool(name, value):
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes", "on"):
        return True
    if str(value).lower() in ("false", "0", "no", "off"):
        return False
    raise invalid("bool_parsing", ["body", name], "Input should be a valid boolean, unable to interpret input", value)


def _float(name, value):
    if isinstance(value, (int, float)):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        text = "Input should be a valid number, unable to parse string as a number"
        raise invalid("float_parsing", ["body", name], text, value) from None


def _int(name, value):
    if isinstance(value, float) and not value.is_integer():
        text = "Input should be a valid integer, got a number with a fractional part"
        raise invalid("int_from_float", ["body", name], text, value)
    try:
        return int(value)
    except (TypeError, ValueError):
        text = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", ["body", name], text, value) from None


def _key_type(name, value):
    if value in ("llm_api", "management", "read_only", "default"):
        return value
    expected = "'llm_api', 'management', 'read_only' or 'default'"
    raise invalid("enum", ["body", name], f"Input should be {expected}", value, {"expected": expected})


KEY_FIELDS = {
    "key": _string, "key_alias": _string, "duration": _string, "models": _list, "max_budget": _float,
    "user_id": _string, "team_id": _string, "metadata": _dict, "tpm_limit": _int, "rpm_limit": _int,
    "max_parallel_requests": _int, "budget_duration": _string, "allowed_routes": _list, "blocked": _bool,
    "key_type": _key_type, "auto_rotate": _bool, "rotation_interval": _string, "aliases": _dict,
    "config": _dict, "permissions": _dict, "spend": _float,
}
TEAM_FIELDS = {
    "team_alias": _string, "team_id": _string, "models": _list, "metadata": _dict, "max_budget": _float,
    "budget_duration": _string, "rpm_limit": _int, "tpm_limit": _int, "blocked": _bool,
}
BUDGET_WORDS = ("hourly", "daily", "weekly", "monthly")
DELETE_FIELDS = {"keys": _list, "key_aliases": _list}


def fields(data, table):
    """The known fields of the body, of the right types (null is allowed); unknown ones are ignored."""
    return {name: None if data[name] is None else check(name, data[name])
            for name, check in table.items() if name in data}


def limits_error(values):
    """What the newer version says of limits that it refuses; None if they are good."""
    budget, duration = values.get("max_budget"), values.get("budget_duration")
    if budget is not None and budget < 0:
        return f"max_budget must be a non-negative finite number. Received: {budget}"
    if duration is not None and duration not in BUDGET_WORDS and not re.match(r"\d+(mo|[smhdw])", duration):
        return f"Invalid budget_duration '{duration}'. Use a format like '1h', '24h', '7d', or '30d'."
    return None


def require(data, name):
    """A field that must be there."""
    if name not in data:
        raise invalid("missing", ["body", name], "Field required", data)


def keys_or_aliases(data):
    """The bodies of /key/delete and /v2/key/info: -> (keys, key_aliases)."""
    values = fields(data, DELETE_FIELDS)
    if not values.get("keys") and not values.get("key_aliases"):
        raise detail(422, [{"type": "value_error", "loc": ["body"], "msg": MISSING_KEYS, "input": data,
                            "ctx": {"error": {}}}])
    return values.get("keys"), values.get("key_aliases")


def query_int(query, name, default, maximum=None):
    """A paging parameter, at least 1."""
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise invalid("int_parsing", ["query", name],
                      "Input should be a valid integer, unable to parse string as an integer", text) from None
    if value < 1:
        raise invalid("greater_than_equal", ["query", name], "Input should be greater than or equal to 1", text,
                      {"ge": 1})
    if maximum is not None and value > maximum:
        raise invalid("less_than_equal", ["query", name], f"Input should be less than or equal to {maximum}", text,
                      {"le": maximum})
    return value


def query_bool(query, name):
    """A switch, false by default."""
    text = query.get(name, "false").lower()
    if text in ("true", "1", "yes", "on", "t", "y"):
        return True
    if text in ("false", "0", "no", "off", "f", "n"):
        return False
    raise invalid("bool_parsing", ["query", name],
                  "Input should be a valid boolean, unable to interpret input", query[name])
