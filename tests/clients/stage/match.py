"""What a scenario expects, held against what came: plain values, or a word before a value.

    "= x"  x itself, whatever it begins with      "not x"   another        "has x"   a text, or one of a list, with x in it
    "< 5", "<= 5", "> 5", ">= 5"                  "absent"  null or not there
"$name.field" anywhere stands for what was saved, and keeps its type if it stands alone."""

import operator
import re

COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
REFERENCE = re.compile(r"\$(\w+(?:\.\w+)*)")


def filled(value, saved):
    """The value with each reference replaced."""
    if isinstance(value, dict):
        return {name: filled(one, saved) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, saved) for one in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    return _look_up(whole[1], saved) if whole else REFERENCE.sub(lambda found: str(_look_up(found[1], saved)), value)


def _look_up(path, saved):
    value = saved
    for name in path.split("."):
        assert name in value, f"${path}: nothing was saved under this name"
        value = value[name]
    return value


def matches(expected, actual):
    """Is it so?"""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(matches(one, actual.get(name)) for name, one in expected.items())
    if isinstance(expected, list):
        return isinstance(actual, list) and len(actual) == len(expected) and all(map(matches, expected, actual))
    if not isinstance(expected, str):
        return type(actual) is type(expected) and actual == expected
    if expected == "absent":
        return actual is None
    word, _, operand = expected.partition(" ")
    if word in COMPARED:
        return isinstance(actual, (int, float)) and COMPARED[word](actual, float(operand))
    if word == "has":
        return any(operand in str(one) for one in (actual if isinstance(actual, list) else [actual]))
    if word == "not":
        return actual is not None and str(actual) != operand
    return actual == (operand if word == "=" else expected)
