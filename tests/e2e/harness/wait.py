"""Waiting on conditions: the only place where the tests sleep."""

import time

PAUSE = 0.01


def wait_until(condition, timeout=10.0, what=None):
    """Polls until condition() is true and returns its value; what: a text, or a function that makes one."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            said = what() if callable(what) else what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {timeout} s: {said}")
        time.sleep(PAUSE)


def stays(condition, seconds):
    """condition() holds now and at every look for some time: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(PAUSE)
    return True
