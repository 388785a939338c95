"""confluent-kafka: the contract of SDKs, with a broker that looks at the token. Each constructor takes a second."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from tests.clients.kafka_broker import Broker
from tests.clients.sdk_contract import SdkContract

from evertoken import TokenUnavailable
from evertoken.clients.kafka import oauth_cb

SASL: dict[str, Any] = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER"}


def refuses(error: Exception) -> bool:
    return isinstance(error, confluent_kafka.KafkaException)


_NO_TOKEN = "After ten seconds, the constructor reports a missing token without the cause. So get a token before"


class TestConfluentKafka(SdkContract):
    name = "confluent_kafka.Producer"
    library: ClassVar[str | None] = "confluent-kafka"
    lines = 'Producer({..., "sasl.mechanisms": "OAUTHBEARER", "oauth_cb": oauth_cb(handle)})'
    without = 3
    blocking = True
    heals = (
        "librdkafka reports no refusal, and tries the token again until it asks for the next one. "
        "If a call fails because of it, `attempt_sync` around the call heals it"
    )
    refusal = staticmethod(refuses)
    differs: ClassVar[dict[str, str]] = {
        "test_no_token_on_the_loop": _NO_TOKEN,
        "test_no_token_elsewhere": _NO_TOKEN,
    }

    def server(self):
        return Broker()

    def given(self, handle):
        return oauth_cb(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        def call() -> None:
            AdminClient({
                **SASL, "bootstrap.servers": server.address, "oauth_cb": given, "log_level": 0,
                "reconnect.backoff.ms": 60_000, "reconnect.backoff.max.ms": 60_000,
            }).list_topics(timeout=0.3)  # fmt: skip

        yield call

    async def test_no_token_on_the_loop(self):
        """U5: On the loop the callback raises at once. `test_kafka.py` waits for the constructor."""
        async with self.setting(ConnectionError("down")) as at:
            given = self.given(at.handle)
            with pytest.raises(RuntimeError, match="await the async form"):
                given("")

    async def test_no_token_elsewhere(self):
        """U5: In a thread the callback raises at once."""
        async with self.setting(ConnectionError("down")) as at:
            with pytest.raises(TokenUnavailable):
                await asyncio.to_thread(self.given(at.handle), "")
