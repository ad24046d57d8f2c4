"""Figures, as one line of JSON: a key from memory, and `acquire` beside the same bytes over a bare socket.

usage: bench.py SECONDS
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
import timeit
from concurrent.futures import Future
from typing import Callable

import keybroker
from keybroker import _wire


def percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50": round(cuts[49] * 1e6, 2), "p99": round(cuts[98] * 1e6, 2)}


def timed(what: Callable[[], object], times: list[float]) -> None:
    before = time.perf_counter()
    what()
    times.append(time.perf_counter() - before)


def main() -> None:
    seconds = float(sys.argv[1])
    client = keybroker.Client()
    key, lease = client.api_key(), client.credential().lease
    assert lease is not None
    request = {"lease": lease, "timeout_ms": 27000}

    runs = timeit.repeat(key, number=100_000, repeat=5)
    table = {"service": "key"}
    control = timeit.repeat(lambda: table["service"], number=100_000, repeat=5)

    def warm() -> None:
        answer: Future[object] = Future()

        def done(result: object, error: object) -> None:
            assert error is None, error
            answer.set_result(result)

        client._keyring.channel.request("acquire", request, 30.0, done)
        client._keyring.channel.attend(answer.done, time.monotonic() + 30.0)
        answer.result(30.0)

    bare_socket = socket.socket(socket.AF_UNIX)
    path = client._keyring.channel.path
    assert path is not None
    bare_socket.connect(path)
    data = _wire.encode_request(1, "acquire", request)

    def bare() -> None:
        bare_socket.send(data)
        bare_socket.recv(65536)

    warm_times: list[float] = []
    bare_times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for what, times in ((warm, warm_times), (bare, bare_times)):
            for _ in range(20):  # in turn, so that both see the same machine
                timed(what, times)
    print(
        json.dumps(
            {
                "cached_ns": round(min(runs) * 1e4, 1),
                "dict_ns": round(min(control) * 1e4, 1),
                "warm_us": percentiles(warm_times),
                "bare_us": percentiles(bare_times),
            }
        )
    )


if __name__ == "__main__":
    main()
