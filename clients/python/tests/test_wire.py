"""Properties of the decoder, whatever comes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybroker import Key, _wire

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT | st.binary(max_size=40),
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(TEXT, inside, max_size=5),
    max_leaves=20,
)
RESULT = st.dictionaries(TEXT, VALUE, max_size=8)
NUMBER = st.integers(0, 2**32 - 1)
MESSAGE = st.one_of(
    st.builds(lambda number, result: [1, number, None, result], NUMBER, RESULT),
    st.builds(lambda number, error: [1, number, error, None], NUMBER, RESULT),
    st.builds(lambda method, params: [2, method, [params]], st.sampled_from(["rotated", "revoked", "m"]), RESULT),
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def read(chunks: list[bytes]) -> list[Any]:
    """The messages that come; "malformed" at the end if it is so."""
    reader = _wire.Reader()
    messages: list[Any] = []
    try:
        for chunk in chunks:
            messages += list(reader.feed(chunk))
    except _wire.Malformed:
        messages.append("malformed")
    return messages


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in zip(ends, ends[1:])]


@given(st.lists(MESSAGE, max_size=3), st.lists(st.integers(0, 10_000), max_size=10))
def test_what_was_packed_comes_out_however_it_is_cut(messages: list[Any], places: list[int]) -> None:
    data = b"".join(map(msgpack.packb, messages))
    expected: list[Any] = []
    for message in messages:
        expected.append(message if depth(message) <= 8 else "malformed")
        if expected[-1] == "malformed":
            break
    assert read(cut(data, places)) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_bytes_are_messages_or_malformed_however_they_are_cut(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


@given(MESSAGE, st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.lists(st.integers(0, 10_000), max_size=5))
def test_so_are_messages_with_a_fault(message: Any, place: int, fault: bytes, places: list[int]) -> None:
    data = msgpack.packb(message)
    place %= len(data)
    data = data[:place] + fault + data[place + len(fault) :]
    assert read(cut(data, places)) == read([data])


@given(st.binary(max_size=200))
def test_what_the_walker_lets_through_msgpack_takes(data: bytes) -> None:
    verdict, length = _wire.walk(data, _wire.REPLY)
    if verdict == _wire.COMPLETE:
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(data)
        unpacker.skip()
        assert unpacker.tell() == length


def reply(body: bytes) -> bytes:
    return b"\x94\x01\x01\xc0\x81\xa1k" + body


@pytest.mark.parametrize(
    "body",
    [b"\xa2a\0", b"\xa1\xff", b"\x81\xa2a\0\x01", b"\x91\xa1\0", b"\x81\xa1\xff\x01"],
    ids=["NUL", "UTF-8", "NUL in a key", "NUL in an array", "UTF-8 in a key"],
)
def test_text_is_utf8_without_nul(body: bytes) -> None:
    assert _wire.walk(reply(body), _wire.REPLY)[0] == _wire.COMPLETE
    assert read([reply(body)]) == ["malformed"]


def test_an_integer_may_have_bytes_that_are_zero() -> None:
    assert read([reply(b"\xce\0\0\0\x01")]) == [[1, 1, None, {"k": 1}]]


def test_the_first_of_a_key_that_comes_twice_counts() -> None:
    assert read([b"\x94\x01\x01\xc0\x82\xa1k\x01\xa1k\x02"]) == [[1, 1, None, {"k": 1}]]


def test_a_key_is_masked_as_soon_as_it_is_read() -> None:
    (message,) = read([msgpack.packb([1, 1, None, {"api_key": "sk-" + "x" * 32}])])
    assert isinstance(message[3]["api_key"], Key) and "xxxxx" not in repr(message)


def test_a_byte_is_looked_at_once() -> None:
    """A server that sends a large answer byte by byte costs no more than one that sends it at once."""
    data = msgpack.packb([1, 1, None, {"k": list(range(4000))}])
    so_far, steps = bytearray(), 0

    class Counted(bytearray):
        def __getitem__(self, index: Any) -> Any:
            nonlocal steps
            steps += 1
            return super().__getitem__(index)

    so_far = Counted()
    walker = _wire.walker(so_far, _wire.REPLY)
    for byte in data:
        so_far.append(byte)
        try:
            next(walker)
        except StopIteration as end:
            assert end.value == (_wire.COMPLETE, len(data))
    assert steps < 2 * len(data)
