"""The stand-in's idea of time: a clock that can be advanced, LiteLLM's time formats and durations."""

import re
import threading
import time
from datetime import datetime, timedelta, timezone

UTC = timezone.utc
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Clock:
    """Wall-clock time plus an offset that tests may raise; it can be made to stand still."""

    def __init__(self):
        self.offset, self._still = 0.0, None
        self._date = (0, "")
        self._lock = threading.Lock()

    def time(self):
        """Seconds since the epoch."""
        still = self._still
        return (time.time() if still is None else still) + self.offset

    def freeze(self, still):
        """Stops the clock where it is, or lets it go on at the true time plus the offset."""
        self._still = time.time() if still else None

    def reset(self):
        """Back to the true time."""
        self.offset, self._still = 0.0, None

    def now(self):
        """The time as an aware datetime."""
        return datetime.fromtimestamp(self.time(), UTC)

    def advance(self, seconds):
        """Shifts the clock; returns the whole offset."""
        with self._lock:
            self.offset += seconds
            return self.offset

    def http_date(self):
        """The value of a Date header."""
        second = int(self.time())
        if self._date[0] != second:
            self._date = (second, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)))
        return self._date[1]


def to_ms(moment):
    """What the database keeps of a time: milliseconds, truncated."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def zulu(moment):
    """The format of /key/generate and the lists: six digits (none when they are zero) and Z."""
    return moment.replace(tzinfo=None).isoformat() + "Z"


def offset_format(moment):
    """The format of /key/info and /key/update: +00:00."""
    return moment.isoformat()


def printed(moment):
    """How Python prints it inside an error message."""
    return str(moment)


def parse(text):
    """Reads either format back."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def add_duration(now, duration):
    """now + duration as LiteLLM 1.102.4 counts; ValueError carries LiteLLM's message.

    The pattern is not anchored at its end, so "500ms" is 500 minutes and "1h30m" is one hour.
    """
    match = re.match(r"(\d+)(mo|[smhdw]?)", duration)
    if not match:
        raise ValueError("Invalid duration format")
    value, unit = int(match.group(1)), match.group(2)
    if not unit:
        raise ValueError(f"Unsupported duration unit, passed duration: {duration}")
    try:
        if unit == "mo":
            return _add_months(now, value)
        return now + timedelta(seconds=value * SECONDS[unit])
    except OverflowError:
        raise ValueError("date value out of range") from None


def _add_months(now, months):
    total = now.month - 1 + months
    year, month = now.year + total // 12, total % 12 + 1
    first_after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    last_day = (first_after - timedelta(days=1)).day
    return now.replace(year=year, month=month, day=min(now.day, last_day))


def next_on_the_clock(now, duration):
    """Where LiteLLM 1.80.11's /key/generate ends a duration: on the wall clock, whatever it can't read at midnight."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match = re.match(r"(\d+)([a-z]+)", duration)
    if not match:
        return midnight + timedelta(days=1)
    value, unit = int(match.group(1)), match.group(2)
    if unit not in ("s", "m", "h", "d", "mo"):
        return midnight + timedelta(days=1)
    if value == 0:
        return now
    try:
        if unit == "mo" or (unit == "d" and value == 30):
            return _first_of_next_month(midnight, 1 if unit == "d" else value)
        if unit == "d":
            return _next_day(now, midnight, value)
        return _next_multiple(now, midnight, value, unit)
    except OverflowError:
        raise ValueError("date value out of range") from None


def _first_of_next_month(midnight, months):
    if months != 1:
        raise ValueError("Monthly resets currently only support 1 month intervals")
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def _next_day(now, midnight, days):
    if days == 7:
        return midnight + timedelta(days=7 - now.weekday())
    return midnight + timedelta(days=days)


def _next_multiple(now, midnight, value, unit):
    """The next multiple of value within the day, hour or minute above the unit."""
    base = {"h": midnight, "m": now.replace(minute=0, second=0, microsecond=0),
            "s": now.replace(second=0, microsecond=0)}[unit]
    current = {"h": now.hour, "m": now.minute, "s": now.second}[unit]
    following = current + value - current % value
    if unit == "h" and following >= 24:
        return midnight + timedelta(days=1, hours=following % 24)
    return base + timedelta(seconds=following * SECONDS[unit])
