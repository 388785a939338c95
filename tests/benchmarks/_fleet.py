"""
One member of a fleet, in a process of its own: `python -m tests.benchmarks._fleet JSON`.

It prints its observations as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import httpx

from evertoken import TokenManager
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken
from evertoken.stores import FileStore, RedisStore


async def live(task: dict[str, Any]) -> dict[str, Any]:
    store: Any = RedisStore(task["store"]) if task["store"].startswith("redis:") else FileStore(task["store"])
    client = {"token_endpoint": task["token_endpoint"], "client_id": "svc", "client_secret": "s3cret"}
    source: Any = ClientCredentials(OAuthClient(**client))
    if task["refresh_token"]:
        source = RefreshToken(OAuthClient(**client), refresh_token=task["refresh_token"], rotates=True)
    waits: list[float] = []
    requests: list[float] = []
    bad: list[str] = []
    async with (
        TokenManager(source, store=store, namespace="", start="require") as tokens,
        httpx.AsyncClient(auth=tokens.auth(), limits=httpx.Limits(max_connections=20)) as api,
    ):
        await tokens.get()
        print("lives", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def use() -> None:
            begun = perf_counter()
            await tokens.get()
            waited = perf_counter() - begun
            waits.append(waited)
            try:
                status = (await api.get(task["resource"])).status_code
                if status != 200:
                    bad.append(str(status))
            except Exception as error:  # noqa: BLE001 - every error of a caller counts
                bad.append(repr(error))
            requests.append(perf_counter() - begun)

        start = perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(task["seconds"] * task["rate"])):
                await asyncio.sleep(max(0.0, start + number / task["rate"] - perf_counter()))
                group.create_task(use())
        waits.sort()
        requests.sort()
    return {
        "requests": len(requests),
        "bad": bad,
        "slowest_get": waits[-1],
        "slowest_request": requests[-1],
        "p99": requests[int(len(requests) * 0.99)],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(live(json.loads(sys.argv[1])))))
