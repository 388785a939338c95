"""
obstore, over a socket: it has no transport in memory.

Both credentials are functions that obstore asks before each request. A credential that obstore caches costs about 0.1
ms less, but misses each rotation.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore
from tests.benchmarks._answering import answering

from evertoken.clients.obstore import BearerProvider


@contextlib.asynccontextmanager
async def pair(tokens):
    with answering() as url:

        def store(provider: Any) -> Any:
            options: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
            return AzureStore("c", account_name="a", endpoint=url, credential_provider=provider, **options)

        static = store(lambda: {"token": "token", "expires_at": dt.datetime(1970, 1, 1, tzinfo=dt.UTC)})
        ours = store(BearerProvider(tokens.handle()))

        async def ask_static():
            await asked(static)

        async def ask_ours():
            await asked(ours)

        yield ask_static, ask_ours


async def asked(store: Any) -> None:
    # The server answers 200, and tells no date of the object.
    with contextlib.suppress(BaseError):
        await obstore.head_async(store, "a")


PAIRS = {"obstore.store.AzureStore": pair}
