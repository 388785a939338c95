"""
A member of a fleet that shares what a provider allows, as a process: `limited.py JSON`.

It says that it lives, and then fetches a token for each of its keys as soon as a line comes on stdin.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from tests.stores.member import say, store_at

from evertoken import Budget, RateLimit, TokenError, TokenManager
from evertoken.sources import ClientCredentials, OAuthClient


async def main(task: dict[str, Any]) -> None:
    logging.getLogger("evertoken").setLevel(logging.CRITICAL)
    client = OAuthClient(
        token_endpoint=task["token_endpoint"],
        client_id="svc",
        client_secret="s3cret",
        rate_limit=RateLimit(**task["limit"]) if "limit" in task else None,
        budget=Budget(**task["budget"]) if "budget" in task else None,
    )

    tokens: TokenManager[Any, Any] = TokenManager(
        source_for=lambda key: ClientCredentials(client, scope=str(key)),
        store=store_at(*task["store"]),
        namespace="fleet",
    )
    async with tokens:
        say("lives")
        while await asyncio.to_thread(sys.stdin.readline):
            got = await asyncio.gather(
                *(tokens.get(key, timeout=task["timeout"]) for key in task["keys"]), return_exceptions=True
            )
            used = tokens.snapshot().providers[client.provider].budget_used
            say(sum(not isinstance(one, TokenError) for one in got), used)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
