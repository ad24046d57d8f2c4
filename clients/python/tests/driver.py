"""Does what it is told, a line of JSON at a time: clients/README.md of the project, "The driver".

The two faces of the library have one state, so the driver shows both: what it is asked for goes by threads and by a loop in turn.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import os
import pprint
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Awaitable, Callable, Iterator

import httpx
import httpx2

import keybroker
import keybroker.aio
import keybroker.httpx
import keybroker.httpx2

Answer = dict[str, Any]
clients: dict[str, keybroker.Client] = {}
logged: list[str] = []
turn = itertools.count()


class Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(record.getMessage())


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def error_fields(error: keybroker.Error) -> Answer:
    return {
        "code": error.code,
        "message": error.message,
        "advice": error.advice,
        "socket": error.socket,
        "retry_after_ms": error.retry_after_ms,
    }


def client_of(request: Answer) -> keybroker.Client:
    name = request.get("client", "main")
    return clients.get(name) or clients.setdefault(name, keybroker.Client())


def in_turn(sync: Callable[[], Any], in_loop: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await in_loop()

    return asyncio.run(run()) if next(turn) % 2 else sync()


def do_open(request: Answer) -> Answer:
    options = request.get("options", {})
    clients[request.get("client", "main")] = keybroker.Client(
        options.get("socket"),
        timeout=options.get("timeout_ms", 30_000) / 1000,
        ack_after=options.get("ack_after_ms", 30_000) / 1000,
    )
    return {}


def do_api_key(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    aio = keybroker.aio.AsyncClient(client=client)
    return {"key_hash": key_hash(in_turn(client.api_key(profile), aio.api_key(profile)))}


def do_base_url(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    aio = keybroker.aio.AsyncClient(client=client)
    return {"base_url": in_turn(lambda: client.base_url(profile), lambda: aio.base_url(profile))}


def do_credential(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    aio = keybroker.aio.AsyncClient(client=client)
    credential = in_turn(lambda: client.credential(profile), lambda: aio.credential(profile))
    return fields_of(credential)


def fields_of(credential: keybroker.Credential) -> Answer:
    names = ("lease", "generation", "mode", "base_url", "expires_at_ms")
    return {name: getattr(credential, name) for name in names} | {"key_hash": key_hash(credential.api_key)}


def half_and_half(n: int, sync: Callable[[], Any], in_loop: Callable[[], Awaitable[Any]]) -> Iterator[Any]:
    """What n calls at once return or raise: some of threads, some of a loop."""

    async def all_of_loop(n: int) -> list[Any]:
        return await asyncio.gather(*(in_loop() for _ in range(n)), return_exceptions=True)

    with ThreadPoolExecutor(n) as pool:
        threads = [pool.submit(sync) for _ in range(n - n // 2)]
        yield from asyncio.run(all_of_loop(n // 2))
        for thread in threads:
            yield thread.exception() or thread.result()


def do_many(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    keys, codes = set(), set()
    for outcome in half_and_half(
        request["n"], client.api_key(profile), keybroker.aio.AsyncClient(client=client).api_key(profile)
    ):
        if isinstance(outcome, keybroker.Error):
            codes.add(outcome.code)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            keys.add(key_hash(outcome))
    return {"key_hashes": sorted(keys), "codes": sorted(codes)}


def do_call(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    url = client.base_url(profile) + "/chat/completions"
    body = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}).encode()
    streamed = bool(request.get("body_stream"))
    headers = {"Content-Type": "application/json"}
    module: Any
    module, auth = ((httpx, keybroker.httpx), (httpx2, keybroker.httpx2))[next(turn) // 2 % 2]

    def sync() -> Any:
        content = iter([body]) if streamed else body
        with module.Client(auth=auth.BrokerAuth(profile, client=client), follow_redirects=True) as http:
            return http.post(url, content=content, headers=headers)

    async def in_loop() -> Any:
        async def stream() -> Any:
            yield body

        transport = auth.BrokerAuth(profile, client=keybroker.aio.AsyncClient(client=client))
        async with module.AsyncClient(auth=transport, follow_redirects=True) as http:
            return await http.post(url, content=stream() if streamed else body, headers=headers)

    if "n" in request:
        responses = list(half_and_half(request["n"], sync, in_loop))
        for response in responses:
            if isinstance(response, BaseException):
                raise response
        return {"statuses": sorted({response.status_code for response in responses})}
    response = in_turn(sync, in_loop)
    key = response.request.headers.get("Authorization", "").removeprefix("Bearer ")
    return {"status": response.status_code, "key_hash": key_hash(key)}


def do_call_other(request: Answer, profile: str) -> Answer:
    with httpx.Client(auth=keybroker.httpx.BrokerAuth(profile, client=client_of(request))) as http:
        return {"status": http.get(request["url"]).status_code}


def do_child(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    parent = client.credential(profile)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps(fields_of(client.credential(profile))))
            client.close()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        child = json.load(pipe)
    os.waitpid(pid, 0)
    parent = client.credential(profile)
    return {
        "lease": child["lease"],
        "key_hash": child["key_hash"],
        "parent_lease": parent.lease,
        "parent_key_hash": key_hash(parent.api_key),
    }


def do_show(request: Answer, profile: str) -> Answer:
    client = client_of(request)
    credential, api_key = client.credential(profile), client.api_key(profile)
    key = api_key()
    aio = keybroker.aio.AsyncClient(client=client)
    things = [client, aio, credential, api_key, aio.api_key(profile), asdict(credential), client._keyring.cells]
    things += [vars(client._keyring), vars(client._keyring.cell(profile)), vars(client._keyring.channel), [key], repr(key)]
    things += [keybroker.httpx.BrokerAuth(profile, client=client)]
    texts = [show(thing) for thing in things for show in (repr, str, "{}".format, pprint.pformat)]
    try:
        client.credential("no such profile")
    except keybroker.Error as error:
        texts += [repr(error), str(error), *traceback.TracebackException.from_exception(error, capture_locals=True).format()]
    crash: list[str] = []

    def hook(args: threading.ExceptHookArgs) -> None:
        assert args.exc_value is not None
        crash.extend(traceback.TracebackException.from_exception(args.exc_value, capture_locals=True).format())

    def break_down() -> None:
        (key, credential.nothing)  # type: ignore[attr-defined]

    threading.excepthook = hook
    thread = threading.Thread(target=break_down)
    thread.start()
    thread.join()
    return {"texts": texts + crash}


def do_logged(request: Answer, profile: str) -> Answer:
    return {"lines": logged}


def do_close(request: Answer, profile: str) -> Answer:
    client_of(request).close()
    return {}


def answer(request: Answer) -> Answer:
    if request["ask"] == "open":
        return do_open(request)
    what: Callable[[Answer, str], Answer] = globals()["do_" + request["ask"]]
    return what(request, request.get("profile", "service"))


def main() -> None:
    log = logging.getLogger("keybroker")
    log.setLevel(logging.DEBUG)
    log.addHandler(Log())
    log.propagate = False
    for line in sys.stdin:
        begin = time.monotonic()
        try:
            said = answer(json.loads(line))
        except keybroker.Error as error:
            said = {"error": error_fields(error)}
        said["ms"] = round((time.monotonic() - begin) * 1000, 3)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
