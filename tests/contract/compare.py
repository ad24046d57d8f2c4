"""Compares an answer with what was recorded: status, type of error, and the fields that a broker uses."""

import hashlib
import re
from datetime import datetime

UNSAID = {"/key/generate": "", "/key/update": "", "/key/info": "info."}
KEY_FIELDS = ("key_alias", "models", "team_id", "user_id", "metadata", "max_budget", "rpm_limit", "tpm_limit",
              "allowed_routes", "blocked", "budget_duration")
FORMATS = {"zulu": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z",
           "offset": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00"}
KINDS = {
    "time": lambda value: isinstance(value, str) and moment(value) is not None,
    "hash": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "uuid": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value),
    "int": lambda value: isinstance(value, int),
    "list": lambda value: isinstance(value, list),
    "dict": lambda value: isinstance(value, dict),
}
MISSING = object()
TOLERANCE = 5


def moment(text):
    """A time in either format."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def differences(wanted, answer, path):
    """-> lines, none if the answer is as recorded."""
    if answer.status != wanted["status"]:
        return [f"status {answer.status} instead of {wanted['status']}"]
    body = answer.json()
    found = _error_differences(wanted, body)
    for name, value in wanted.get("headers", {}).items():
        got = answer.headers.get(name, "")
        if not (got.endswith(value) if name == "location" else got == value):
            found.append(f"header {name}: {got!r} instead of {value!r}")
    if "text" in wanted and wanted["text"] not in (answer.text, body):
        found.append("another text")
    if "says" in wanted and wanted["says"] not in answer.text:
        found.append(f"the message does not say {wanted['says']!r}")
    if "stream" in wanted and not (answer.text.startswith("data: {") and answer.text.endswith("data: [DONE]\n\n")):
        found.append("not a stream of events")
    if "fields" in wanted:
        found += _field_differences(wanted["fields"], body, path)
    return found


def _error_differences(wanted, body):
    found = []
    error = body.get("error") if isinstance(body, dict) and isinstance(body.get("error"), dict) else {}
    for name in ("type", "code", "param"):
        if name in wanted and error.get(name, MISSING) != wanted[name]:
            found.append(f"error.{name}: {error.get(name)!r} instead of {wanted[name]!r}")
    if "detail" in wanted:
        detail = body.get("detail") if isinstance(body, dict) else None
        if isinstance(detail, list):
            got = [[entry["type"], entry["loc"]] for entry in detail]
        else:
            got = "text" if isinstance(detail, str) else sorted(detail or ())
        if got != wanted["detail"]:
            found.append(f"detail: {got!r} instead of {wanted['detail']!r}")
    return found


def _field_differences(fields, body, path):
    found = [f"{name}: {problem}" for name, value in fields.items() for problem in _check(name, value, body)]
    if path in UNSAID:
        prefix = UNSAID[path]
        for name in KEY_FIELDS:
            if prefix + name not in fields and _get(body, prefix + name) not in (None, [], {}):
                found.append(f"{prefix + name} should be empty")
    return found


def _check(name, wanted, body):
    """One field; the name's form says what of it is compared."""
    if name == "key_and_hash":
        return _check_hash(body)
    if name.endswith("expires_format"):
        text = _get(body, name.removesuffix("_format"))
        return [] if text is None or re.fullmatch(FORMATS[wanted], text) else [f"{text!r} is not of the {wanted} form"]
    if name.endswith("#"):
        got = len(_get(body, name[:-1]))
    elif "*" in name or "~" in name:
        return _check_list(name, wanted, body)
    else:
        got = _get(body, name)
    if isinstance(wanted, dict) and set(wanted) & {"is", "in", "exactly"}:
        return _check_kind(wanted, got, body, name)
    return [] if got == wanted else [f"{got!r} instead of {wanted!r}"]


def _check_hash(body):
    token = hashlib.sha256(body["key"].encode()).hexdigest()
    return [] if body["token"] == body["token_id"] == token else ["token is not the key's SHA-256"]


def _check_list(name, wanted, body):
    """LIST*FIELD: the set of FIELD's values; LIST~FIELD (FIELD may be empty): they include those wanted."""
    where, mark, field = re.fullmatch(r"([\w.]*)([*~])(\w*)", name).groups()
    got = {entry[field] if field else entry for entry in _get(body, where)} - {None}
    good = got == set(wanted) if mark == "*" else got >= set(wanted)
    return [] if good else [f"{sorted(got)} instead of {wanted}"]


def _check_kind(wanted, got, body, name):
    if "is" in wanted:
        return [] if KINDS[wanted["is"]](got) else [f"{got!r} is no {wanted['is']}"]
    if not isinstance(got, str):
        return [f"{got!r} is no time"]
    if "exactly" in wanted:
        return [] if moment(got) == moment(wanted["exactly"]) else [f"{got} instead of {wanted['exactly']}"]
    written = moment(_get(body, name.removesuffix("expires") + "updated_at"))
    seconds = (moment(got) - written).total_seconds()
    return [] if abs(seconds - wanted["in"]) <= TOLERANCE else [f"in {seconds} s instead of {wanted['in']} s"]


def _get(body, path):
    """A value by its dotted path; "" is the body itself."""
    for part in path.split(".") if path else ():
        if isinstance(body, list):
            body = body[int(part)] if int(part) < len(body) else MISSING
        else:
            body = body.get(part, MISSING) if isinstance(body, dict) else MISSING
    return body
