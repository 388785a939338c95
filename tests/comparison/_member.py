"""One of two processes that share a grant: `python -m tests.comparison._member TASK`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.comparison._peer import Peer
from tests.comparison._play import together
from tests.comparison.peers import PEERS
from tests.comparison.scenarios_tokens import REQUESTS, ROUNDS

from evertoken.sources import ClientCredentials, OAuthClient


class Elsewhere:
    """The server of another process, as far as a library needs it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token_endpoint, self.resource = f"{url}/token", f"{url}/resource"

    def client_credentials(self) -> ClientCredentials:
        return ClientCredentials(
            OAuthClient(token_endpoint=self.token_endpoint, client_id="svc", client_secret="s3cret")
        )


async def main(task: dict[str, Any]) -> None:
    kind: type[Peer] = next(kind for kind in PEERS if kind.name == task["name"])
    server: Any = Elsewhere(task["url"])
    peer = kind(server, grant=task["grant"], file=Path(task["file"]))
    await peer.open()
    print("ready", flush=True)
    sys.stdin.readline()
    failed = 0
    for _ in range(ROUNDS):
        failed += sum(outcome.failed for outcome in await together(peer, REQUESTS))
        await asyncio.sleep(1.3)
    print(failed, flush=True)
    with contextlib.suppress(Exception):
        await peer.aclose()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(sys.argv[1])))
    # Threads of a library may hang.
    os._exit(0)
