"""What the client does with the broker's answers, and with what it is told."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import select
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable

import pytest

import keybroker
from keybroker import _keyring
from fake import BASE_URL, Broker, Refusal, Silence, key_of, wait_until

Opener = Callable[..., keybroker.Client]


def say_silence(params: dict[str, Any]) -> Any:
    raise Silence


def hang_up(broker: Broker) -> Callable[[dict[str, Any]], Any]:
    def answer(params: dict[str, Any]) -> Any:
        broker.hang_up()
        raise Silence

    return answer


def refuse(code: str, **more: Any) -> Callable[[dict[str, Any]], Any]:
    def answer(params: dict[str, Any]) -> Any:
        raise Refusal(code, **more)

    return answer


# --- one credential ---


def test_the_first_call_acquires_and_the_others_do_not(broker: Broker, client: keybroker.Client) -> None:
    api_key = client.api_key("service")
    assert broker.connections == 0
    assert {api_key() for _ in range(100)} == {key_of("service", 1)}
    assert client.base_url() == BASE_URL
    assert (broker.count("acquire"), broker.connections) == (1, 1)


def test_what_is_asked_for(broker: Broker, client: keybroker.Client) -> None:
    client.credential("batch")
    (params,) = broker.params("acquire")
    assert params["profile"] == "batch" and len(params["request_id"]) == 32
    assert 0 < params["timeout_ms"] < 5000  # so that the broker's word comes before the end of the caller's patience
    assert "lease" not in params and "bind" not in params


def test_many_callers_are_one_request(broker: Broker, client: keybroker.Client) -> None:
    go = threading.Event()
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: (go.wait(5), answer(params))[1]
    with ThreadPoolExecutor(20) as pool:
        keys = [pool.submit(client.api_key()) for _ in range(20)]
        cell = client._keyring.cell("service")
        wait_until(lambda: len(cell.waiters) == 20)
        go.set()
        assert {key.result() for key in keys} == {key_of("service", 1)}
    assert broker.count("acquire") == 1


def test_each_caller_raises_an_error_of_its_own(broker: Broker, client: keybroker.Client) -> None:
    """One that is raised in two threads would have the tracebacks of both."""
    go = threading.Event()
    broker.answers["acquire"] = lambda params: (go.wait(5), refuse("denied")(params))
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.credential) for _ in range(2)]
        wait_until(lambda: len(client._keyring.cell("service").waiters) == 2)
        go.set()
        errors = [call.exception() for call in calls]
    assert [type(error) for error in errors] == [keybroker.Denied] * 2 and errors[0] is not errors[1]
    assert broker.count("acquire") == 1


# --- fresh ---


def test_it_is_read_again_in_the_background(broker: Broker, client: keybroker.Client) -> None:
    broker.lifetime_ms, broker.refresh_ms = 60_000, 50
    first = client.credential()
    wait_until(lambda: broker.count("acquire") >= 2)
    assert broker.params("acquire")[1]["lease"] == first.lease
    wait_until(lambda: client.credential().expires_at_ms != first.expires_at_ms)


def test_a_refresh_without_an_answer_is_given_up(broker: Broker, open_client: Opener) -> None:
    """Nobody waits for it, so the thread has to look at the clock itself."""
    broker.lifetime_ms, broker.refresh_ms = 60_000, 50
    client = open_client(timeout=0.3)
    client.credential()
    broker.answers["acquire"] = say_silence
    wait_until(lambda: broker.connections == 2)
    assert client.credential().lease == "lease-1"


def test_a_refresh_that_is_due_at_once_is_no_storm(broker: Broker, client: keybroker.Client) -> None:
    broker.lifetime_ms, broker.refresh_ms = 60_000, -1000
    client.credential()
    time.sleep(0.3)
    assert broker.count("acquire") <= 2


def test_a_key_that_has_expired_is_not_served(broker: Broker, client: keybroker.Client) -> None:
    broker.lifetime_ms = 30
    api_key = client.api_key()
    api_key()
    time.sleep(0.05)
    broker.generation = 2
    assert api_key() == key_of("service", 2)
    assert broker.params("acquire")[1]["lease"] == "lease-1"


def test_rotation_brings_the_new_key(broker: Broker, client: keybroker.Client) -> None:
    api_key = client.api_key()
    api_key()
    broker.rotate()
    wait_until(lambda: api_key() == key_of("service", 2))
    assert [params.get("lease") for params in broker.params("acquire")] == [None, "lease-1"]
    assert broker.count("ack") == 0


def test_the_newer_key_is_acknowledged_after_a_while(broker: Broker, open_client: Opener) -> None:
    client = open_client(ack_after=0.2)
    client.credential()
    for _ in range(2):
        broker.rotate()
        wait_until(lambda: client.credential().generation == broker.generation)
    begin = time.monotonic()
    wait_until(lambda: broker.count("ack") == 2)
    assert time.monotonic() - begin > 0.1
    assert broker.params("ack") == [{"lease": "lease-1", "generation": 2}, {"lease": "lease-1", "generation": 3}]


def test_what_is_revoked_is_forgotten_and_acquired_anew(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.tell("revoked", lease="lease-1")
    wait_until(lambda: client._keyring.cell("service").current is None)
    assert broker.count("acquire") == 1
    assert client.credential().lease == "lease-2"


def test_notifications_of_others_and_unknown_ones_change_nothing(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.tell("revoked", lease="lease-7")
    broker.tell("weather", fine=True)
    broker.tell("rotated", lease="lease-1", generation=1)
    broker.tell("expiring", lease="lease-1", ends_at_ms=1)
    client.credential("batch")  # its answer comes after them
    assert client.credential().lease == "lease-1"
    assert broker.count("acquire") == 2


def test_denied_ends_what_is_in_memory(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.answers["acquire"] = refuse("denied")
    broker.rotate()
    wait_until(lambda: client._keyring.cell("service").current is None)
    with pytest.raises(keybroker.Denied):
        client.credential()


def test_another_refusal_does_not(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.answers["acquire"] = refuse("limit_exceeded", retry_after_ms=60_000)
    broker.rotate()
    wait_until(lambda: broker.count("acquire") == 2)
    cell = client._keyring.cell("service")
    wait_until(lambda: not cell.asking)
    assert client.credential().generation == 1
    assert cell.not_before > time.monotonic() + 50  # as it was told


def test_an_unknown_lease_is_acquired_anew(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.leases.clear()
    broker.hang_up()
    wait_until(lambda: broker.count("acquire") == 3)
    wait_until(lambda: client.credential().lease == "lease-2")
    assert [params.get("lease") for params in broker.params("acquire")] == [None, "lease-1", None]


# --- the broker goes away ---


def test_it_comes_back_and_takes_the_lease_up(broker: Broker, client: keybroker.Client) -> None:
    first = client.credential()
    broker.stop()
    for _ in range(100):
        assert client.api_key()() == first.api_key
    broker.start()
    wait_until(lambda: broker.count("acquire") == 2)
    assert broker.params("acquire")[1]["lease"] == first.lease
    assert broker.count("watch") == 2
    broker.rotate()
    wait_until(lambda: client.credential().generation == 2)


def test_leader_changed_is_as_a_lost_connection(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.tell("leader_changed", instance="b", term=2)
    wait_until(lambda: broker.connections == 2 and broker.count("acquire") == 2)


def test_not_leader_is_no_error(broker: Broker, client: keybroker.Client) -> None:
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: (
        answer(params) if broker.count("acquire") > 1 else refuse("not_leader")(params)
    )
    assert client.credential().lease == "lease-1"
    first, second = broker.params("acquire")
    assert first == second and broker.connections == 2


def test_what_was_under_way_is_sent_again_with_the_same_request_id(broker: Broker, client: keybroker.Client) -> None:
    broker.answers["acquire"] = say_silence
    with ThreadPoolExecutor(1) as pool:
        key = pool.submit(client.api_key())
        wait_until(lambda: broker.count("acquire") == 1)
        broker.stop()
        time.sleep(0.2)
        del broker.answers["acquire"]
        broker.start()
        assert key.result() == key_of("service", 1)
    first, second = broker.params("acquire")
    assert first == second


def test_a_broker_that_hangs_up_is_not_stormed(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.answers["watch"] = hang_up(broker)
    broker.hang_up()
    time.sleep(0.5)
    assert 2 <= broker.connections < 15


def test_a_broker_that_answers_and_hangs_up_is_not_stormed(broker: Broker, client: keybroker.Client) -> None:
    """As one does that has too many connections."""
    client.credential()

    def refuse_and_hang_up(params: dict[str, Any]) -> Any:
        threading.Timer(0.005, broker.hang_up).start()
        raise Refusal("limit_exceeded", retry_after_ms=1000)

    broker.answers["acquire"] = refuse_and_hang_up
    broker.hang_up()
    time.sleep(2)
    assert 3 <= broker.connections < 12  # 0.05 s and doubling, with jitter
    assert client.api_key()() == key_of("service", 1)


def test_too_many_connections_are_said_at_once(broker: Broker, client: keybroker.Client) -> None:
    """By the answer to the first request, which is not the caller's, and the end of the connection."""

    def refuse_and_hang_up(params: dict[str, Any]) -> Any:
        threading.Timer(0.02, broker.hang_up).start()
        raise Refusal("limit_exceeded", retry_after_ms=50)

    broker.answers.update(watch=refuse_and_hang_up, acquire=say_silence)
    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(keybroker.LimitExceeded) as caught:
            client.credential()
        assert time.monotonic() - begin < 2 and caught.value.retry_after_ms == 50
    broker.answers.clear()
    assert client.credential().lease == "lease-1"


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    pauses = []

    def longest(low: float, high: float) -> float:
        pauses.append(client._keyring.channel._pause)
        return high

    monkeypatch.setattr("random.uniform", longest)
    broker.stop()
    wait_until(lambda: len(pauses) == 4)
    assert pauses == [0.05, 0.1, 0.2, 0.4]


# --- LiteLLM refuses a key ---


def test_a_dead_key_is_replaced(broker: Broker, client: keybroker.Client) -> None:
    old = client.credential()
    new = client.report("service", old.api_key)
    assert new.api_key == key_of("service", 2) == client.credential().api_key
    assert broker.params("report") == [{"lease": old.lease, "status": 401}]
    assert client.report("service", old.api_key) == new
    assert broker.count("report") == 1  # nobody need ask about a key that has gone


def test_a_living_key_stays(broker: Broker, client: keybroker.Client) -> None:
    old = client.credential()
    states = ["alive", "unknown", "a state of another world"]
    broker.answers["report"] = lambda params: {"state": states.pop()}
    while states:
        assert client.report("service", old.api_key) == old
    assert broker.count("acquire") == 1


def test_the_lease_of_a_dead_key_may_have_ended(broker: Broker, client: keybroker.Client) -> None:
    old = client.credential()
    broker.leases.clear()
    broker.answers["report"] = refuse("unknown_lease")
    client.report("service", old.api_key)
    assert [params.get("lease") for params in broker.params("acquire")] == [None, "lease-1", None]


def test_many_reports_of_one_key_are_one(broker: Broker, client: keybroker.Client) -> None:
    old, go = client.credential(), threading.Event()
    broker.answers["report"] = lambda params: (go.wait(5), broker._report(params))[1]
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(client.report, "service", old.api_key) for _ in range(10)]
        wait_until(lambda: [len(waiters) for waiters in client._keyring.cell("service").reports.values()] == [10])
        go.set()
        assert {answer.result().api_key for answer in answers} == {key_of("service", 2)}
    assert broker.count("report") == 1 and broker.count("acquire") == 2


def test_a_report_while_the_new_key_is_on_its_way_waits_for_that(broker: Broker, client: keybroker.Client) -> None:
    old, go = client.credential(), threading.Event()
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: (go.wait(5), answer(params))[1]
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.report, "service", old.api_key)]
        wait_until(lambda: broker.count("acquire") == 2)
        answers += [pool.submit(client.report, "service", old.api_key), pool.submit(client.credential)]
        wait_until(lambda: len(client._keyring.cell("service").waiters) == 3)
        go.set()
        assert {answer.result().api_key for answer in answers} == {key_of("service", 2)}
    assert broker.count("report") == 1


# --- no broker ---


def test_who_is_not_told_of_rotations_looks_for_them(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, open_client: Opener
) -> None:
    monkeypatch.setattr(_keyring, "_UNHEARD", 0.1)

    def refuse(_: dict[str, Any]) -> Any:
        raise Refusal("limit_exceeded")

    broker.answers["watch"] = refuse
    client = open_client()
    assert client.credential().generation == 1
    broker.generation = 2
    wait_until(lambda: client.credential().generation == 2)
    assert broker.count("watch") > 1


def test_without_a_broker_the_key_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, open_client: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    broker.stop()
    client = open_client()
    with caplog.at_level(logging.WARNING):
        assert client.api_key()() == "sk-" + "e" * 32
        assert client.base_url("batch") == "https://api.openai.com/v1"
    (record,) = caplog.records
    assert "OPENAI_API_KEY" in record.getMessage() and "eeee" not in record.getMessage()
    broker.start()
    assert client.credential("third").mode == "environment"
    assert client.report("service", "sk-" + "e" * 32).lease is None
    assert broker.connections == 0  # for good: a base URL of that decision is in use somewhere
    assert open_client().credential().mode == "shared"


def test_the_environment_has_its_own_base_url(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    broker.stop()
    assert client.base_url() == "https://elsewhere.example/v1"


@pytest.mark.parametrize("around", [" {}", "{}\n", "\t{}\r\n "])
def test_white_space_around_the_key_of_the_environment_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client, around: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", around.format("sk-" + "e" * 32))
    monkeypatch.setenv("OPENAI_BASE_URL", around.format("https://elsewhere.example/v1"))
    broker.stop()
    assert client.credential().api_key == "sk-" + "e" * 32
    assert client.base_url() == "https://elsewhere.example/v1"


@pytest.mark.parametrize("key", ["sk-{}\nx", "sk-{} x", "sk-{}\x7f", "sk-{}\xe9", " ", "\n"])
def test_a_key_of_the_environment_that_no_header_may_have_is_not_used(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key.format("e" * 32))
    broker.stop()
    with caplog.at_level(logging.DEBUG), pytest.raises(keybroker.Unreachable) as caught:
        client.credential()
    assert "eeee" not in caplog.text and "eeee" not in str(caught.value)
    assert ("OPENAI_API_KEY" in str(caught.value)) == bool(key.strip())


def test_a_broker_may_be_required(monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    monkeypatch.setenv("KEYBROKER_REQUIRED", "1")
    broker.stop()
    with pytest.raises(keybroker.Unreachable, match="No such file"):
        client.credential()


def test_a_denial_is_no_reason_to_fall_back(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, client: keybroker.Client
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "e" * 32)
    broker.answers["acquire"] = refuse("denied")
    with pytest.raises(keybroker.Denied):
        client.credential()
    broker.stop()
    with pytest.raises(keybroker.Error):  # nor is what comes after it
        client.credential()


def test_without_a_broker_or_a_key_it_is_said_at_once(broker: Broker, client: keybroker.Client) -> None:
    broker.stop()
    begin = time.monotonic()
    with pytest.raises(keybroker.Unreachable) as caught:
        client.credential()
    assert time.monotonic() - begin < 1
    assert broker.path in str(caught.value) and caught.value.socket == broker.path and "keybrokerd" in caught.value.advice
    broker.start()
    assert client.credential().lease == "lease-1"


# --- bad servers ---


@pytest.mark.parametrize(
    "answer,error",
    [
        (lambda params: [b"\xc1"], keybroker.Garbage),
        (lambda params: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], keybroker.Garbage),
        (lambda params: [b"\x94\x01\x01\xc0\xdd\xff\xff\xff\xff"], keybroker.Garbage),
        (lambda params: [b"\x94\x00\x01\xa1m\x90"], keybroker.Garbage),
        (lambda params: [b"\x94\x01\x02\xc0\xc0"], keybroker.Garbage),
        (lambda params: {"lease": "x"}, keybroker.Garbage),
        (lambda params: {"lease": "x", "mode": "shared", "base_url": BASE_URL, "api_key": 7}, keybroker.Garbage),
        (lambda params: {"lease": "x", "mode": "shared", "base_url": BASE_URL, "api_key": ""}, keybroker.Garbage),
        (lambda params: {"lease": "x", "mode": "shared", "base_url": BASE_URL, "api_key": "sk-1\n"}, keybroker.Garbage),
        (lambda params: {"lease": "x", "mode": "shared", "base_url": BASE_URL, "api_key": "sk-\xe9"}, keybroker.Garbage),
        (lambda params: {"lease": "x", "mode": "shared", "base_url": BASE_URL + "\n", "api_key": "sk-1"}, keybroker.Garbage),
        (lambda params: {"lease": 5, "mode": "shared", "base_url": BASE_URL, "api_key": "sk-1"}, keybroker.Garbage),
        (
            lambda params: {"lease": "x", "mode": "m", "base_url": "b", "api_key": "sk-1", "expires_at_ms": "soon"},
            keybroker.Garbage,
        ),
        (lambda params: [b"\x94\x01"], keybroker.Timeout),
        (say_silence, keybroker.Timeout),
        (refuse("wibble"), keybroker.Internal),
        (refuse("limit_exceeded", retry_after_ms=7), keybroker.LimitExceeded),
    ],
)
def test_bad_answers_are_errors_in_time(
    broker: Broker, open_client: Opener, answer: Any, error: type[keybroker.Error]
) -> None:
    client = open_client(timeout=0.5 if error is keybroker.Timeout else 10)
    broker.answers["acquire"] = answer
    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(error) as caught:
            client.credential()
        assert type(caught.value) is error and time.monotonic() - begin < 5
        assert caught.value.socket == broker.path
    if error is keybroker.LimitExceeded:
        assert caught.value.retry_after_ms == 7
    del broker.answers["acquire"]
    assert client.credential().lease == "lease-1"


def test_byte_by_byte_is_an_error_in_time(broker: Broker, open_client: Opener) -> None:
    def slowly(params: dict[str, Any]) -> Any:
        for byte in b"\x94\x01\x02\xc0\x81\xa1k\xda\xff\x00" + b"x" * 100:
            yield bytes([byte])
            time.sleep(0.05)

    broker.answers["acquire"] = slowly
    begin = time.monotonic()
    with pytest.raises(keybroker.Timeout, match="no answer within 0.3 s"):
        open_client(timeout=0.3).credential()
    assert time.monotonic() - begin < 1


def test_hanging_up_again_and_again_is_lost(broker: Broker, open_client: Opener) -> None:
    broker.answers["acquire"] = hang_up(broker)
    with pytest.raises(keybroker.Lost):
        open_client(timeout=0.4).credential()


def test_a_full_backlog_is_an_error_in_time(broker: Broker, open_client: Opener) -> None:
    import socket

    broker.stop()
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as first:
        silent.bind(broker.path)
        silent.listen(0)
        first.connect(broker.path)
        with pytest.raises(keybroker.Timeout):
            open_client(timeout=0.3).credential()


def test_a_fault_of_ours_is_an_error_and_no_end(
    monkeypatch: pytest.MonkeyPatch, client: keybroker.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(client._keyring, "connected", lambda: 1 / 0)
        with pytest.raises(keybroker.Internal):
            client.credential()
    assert "ZeroDivisionError" in caplog.text
    assert client.credential().lease == "lease-1"


def test_silence_on_a_connection_that_was_idle(broker: Broker, open_client: Opener) -> None:
    """Its thread sleeps and is not told of what others wait for: they look at the clock."""
    client = open_client(timeout=0.3)
    client.credential("batch")
    broker.answers["acquire"] = say_silence
    with pytest.raises(keybroker.Timeout):
        client.credential()
    assert not client._keyring.cell("service").asking
    wait_until(lambda: broker.connections == 2)


# --- who reads ---


def test_callers_read_for_themselves_and_each_other(broker: Broker, client: keybroker.Client) -> None:
    """A caller who waits reads in the thread's place: no answer gets lost between them, nor what is told meanwhile."""
    client.credential()
    channel = client._keyring.channel

    def call(_: int) -> float:
        answer: Future[Any] = Future()
        begin = time.monotonic()
        channel.request("ack", {"lease": "lease-1", "generation": 1}, 4.0, lambda result, error: answer.set_result(result))
        channel.attend(answer.done, begin + 4)
        assert answer.result(4) == {"lease": "lease-1", "generation": 1}
        return time.monotonic() - begin

    with ThreadPoolExecutor(4) as pool:
        slow = [seconds for seconds in pool.map(call, range(2000)) if seconds > 2]
        slow += [seconds for seconds in map(call, range(2000)) if seconds > 2]
    assert slow == []
    broker.rotate()
    wait_until(lambda: client.credential().generation == 2)


def test_the_thread_leaves_a_caller_what_he_waits_for(broker: Broker, client: keybroker.Client) -> None:
    """It may have heard of data just before the caller took its place."""
    client.credential()
    channel, cell = client._keyring.channel, client._keyring.cell("service")
    sock, epoll = channel._sock, channel._epoll
    assert sock is not None and epoll is not None
    with channel.lock:
        epoll.unregister(sock)
        channel._lent = True
    broker.tell("revoked", lease="lease-1")
    assert select.select([sock], [], [], 5)[0]
    channel._read(sock, False)
    assert cell.current is not None
    channel._read(sock, True)
    assert cell.current is None
    with channel.lock:
        channel._lent = False
        epoll.register(sock, channel._events())


@pytest.mark.parametrize("attempt", range(30))
def test_a_caller_who_reads_hears_that_the_connection_is_gone(
    broker: Broker, client: keybroker.Client, attempt: int
) -> None:
    """Many attempts, since its number may be another connection's just when the caller begins to wait for it."""
    client.credential("batch")
    broker.answers["acquire"] = say_silence
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.credential)
        wait_until(lambda: client._keyring.channel._lent)
        del broker.answers["acquire"]
        broker.tell("leader_changed", instance="b", term=2)
        begin = time.monotonic()
        assert waiting.result().profile == "service"
        assert time.monotonic() - begin < 3


# --- the end ---


def test_close_releases(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    client.credential("batch")
    with client:
        pass
    assert sorted(params["lease"] for params in broker.params("release")) == ["lease-1", "lease-2"]
    with pytest.raises(RuntimeError, match="closed"):
        client.credential()


def test_a_client_that_is_forgotten_releases(broker: Broker) -> None:
    threads = threading.active_count()
    client = keybroker.Client(broker.path)
    api_key = client.api_key()
    api_key()
    del client
    gc.collect()
    api_key()  # which keeps it
    assert broker.count("release") == 0
    del api_key
    gc.collect()
    wait_until(lambda: broker.count("release") == 1)
    wait_until(lambda: threading.active_count() <= threads)


def descriptors() -> set[tuple[str, str]]:
    """What each is, too, since those of tests before may go just now."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return found


@pytest.mark.parametrize("end", ["closed", "forgotten", "failed", "never connected"])
def test_a_client_that_has_ended_has_no_descriptors(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """Whether it is referred to still or not, and without the help of the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        if end == "never connected":
            broker.stop()
        before = descriptors()
        client = keybroker.Client(broker.path)
        if end == "failed":
            monkeypatch.setattr(client._keyring, "connected", lambda: 1 / 0)
        try:
            client.credential()
        except keybroker.Error:
            assert end in ("failed", "never connected")
        if end == "forgotten":
            del client
        elif end != "failed":
            client.close()
        broker.hang_up()
        wait_until(lambda: descriptors() <= before)
        if end == "closed":
            client._keyring.channel.wake()  # writes to nobody
            client.close()
    finally:
        gc.enable()


def test_who_ends_a_client_writes_to_no_other_file(
    monkeypatch: pytest.MonkeyPatch, client: keybroker.Client
) -> None:
    """Its thread may give the number back, and another file get it, between any two steps of stop()."""
    client.credential()
    channel = client._keyring.channel
    taken: list[int] = []
    write = os.write

    def take() -> None:
        channel.join(5)
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(10))

    taker = threading.Thread(target=take)

    def late(fd: int, data: bytes) -> int:
        write(fd, data)  # so the thread ends
        taker.start()
        taker.join(0.3)
        assert fd not in taken
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", late)
        channel.stop()
    taker.join()
    assert taken
    for fd in taken:
        os.close(fd)


def test_closing_does_not_wait_for_a_broker_that_is_silent(broker: Broker, client: keybroker.Client) -> None:
    client.credential()
    broker.answers["release"] = say_silence
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 2


def test_closing_ends_what_waits(broker: Broker, open_client: Opener) -> None:
    client = open_client(timeout=20)
    broker.answers["acquire"] = say_silence
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.credential)
        wait_until(lambda: broker.count("acquire") == 1)
        begin = time.monotonic()
        client.close()
        assert isinstance(call.exception(), keybroker.Lost)
        assert time.monotonic() - begin < 5


# --- nothing shows a key ---


def test_keys_are_masked(broker: Broker, client: keybroker.Client) -> None:
    credential = client.credential()
    key = str(credential.api_key)
    for thing in (client, credential, client.api_key(), vars(client._keyring), client._keyring.cells, vars(client._keyring.cell("service"))):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert key[3:-4] not in text
    assert f"{key[:3]}…{key[-4:]}" in repr(credential)
    assert keybroker.Key("sk-short").__repr__() == "'…'"
    assert f"Bearer {credential.api_key}" == "Bearer " + key


def test_no_traceback_shows_one(broker: Broker, client: keybroker.Client) -> None:
    """Nor one with the variables of each frame, as error reporters send it."""
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: {**answer(params), "generation": "wrong"}
    with pytest.raises(keybroker.Garbage) as caught:
        client.credential()
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert key_of("service", 1)[3:-4] not in text


@pytest.mark.parametrize("cls", [keybroker.Denied, keybroker.Timeout, keybroker.Unreachable])
def test_errors_survive_pickling(cls: type[keybroker.Error]) -> None:
    error = pickle.loads(pickle.dumps(cls("why", socket="/s", retry_after_ms=5, advice="do it")))
    assert type(error) is cls
    assert (error.code, error.message, error.socket, error.retry_after_ms, error.advice) == (
        cls.code,
        "why",
        "/s",
        5,
        "do it",
    )
    assert str(error) == f"{cls.code}: why (/s). do it"


def test_timeout_is_pythons_too() -> None:
    assert issubclass(keybroker.Timeout, TimeoutError)
