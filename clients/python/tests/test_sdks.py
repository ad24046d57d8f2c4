"""The SDKs of today, unmodified, as the README shows them."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic, AuthenticationError
from openai import AsyncOpenAI, OpenAI

import keybroker
import keybroker.aio
import keybroker.anthropic
import keybroker.httpx2
from fake import BASE_URL, Broker, key_of

MESSAGES: Any = [{"role": "user", "content": "hello"}]


class Gateway:
    """Answers as OpenAI and Anthropic do, and honours the key of one generation."""

    def __init__(self) -> None:
        self.honoured = 1
        self.seen: list[tuple[str, str]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append((str(request.url), request.headers.get("Authorization", "").removeprefix("Bearer ")))
        if self.seen[-1][1] != key_of("service", self.honoured):
            return httpx2.Response(401, json={"error": {"message": "no"}})
        if request.url.path.endswith("/messages"):
            content = [{"type": "text", "text": "hello"}]
            usage = {"input_tokens": 1, "output_tokens": 1}
            return httpx2.Response(
                200,
                json={
                    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": content,
                    "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
                },
            )  # fmt: skip
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
        return httpx2.Response(
            200, json={"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )

    async def in_loop(self, request: httpx2.Request) -> httpx2.Response:
        return self(request)

    @property
    def keys(self) -> list[str]:
        return [key for _, key in self.seen]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> Any:
    monkeypatch.setenv("KEYBROKER_SOCKET", broker.path)
    yield Gateway()
    keybroker.default().close()


def sync_http(gateway: Gateway, **options: Any) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(gateway), **options)


def async_http(gateway: Gateway, **options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.MockTransport(gateway.in_loop), **options)


def rotate(broker: Broker, gateway: Gateway) -> None:
    """The key is another one, and the client has heard so."""
    broker.rotate()
    gateway.honoured = broker.generation
    from fake import wait_until

    wait_until(lambda: keybroker.credential().generation == broker.generation)


def test_openai(broker: Broker, gateway: Gateway) -> None:
    with OpenAI(
        api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"), http_client=sync_http(gateway)
    ) as client:
        client.chat.completions.create(model="m", messages=MESSAGES)
        rotate(broker, gateway)
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert gateway.seen == [(BASE_URL + "/chat/completions", key_of("service", n)) for n in (1, 2)]


def test_async_openai(broker: Broker, gateway: Gateway) -> None:
    async def main() -> None:
        async with AsyncOpenAI(
            api_key=keybroker.aio.api_key("service"),
            base_url=await keybroker.aio.base_url("service"),
            http_client=async_http(gateway),
        ) as client:
            await client.chat.completions.create(model="m", messages=MESSAGES)
            rotate(broker, gateway)
            await client.chat.completions.create(model="m", messages=MESSAGES)

    asyncio.run(main())
    assert gateway.keys == [key_of("service", n) for n in (1, 2)]


def test_openai_with_a_transport_that_reports(broker: Broker, gateway: Gateway) -> None:
    gateway.honoured = 2
    http = sync_http(gateway, auth=keybroker.httpx2.BrokerAuth("service"))
    with OpenAI(
        api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"), http_client=http, max_retries=0
    ) as client:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert gateway.keys == [key_of("service", n) for n in (1, 2)] and broker.count("report") == 1


def test_async_openai_with_a_transport_that_reports(broker: Broker, gateway: Gateway) -> None:
    gateway.honoured = 2

    async def main() -> None:
        http = async_http(gateway, auth=keybroker.httpx2.BrokerAuth("service"))
        async with AsyncOpenAI(
            api_key=keybroker.aio.api_key("service"), base_url=BASE_URL, http_client=http, max_retries=0
        ) as client:
            await client.chat.completions.create(model="m", messages=MESSAGES)

    asyncio.run(main())
    assert gateway.keys == [key_of("service", n) for n in (1, 2)] and broker.count("report") == 1


def test_a_denial_is_the_callers(broker: Broker, gateway: Gateway) -> None:
    from test_client import refuse

    client = OpenAI(api_key=keybroker.api_key("service"), base_url=BASE_URL, http_client=sync_http(gateway))
    broker.answers["acquire"] = refuse("denied")
    with pytest.raises(keybroker.Denied):
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert gateway.seen == []


def say(way: str, gateway: Gateway, base_url: str) -> None:
    """One message by Anthropic's SDK."""

    async def main() -> None:
        async with AsyncAnthropic(
            credentials=keybroker.anthropic.async_credentials("service"), base_url=base_url, http_client=async_http(gateway)
        ) as client:
            await client.messages.create(model="m", max_tokens=9, messages=MESSAGES)

    if way == "async":
        asyncio.run(main())
        return
    with Anthropic(
        credentials=keybroker.anthropic.credentials("service"), base_url=base_url, http_client=sync_http(gateway)
    ) as client:
        client.messages.create(model="m", max_tokens=9, messages=MESSAGES)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_anthropic(broker: Broker, gateway: Gateway, way: str) -> None:
    say(way, gateway, keybroker.anthropic.base_url("service"))
    assert gateway.seen == [("http://127.0.0.1:9/v1/messages", key_of("service", 1))]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_anthropic_reports_a_401(broker: Broker, gateway: Gateway, way: str) -> None:
    gateway.honoured = 2
    say(way, gateway, keybroker.anthropic.base_url("service"))
    assert gateway.keys == [key_of("service", n) for n in (1, 2)]
    assert broker.count("report") == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_anthropic_with_a_broker_that_cannot_say(broker: Broker, gateway: Gateway, way: str) -> None:
    from test_client import refuse

    gateway.honoured = 7
    broker.answers["report"] = refuse("internal")
    with pytest.raises(AuthenticationError):
        say(way, gateway, keybroker.anthropic.base_url("service"))


def test_anthropic_asks_before_each_call(broker: Broker, gateway: Gateway) -> None:
    with Anthropic(
        credentials=keybroker.anthropic.credentials("service"),
        base_url=keybroker.anthropic.base_url("service"),
        http_client=sync_http(gateway),
    ) as client:
        client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        rotate(broker, gateway)
        client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert gateway.keys == [key_of("service", n) for n in (1, 2)] and broker.count("report") == 0


@pytest.mark.parametrize("way", ["sync", "async"])
def test_anthropics_own_server_gets_no_key_of_ours(broker: Broker, gateway: Gateway, way: str) -> None:
    with pytest.raises(Exception) as caught:
        say(way, gateway, "https://api.anthropic.com")
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, keybroker.InvalidRequest):
        error = error.__cause__
    assert error is not None and "base_url=keybroker.anthropic.base_url" in str(error)
    assert gateway.seen == []


@pytest.mark.parametrize("make", [keybroker.anthropic.credentials, keybroker.anthropic.async_credentials])
def test_nothing_shows_a_key(gateway: Gateway, make: Callable[[], Any]) -> None:
    provider = make()
    key = keybroker.api_key()()
    provider._last = keybroker.credential().api_key
    assert key[3:-4] not in repr(provider) + repr(vars(provider))
