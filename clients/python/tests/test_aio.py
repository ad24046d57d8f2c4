"""The client for asyncio. What both have in common is in test_client.py."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable

import pytest

import keybroker
import keybroker.aio
from fake import BASE_URL, Broker, Silence, key_of, wait_until

Opener = Callable[..., keybroker.Client]


def say_silence(params: dict[str, Any]) -> Any:
    raise Silence


def test_it_shares_connection_and_lease_with_the_other(broker: Broker, client: keybroker.Client) -> None:
    async def main() -> None:
        aio = keybroker.aio.AsyncClient(client=client)
        assert await aio.api_key()() == key_of("service", 1)
        assert await aio.base_url() == BASE_URL
        assert await aio.credential() == client.credential()

    asyncio.run(main())
    asyncio.run(main())  # another loop
    assert (broker.connections, broker.count("acquire")) == (1, 1)


def test_many_tasks_are_one_request(broker: Broker) -> None:
    async def main() -> None:
        async with keybroker.aio.AsyncClient(broker.path) as client:
            keys = await asyncio.gather(*(client.api_key()() for _ in range(50)))
            assert set(keys) == {key_of("service", 1)}

    asyncio.run(main())
    assert broker.count("acquire") == 1
    assert broker.count("release") == 1


def test_the_loop_goes_on_meanwhile(broker: Broker, client: keybroker.Client) -> None:
    go = threading.Event()
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: (go.wait(5), answer(params))[1]

    async def main() -> None:
        task = asyncio.ensure_future(keybroker.aio.AsyncClient(client=client).credential())
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert not task.done()
        go.set()
        assert (await task).lease == "lease-1"

    asyncio.run(main())


def test_errors_and_time_outs(broker: Broker, open_client: Opener) -> None:
    under = open_client(timeout=0.3)
    under.credential("batch")  # from here on its thread sleeps, and is not told of what others wait for
    broker.answers["acquire"] = say_silence

    async def main() -> None:
        client = keybroker.aio.AsyncClient(client=under)
        begin = time.monotonic()
        outcomes = await asyncio.gather(*(client.credential() for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [keybroker.Timeout] * 5
        assert len(set(map(id, outcomes))) == 5
        assert time.monotonic() - begin < 1
        assert not under._keyring.cell("service").asking  # so who asks next does not wait for what was given up

    asyncio.run(main(), debug=True)


def test_who_is_cancelled_leaves_the_others_waiting(broker: Broker, client: keybroker.Client) -> None:
    go = threading.Event()
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: (go.wait(5), answer(params))[1]

    async def main() -> None:
        aio = keybroker.aio.AsyncClient(client=client)
        first, second = (asyncio.ensure_future(aio.credential()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        go.set()
        assert (await second).lease == "lease-1"
        assert first.cancelled()

    asyncio.run(main())


def test_a_loop_that_ends_meanwhile_harms_nobody(
    broker: Broker, client: keybroker.Client, caplog: pytest.LogCaptureFixture
) -> None:
    broker.answers["acquire"] = say_silence

    async def main() -> None:
        waiting = asyncio.ensure_future(keybroker.aio.AsyncClient(client=client).credential())
        await asyncio.sleep(0.05)
        assert not waiting.done()

    begin = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begin < 1
    broker.hang_up()
    del broker.answers["acquire"]
    assert client.credential().lease == "lease-1"
    assert caplog.text == ""


def test_a_report(broker: Broker, client: keybroker.Client) -> None:
    async def main() -> None:
        aio = keybroker.aio.AsyncClient(client=client)
        old = await aio.credential()
        new = await asyncio.gather(*(aio.report("service", old.api_key) for _ in range(5)))
        assert {one.api_key for one in new} == {key_of("service", 2)}

    asyncio.run(main())
    assert broker.count("report") == 1


def test_the_module_shares_the_default_client(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    monkeypatch.setenv("KEYBROKER_SOCKET", broker.path)
    key = keybroker.api_key("service")()

    async def main() -> None:
        assert await keybroker.aio.api_key("service")() == key
        assert await keybroker.aio.base_url("service") == keybroker.base_url("service")
        assert await keybroker.aio.credential() == keybroker.credential()

    asyncio.run(main())
    assert broker.connections == 1
    wait_until(lambda: broker.count("acquire") == 1)
    keybroker.default().close()


def test_nothing_shows_a_key(client: keybroker.Client) -> None:
    key = client.api_key()()
    aio = keybroker.aio.AsyncClient(client=client)
    for thing in (aio, aio.api_key(), vars(aio)):
        assert key[3:-4] not in repr(thing)
    assert repr(aio).startswith("<keybroker.aio.AsyncClient /")
