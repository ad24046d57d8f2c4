"""The transport: both httpx libraries, sync and async, without a network."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import httpx
import httpx2
import pytest

import keybroker
import keybroker.aio
import keybroker.httpx
import keybroker.httpx2
from fake import BASE_URL, Broker, Silence, key_of

Opener = Callable[..., keybroker.Client]
WAYS = [(module, auth, way) for module, auth in ((httpx, keybroker.httpx), (httpx2, keybroker.httpx2)) for way in ("sync", "async")]
pytestmark = pytest.mark.parametrize("module,auth,way", WAYS, ids=[f"{w[0].__name__}-{w[2]}" for w in WAYS])
URL = BASE_URL + "/chat/completions"


class Server:
    """Honours the key of one generation; remembers what it was given."""

    def __init__(self, broker: Broker, redirect: str | None = None) -> None:
        self.broker, self.redirect = broker, redirect
        self.honoured = 1
        self.seen: list[tuple[str, str | None, bytes]] = []

    def answer(self, module: Any, request: Any) -> Any:
        authorization = request.headers.get("Authorization")
        self.seen.append((str(request.url), authorization, request.content))
        if self.redirect and str(request.url) == URL:
            return module.Response(307, headers={"Location": self.redirect})
        right = authorization == f"Bearer {key_of('service', self.honoured)}"
        return module.Response(200 if right else 401, text="it is so")

    @property
    def keys(self) -> list[str | None]:
        return [authorization and authorization[len("Bearer ") :] for _, authorization, _ in self.seen]


def post(module: Any, auth: Any, way: str, client: keybroker.Client, server: Server, url: str = URL, stream: bool = False) -> Any:
    def handler(request: Any) -> Any:
        request.read()
        return server.answer(module, request)

    async def async_handler(request: Any) -> Any:
        await request.aread()
        return server.answer(module, request)

    def body() -> Any:
        yield b"hello"

    async def async_body() -> Any:
        yield b"hello"

    def sync() -> Any:
        transport = module.MockTransport(handler)
        with module.Client(auth=auth.BrokerAuth(client=client), transport=transport, follow_redirects=True) as http:
            return http.post(url, content=body() if stream else b"hello")

    async def in_loop() -> Any:
        transport = module.MockTransport(async_handler)
        broker_auth = auth.BrokerAuth("service", client=keybroker.aio.AsyncClient(client=client))
        async with module.AsyncClient(auth=broker_auth, transport=transport, follow_redirects=True) as http:
            return await http.post(url, content=async_body() if stream else b"hello")

    return sync() if way == "sync" else asyncio.run(in_loop())


def test_it_sets_the_key(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker)
    assert post(module, auth, way, client, server).status_code == 200
    assert server.keys == [key_of("service", 1)]
    assert broker.count("report") == 0


def test_a_401_is_reported_and_sent_once_more(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker)
    server.honoured = 2
    response = post(module, auth, way, client, server)
    assert response.status_code == 200
    assert [body for _, _, body in server.seen] == [b"hello", b"hello"]
    assert server.keys == [key_of("service", 1), key_of("service", 2)]
    assert broker.params("report") == [{"lease": "lease-1", "status": 401}]


def test_the_second_answer_is_the_callers(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker)
    server.honoured = 7
    assert post(module, auth, way, client, server).status_code == 401
    assert len(server.seen) == 2 and broker.count("report") == 1


def test_without_another_key_it_is_not_sent_again(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker)
    server.honoured = 7
    broker.answers["report"] = lambda params: {"state": "alive"}
    assert post(module, auth, way, client, server).status_code == 401
    assert len(server.seen) == 1


def test_many_401_are_one_report(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker)
    client.credential()
    server.honoured = 2
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(post, module, auth, way, client, server) for _ in range(8)]
        assert {one.result().status_code for one in posts} == {200}
    assert broker.count("report") == 1


def test_a_stream_is_not_sent_again(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    """The server here has read it, which httpx would take for its content; so this asks the rule itself."""
    import keybroker._auth as rules

    streamed = module.Request("POST", URL, content=(b"hello" for _ in range(1)))
    assert not rules._can_be_sent_again(streamed)
    assert rules._can_be_sent_again(module.Request("POST", URL, json={"a": 1}))
    assert rules._can_be_sent_again(module.Request("GET", URL))


def test_a_broker_that_is_away_leaves_the_401(module: Any, auth: Any, way: str, broker: Broker, open_client: Opener) -> None:
    def silent(params: dict[str, Any]) -> Any:
        raise Silence

    server = Server(broker)
    server.honoured = 2
    broker.answers["report"] = silent
    assert post(module, auth, way, open_client(timeout=0.3), server).status_code == 401
    assert len(server.seen) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:10/v1", "https://127.0.0.1:9/v1", "http://127.0.0.2:9/v1", "http://127.0.0.1/v1"])
def test_the_key_is_for_its_origin_alone(
    module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client, url: str
) -> None:
    server = Server(broker)
    assert post(module, auth, way, client, server, url).status_code == 401
    assert server.keys == [None] and broker.count("report") == 0


def test_an_sdk_that_has_set_it_does_not_give_it_away(
    module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client
) -> None:
    flow = auth.BrokerAuth(client=client).sync_auth_flow(
        module.Request("GET", "http://127.0.0.2:9/v1/models", headers={"Authorization": f"Bearer {client.api_key()()}"})
    )
    assert "authorization" not in next(flow).headers


def test_nor_does_it_follow_a_redirect(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker, redirect="http://127.0.0.2:9/v1")
    assert post(module, auth, way, client, server).status_code == 401
    assert server.keys == [key_of("service", 1), None]
    assert broker.count("report") == 0


def test_it_stays_with_one_at_home(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    server = Server(broker, redirect=BASE_URL + "/elsewhere")
    assert post(module, auth, way, client, server).status_code == 200
    assert server.keys == [key_of("service", 1)] * 2


def test_a_default_port_is_no_other_origin(module: Any, auth: Any, way: str, broker: Broker, client: keybroker.Client) -> None:
    answer = broker._acquire
    broker.answers["acquire"] = lambda params: {**answer(params), "base_url": "http://LiteLLM.example:80/v1"}
    server = Server(broker)
    assert post(module, auth, way, client, server, "http://litellm.example/v1/models").status_code == 200


def test_nothing_shows_a_key(module: Any, auth: Any, way: str, client: keybroker.Client) -> None:
    key = client.api_key()()
    assert key[3:-4] not in repr(auth.BrokerAuth(client=client))
