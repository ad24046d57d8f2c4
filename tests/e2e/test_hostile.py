"""Hostile bytes on the socket: an answer where an id can be read, then the end; and no memory for them."""

import os
import socket
import struct

import msgpack
import pytest

from harness import build
from harness.broker import rule_all
from harness.rpc import Closed, Connection, RpcError
from harness.wait import wait_until

REQUEST = msgpack.packb([0, 1, "whoami", [{}]])


def answer(broker, data):
    """Sends bytes until the broker hangs up; -> the error code for id 7, or None."""
    with broker.rpc() as connection:
        connection.send_raw(data)
        replies = connection.wait_closed()
    assert set(replies) <= {7}
    return replies[7][0]["code"] if replies else None


def nested(depth, inner=b"\xc0"):
    """An array in an array in …"""
    return b"\x91" * depth + inner


HEAD = b"\x94\x00\x07\xa6whoami"  # [0, 7, "whoami", …

ANSWERED = {
    "param one level deeper than allowed": HEAD + b"\x91\x81\xa1x" + nested(4),
    "param 40 levels deep": HEAD + nested(40),
    "param array of 4 billion": HEAD + b"\xdd\xff\xff\xff\xff",
    "param map of 4 billion": HEAD + b"\x91\xdf\xff\xff\xff\xff",
    "param text of 4 GiB": HEAD + b"\x91\x81\xa1x\xdb\xff\xff\xff\xff",
    "param binary of 4 GiB": HEAD + b"\x91\x81\xa1x\xc6\xff\xff\xff\xff",
    "array of 16.7 million": HEAD + b"\xdd\x00\xff\xff\xff",
    "float": HEAD + b"\x91\x81\xa1x\xcb" + struct.pack(">d", 1.5),
    "float key": HEAD + b"\x91\x81\xca" + struct.pack(">f", 1.5) + b"\x01",
    "ext": HEAD + b"\x91\x81\xa1x\xd4\x01\x00",
    "reserved byte": HEAD + b"\x91\x81\xa1x\xc1",
    "300 values": HEAD + b"\x91\x81\xa1x\xdc" + struct.pack(">H", 300) + b"\x01" * 300,
    "20 KiB of text": HEAD + b"\x91\x81\xa1x\xda" + struct.pack(">H", 20000) + b"y" * 20000,
    "method of 40 bytes": b"\x94\x00\x07\xd9\x28" + b"m" * 40 + b"\x90",
    "method a number": b"\x94\x00\x07\x05\x90",
    "params a text": HEAD + b"\xa1x",
    "two params": HEAD + b"\x92\x80\x80",
    "param a number": HEAD + b"\x91\x05",
    "key a number": HEAD + b"\x91\x81\x05\x05",
}
UNANSWERED = {
    "not an array": b"\x05",
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty array": b"\x90",
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map": b"\x81\x00\x00",
    "type 9": b"\x94\x09\x07\xa6whoami\x90",
    "reserved byte": b"\xc1" * 10,
    "id negative": b"\x94\x00\xff\xa6whoami\x90",
    "id over 32 bits": b"\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa6whoami\x90",
    "id a text": b"\x94\x00\xa17\xa6whoami\x90",
    "nesting bomb": nested(100000),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_bad_message_with_an_id_is_answered_and_ends_the_connection(broker, name):
    assert answer(broker, ANSWERED[name]) == "invalid_request"
    assert broker.call("whoami")


@pytest.mark.parametrize("name", UNANSWERED)
def test_bad_message_without_an_id_ends_the_connection(broker, name):
    assert answer(broker, UNANSWERED[name]) is None
    assert broker.call("whoami")


def test_what_is_just_within_the_limits_is_answered(broker):
    with broker.rpc() as connection:
        connection.send_raw(HEAD + b"\x91\x81\xa1x" + nested(3))
        assert connection.reply(7)[0] is None
        connection.send_raw(HEAD + b"\x91\x81\xa1x\xda" + struct.pack(">H", 16000) + b"y" * 16000)
        assert connection.reply(7)[0] is None
        connection.send_raw(HEAD + b"\x91\x81\xa1x\xdc" + struct.pack(">H", 240) + b"\x01" * 240)
        assert connection.reply(7)[0] is None


def test_requests_before_a_bad_one_are_answered(broker):
    with broker.rpc() as connection:
        connection.send_raw(REQUEST + ANSWERED["param array of 4 billion"])
        replies = connection.wait_closed()
    assert replies[1][0] is None and replies[7][0]["code"] == "invalid_request"


def test_notification_from_a_client_is_ignored(broker):
    with broker.rpc() as connection:
        connection.send_raw(msgpack.packb([2, "revoke", [{"profile": "service"}]]))
        assert connection.call("acquire")["lease"]


def test_unknown_fields_and_first_of_a_double_key(broker):
    with broker.rpc() as connection:
        connection.send_raw(b"\x94\x00\x07\xa7acquire\x91\x83\xa7profile\xa7service\xa7profile\xa4nope\xa3new\xc3")
        error, result = connection.reply(7)
    assert error is None and result["profile"] == "service"


def test_empty_nil_and_absent_params_are_the_same(broker):
    with broker.rpc() as connection:
        for number, params in enumerate((b"\x90", b"\x91\xc0", b"\x91\x80")):
            connection.send_raw(b"\x94\x00" + bytes([number]) + b"\xa6whoami" + params)
            assert connection.reply(number)[0] is None


def test_slow_bytes_are_put_together(broker):
    with broker.rpc() as connection:
        for byte in REQUEST * 3:
            connection.send_raw(bytes([byte]))
        assert connection.reply(1)[1]["pid"] == os.getpid()


def test_half_a_message_and_a_hang_up_leave_nothing(make_broker):
    """More often than this user may have connections: none of them is kept."""
    broker = make_broker(config="limits { connections = 10 }\n" + rule_all()).start()
    for _ in range(3):
        for cut in range(1, len(REQUEST)):
            with broker.rpc() as connection:
                connection.send_raw(REQUEST[:cut])
    wait_until(lambda: _can_call(broker), what="a free place")


def test_connection_without_a_request_is_reaped(make_broker):
    broker = make_broker(timing={"idle_reap_ms": 300}).start()
    with broker.rpc() as idle, broker.rpc() as half, broker.rpc() as good:
        half.send_raw(REQUEST[:5])
        assert good.call("whoami")
        assert idle.wait_closed() == {} and half.wait_closed() == {}
        assert good.call("whoami")


def test_reader_that_never_reads_is_bounded_and_hurts_nobody_else(broker):
    with broker.rpc() as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.setblocking(False)
        sent = 0
        try:
            for number in range(200000):
                deaf.socket.send(msgpack.packb([0, number, "list", []]))
                sent += 1
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 200000, "the broker stops reading from who doesn't take its answers"
        assert broker.call("whoami")
    assert broker.call("whoami")


def _attack(broker, rounds):
    for _ in range(rounds):
        for data in (*ANSWERED.values(), *UNANSWERED.values(), os.urandom(4096)):
            try:
                with broker.rpc() as connection:
                    connection.send_raw(data)
                    connection.wait_closed(0.5 if data[:1] > b"\x99" else 0.05)
            except (BrokenPipeError, ConnectionResetError, TimeoutError, Closed):
                continue  # the broker hung up in the middle: as it should


def test_memory_does_not_grow_under_attack(make_broker):
    broker = make_broker()
    broker.env.update(build.sanitizer_environment(quarantine_size_mb=1))
    broker.start()
    broker.wait_ready()
    _attack(broker, 2)
    before = broker.rss()
    _attack(broker, 5)
    assert broker.rss() - before < (8 << 20 if build.is_sanitized() else 1 << 20)
    assert broker.call("whoami")


def test_lying_header_allocates_nothing(make_broker):
    broker = make_broker().start()
    broker.wait_ready()
    open_connections = []
    before = broker.rss()
    for _ in range(200):
        connection = broker.rpc()
        connection.send_raw(HEAD + b"\x91\x81\xa1x\xda\x3f\xff")  # claims 16,383 bytes, sends none
        open_connections.append(connection)
    assert broker.call("whoami")
    assert broker.rss() - before < 200 * 16384 * (3 if build.is_sanitized() else 1)
    for connection in open_connections:
        connection.close()


def test_connections_of_one_user_are_limited(make_broker):
    broker = make_broker(config="limits { connections = 5 }\n" + rule_all()).start()
    kept = [broker.rpc() for _ in range(5)]
    assert all(connection.call("whoami") for connection in kept)
    extra = Connection(broker.socket)
    try:
        with pytest.raises((Closed, RpcError, BrokenPipeError, ConnectionResetError)):
            extra.call("whoami")
    finally:
        extra.close()
    for connection in kept:
        connection.close()
    wait_until(lambda: _can_call(broker), what="a free place")


def _can_call(broker):
    try:
        return broker.call("whoami")
    except (Closed, RpcError, OSError):
        return False
