"""The provider is back after an outage under demand: how soon is everybody served, and how often was it asked?"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal, TypeAlias

from tests.benchmarks._measure import Options, Row, Rows, run

from evertoken import RetryPolicy, TokenManager, TokenUnavailable, TransientRefreshError
from evertoken.sources import ClientCredentials, OAuthClient
from evertoken.testing import VirtualClock, VirtualTimeLoop

RATE = 100
# Over HTTP it must be short. Waits between retries are shares of it, so chance must not make them shorter.
# The fetch that begins as the token is due still hangs as the token expires.
LIFETIME, SHORT_LIFETIME = 300.0, 20.0
STEADY = RetryPolicy(jitter=0.0)
LATENCY = 0.05
SERVED, A_SECOND, HELD = 1.5, 1.0, 1.1

#: The provider while it is down: it answers 500, or says nothing. When it is back, it answers the requests
#: that it holds, or resets their connections.
Outage: TypeAlias = Literal["500", "silent, then answers", "silent, then resets"]
OUTAGES: tuple[Outage, ...] = ("500", "silent, then answers", "silent, then resets")


class Provider:
    """A provider that may be down, and the instants (of the loop's clock) at which it was asked."""

    def __init__(self, outage: Outage, lifetime: float) -> None:
        self.outage = outage
        self.lifetime = lifetime
        self.up = asyncio.Event()
        self.up.set()
        self.asked: list[float] = []

    async def answer(self) -> dict[str, Any] | None:
        """
        Return its answer, or None for a 500.

        Raises:
            ConnectionResetError: It resets the connection.
        """
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(LATENCY)
        if not self.up.is_set():
            if self.outage == "500":
                return None
            await self.up.wait()
            if self.outage == "silent, then resets":
                raise ConnectionResetError
        return {"access_token": f"token-{len(self.asked)}", "token_type": "Bearer", "expires_in": self.lifetime}

    async def fetch(self, request: Any, /) -> dict[str, Any]:
        """Be the source itself, where there is no network."""
        request.sending()
        try:
            found = await self.answer()
        except ConnectionResetError:
            msg = "the connection was reset"
            raise TransientRefreshError(msg, ambiguous=True) from None
        if found is None:
            msg = "the token endpoint answered 500"
            raise TransientRefreshError(msg, ambiguous=True)
        return found

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            found = await self.answer()
        except ConnectionResetError:
            writer.transport.abort()
            return
        except asyncio.IncompleteReadError:
            writer.close()
            return
        status = "500 Internal Server Error" if found is None else "200 OK"
        body = json.dumps(found or {"error": "server_error"}).encode()
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[ClientCredentials]:
        """Serve on loopback; yield a source for it."""
        async with await asyncio.start_server(self.connected, "127.0.0.1", 0) as server:
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
            yield ClientCredentials(OAuthClient(token_endpoint=endpoint, client_id="svc", client_secret="s3cret"))


def rows(options: Options) -> Rows:
    logging.getLogger("evertoken").setLevel(logging.CRITICAL)
    for outage in OUTAGES:
        yield from run(lambda outage=outage: _virtual(outage), VirtualTimeLoop)  # type: ignore[misc]
    # All at once, in one process: most of it is waiting.
    yield from run(lambda: _all_real(options.pick(10.0, 3.0)))


async def _all_real(down: float) -> list[Row]:
    found = await asyncio.gather(*(_real(outage, down) for outage in OUTAGES))
    return list(itertools.chain.from_iterable(found))


async def _virtual(outage: Outage) -> list[Row]:
    provider = Provider(outage, LIFETIME)
    async with TokenManager(provider, clock=VirtualClock()) as tokens:
        return await _outage("virtual", tokens, provider, 60.0)


async def _real(outage: Outage, down: float) -> list[Row]:
    provider = Provider(outage, SHORT_LIFETIME)
    async with provider.listening() as source, TokenManager(source, retry=STEADY) as tokens:
        return await _outage("HTTP", tokens, provider, down)


async def _outage(where: str, tokens: TokenManager[Any, None], provider: Provider, down: float) -> list[Row]:
    loop = asyncio.get_running_loop()
    first = await tokens.get()
    provider.up.clear()
    assert first.expires_at is not None
    await asyncio.sleep(first.expires_at - tokens.clock.time() + 0.01)
    expired = loop.time()
    held: list[float] = []
    served: list[float] = []
    back = expired + down

    async def caller() -> None:
        begun = loop.time()
        with contextlib.suppress(TokenUnavailable):
            await tokens.get()
            served.append(loop.time())
        held.append(loop.time() - begun)

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            await asyncio.sleep(max(0.0, expired + number / RATE - loop.time()))
            group.create_task(caller())
            if loop.time() >= back and not provider.up.is_set():
                back = loop.time()
                provider.up.set()
            if loop.time() >= back + 2.0 * SERVED:
                break
    asked = [at for at in provider.asked if expired <= at <= back]
    gaps = [two - one for one, two in itertools.pairwise(asked)]
    title = f"{where}, {provider.outage}"
    return [
        Row(
            f"{title}: from back to served",
            min(served, default=float("inf")) - back,
            SERVED,
            unit="s",
            note=f"down for {down:g} s past expiry, {RATE} callers a second",
        ),
        Row(
            "... attempts a second meanwhile",
            len(asked) / down,
            A_SECOND,
            unit="",
            note=f"the two closest {min(gaps):.2f} s apart" if gaps else "",
        ),
        Row("... a caller was held, at most", max(held), HELD, unit="s", note=f"of {len(held):,}"),
    ]
