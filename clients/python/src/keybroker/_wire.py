"""Messages as bytes: proto/PROTOCOL.md of the project is the authority, proto/vectors/ its test.

The walker reads headers alone, so that size, depth, counts and shape are known to be right before
msgpack, which allocates what a header claims, sees a byte.
"""

from __future__ import annotations

from typing import Any, Generator, Iterator, NamedTuple

import msgpack

from ._credential import Key


class Limits(NamedTuple):
    bytes: int
    depth: int
    values: int


REQUEST = Limits(16 << 10, 6, 256)
REPLY = Limits(64 << 10, 8, 4096)
METHOD_BYTES = 32

COMPLETE, INCOMPLETE, MALFORMED, TOO_LARGE = "complete", "incomplete", "malformed", "too_large"

_BAD, _NIL, _BOOL, _INT, _TEXT, _BIN, _ARRAY, _MAP = range(8)


def _form(byte: int) -> tuple[int, int, int]:
    """What a header opens, how many bytes of size or value follow, and the number in the header itself."""
    if byte < 0x80:
        return _INT, 0, byte
    if byte < 0x90:
        return _MAP, 0, byte & 0x0F
    if byte < 0xA0:
        return _ARRAY, 0, byte & 0x0F
    if byte < 0xC0:
        return _TEXT, 0, byte & 0x1F
    if byte >= 0xE0:
        return _INT, 0, byte - 0x100
    return {
        0xC0: (_NIL, 0, 0), 0xC2: (_BOOL, 0, 0), 0xC3: (_BOOL, 0, 0),
        0xC4: (_BIN, 1, 0), 0xC5: (_BIN, 2, 0), 0xC6: (_BIN, 4, 0),
        0xCC: (_INT, 1, 0), 0xCD: (_INT, 2, 0), 0xCE: (_INT, 4, 0), 0xCF: (_INT, 8, 0),
        0xD0: (_INT, 1, 0), 0xD1: (_INT, 2, 0), 0xD2: (_INT, 4, 0), 0xD3: (_INT, 8, 0),
        0xD9: (_TEXT, 1, 0), 0xDA: (_TEXT, 2, 0), 0xDB: (_TEXT, 4, 0),
        0xDC: (_ARRAY, 2, 0), 0xDD: (_ARRAY, 4, 0), 0xDE: (_MAP, 2, 0), 0xDF: (_MAP, 4, 0),
    }.get(byte, (_BAD, 0, 0))  # fmt: skip


_FORMS = tuple(map(_form, range(256)))

# What stands outside of any container but the message itself. _PARAM comes if _PARAMS says that there is one.
_OPENING, _TYPE, _ID, _METHOD, _PARAMS, _PARAM, _OUTCOME = range(7)
_SHAPES = ((_ID, _METHOD, _PARAMS), (_ID, _OUTCOME, _OUTCOME), (_METHOD, _PARAMS))


def _fits(slot: int, kind: int, number: int) -> bool:
    if slot == _OPENING:
        return kind == _ARRAY and 3 <= number <= 4
    if slot == _TYPE:
        return kind == _INT and 0 <= number < len(_SHAPES)
    if slot == _ID:
        return kind == _INT and 0 <= number < 1 << 32
    if slot == _METHOD:
        return kind == _TEXT and number <= METHOD_BYTES
    if slot == _PARAMS:
        return kind == _ARRAY and number <= 1
    return kind in (_MAP, _NIL)


def walker(data: bytes | bytearray, limits: Limits) -> Generator[None, None, tuple[str, int]]:
    """Walks the message that `data` begins with; yields when it needs more bytes than there are by then.

    Returns COMPLETE and how many bytes the message has, or why it is refused and 0.
    """
    most_bytes, most_depth, most_values = limits
    forms = _FORMS
    n = len(data)
    pos = values = outer = at = 0
    owed = 1  # values that what is open still needs, the message itself at first
    slots = [_OPENING, _TYPE]
    left, in_map = 0, False  # of the innermost container: the values to come; if a map, a key is next when they are even
    stack: list[tuple[int, bool]] = []  # … and of those around it
    while True:
        while pos >= n:
            yield
            n = len(data)
        byte = data[pos]
        pos += 1
        kind, extra, number = forms[byte]
        if extra:
            if extra > most_bytes - pos:
                return TOO_LARGE, 0
            while pos + extra > n:
                yield
                n = len(data)
            number = int.from_bytes(data[pos : pos + extra], "big", signed=0xD0 <= byte <= 0xD3)
            pos += extra
        values += 1
        owed -= 1
        size = 0
        if kind == _TEXT or kind == _BIN:
            size = number
        elif kind >= _ARRAY:
            owed += number if kind == _ARRAY else 2 * number
            if values + owed > most_values:
                return TOO_LARGE, 0
        elif kind == _BAD:
            return MALFORMED, 0
        # each value that is owed takes a byte at least, so a claim is refused when it is made
        if size + owed > most_bytes - pos:
            return TOO_LARGE, 0
        if size:
            while pos + size > n:
                yield
                n = len(data)
            pos += size

        if stack:
            if in_map and kind != _TEXT and not left & 1:
                return MALFORMED, 0
            left -= 1
        else:
            slot = slots[at]
            at += 1
            if not _fits(slot, kind, number):
                return MALFORMED, 0
            if slot == _OPENING:
                outer = number
                continue
            if slot == _TYPE:
                slots += _SHAPES[number]
                if outer != len(slots) - 1:
                    return MALFORMED, 0
                continue
            if slot == _PARAMS and number == 1:
                slots.insert(at, _PARAM)
                continue
        if kind >= _ARRAY:
            if 2 + (slots[at - 1] == _PARAM) + len(stack) > most_depth:
                return TOO_LARGE, 0
            stack.append((left, in_map))
            in_map = kind == _MAP
            left = 2 * number if in_map else number
        while stack and not left:
            left, in_map = stack.pop()
        if not stack and at == len(slots):
            return COMPLETE, pos


def walk(data: bytes | bytearray, limits: Limits) -> tuple[str, int]:
    """As walker(), of bytes that are all there: INCOMPLETE if they end too early."""
    try:
        next(walker(data, limits))
    except StopIteration as end:
        verdict: tuple[str, int] = end.value
        return verdict
    return INCOMPLETE, 0


class Malformed(Exception):
    """What came is no message."""


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(reversed(pairs))
    key = fields.get("api_key")
    if isinstance(key, str):
        fields["api_key"] = Key(key)  # so that no traceback that shows local variables shows it
    return fields


def decode(data: bytes | bytearray) -> list[Any]:
    """A message that was walked, as a list. Keys that come twice: the first counts."""
    try:
        message = msgpack.unpackb(data, raw=False, object_pairs_hook=_first_of_each)
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8") from None
    if 0 in data and _has_nul(message):
        raise Malformed("text with NUL")
    assert isinstance(message, list)
    return message


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    return isinstance(value, list) and any(map(_has_nul, value))


def encode_request(number: int, method: str, params: dict[str, Any]) -> bytes:
    """A request as bytes, in the shortest forms."""
    data = msgpack.packb([0, number, method, [params]])
    assert isinstance(data, bytes)
    return data


class Reader:
    """Bytes as they come, to messages."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._walker = walker(self._data, REPLY)

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The messages that `data` completes; raises Malformed, after which the reader is of no use."""
        self._data += data
        while self._data:
            try:
                next(self._walker)
                return
            except StopIteration as end:
                verdict, length = end.value
            if verdict != COMPLETE:
                raise Malformed(verdict)
            message = decode(self._data[:length])
            del self._data[:length]
            self._walker = walker(self._data, REPLY)
            yield message
