"""Chat completions by the unmodified OpenAI SDK, sync and async at once, as the README shows it; prints what came of it as JSON.

usage: sdk.py SECONDS WORKERS
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any

from openai import AsyncOpenAI, OpenAI

import keybroker
import keybroker.aio

CALL: dict[str, Any] = {
    "model": os.environ.get("KEYBROKER_TEST_MODEL", "gpt-5"),
    "messages": [{"role": "user", "content": "Say hello in one word."}],
}


class Count:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.failed = 0
        self.keys: set[str] = set()
        self.errors: list[str] = []

    def add(self, key: str, error: Exception | None = None) -> None:
        with self._lock:
            self.calls += 1
            self.keys.add(key)
            if error is not None:
                self.failed += 1
                self.errors = [*self.errors, repr(error)][:5]


def work(client: OpenAI, until: float, count: Count) -> None:
    while time.monotonic() < until:
        try:
            client.chat.completions.create(**CALL)
            count.add(client.api_key)
        except Exception as error:
            count.add(client.api_key, error)


async def work_async(client: AsyncOpenAI, until: float, count: Count) -> None:
    while time.monotonic() < until:
        try:
            await client.chat.completions.create(**CALL)
            count.add(client.api_key)
        except Exception as error:
            count.add(client.api_key, error)


async def many_async(workers: int, until: float, count: Count) -> None:
    async with AsyncOpenAI(
        api_key=keybroker.aio.api_key("service"), base_url=await keybroker.aio.base_url("service")
    ) as client:
        await asyncio.gather(*(work_async(client, until, count) for _ in range(workers)))


def main() -> None:
    until, workers, count = time.monotonic() + float(sys.argv[1]), int(sys.argv[2]), Count()
    client = OpenAI(api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"))
    threads = [threading.Thread(target=work, args=(client, until, count)) for _ in range((workers + 1) // 2)]
    for thread in threads:
        thread.start()
    asyncio.run(many_async(max(1, workers // 2), until, count))
    for thread in threads:
        thread.join()
    print(json.dumps({"calls": count.calls, "failed": count.failed, "keys": len(count.keys), "errors": count.errors}))


if __name__ == "__main__":
    main()
