"""Kafka: aiokafka, and the special features of confluent-kafka, with a broker that checks the token."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest
import time_machine
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from tests.clients.kafka_broker import Broker
from tests.clients.long_lived import LongLived
from tests.clients.sdk_contract import SdkContract
from tests.gated import until

from evertoken import Token, TokenManager
from evertoken.clients.aiokafka import TokenProvider
from evertoken.clients.kafka import oauth_cb

EXTENSIONS = {"logicalCluster": "lkc-1", "identityPoolId": "pool-7"}


def client(broker: Any, answer: Any) -> confluent_kafka.Producer:
    return confluent_kafka.Producer({
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER", "oauth_cb": answer, "log_level": 0,
        "bootstrap.servers": broker.address,
    })  # fmt: skip


def produced(broker: Any, answer: Any) -> None:
    client(broker, answer).list_topics(timeout=5)


@contextlib.asynccontextmanager
async def connected(broker: Any, provider: TokenProvider):
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.address,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_provider=provider,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


class TestAiokafka(SdkContract):
    name = "aiokafka.AIOKafkaProducer"
    extra = "aiokafka"
    lines = "AIOKafkaProducer(..., sasl_oauth_token_provider=TokenProvider(handle))"
    without = 3
    heals = "aiokafka does not report a refusal. If `start()` fails because of it, `attempt` around it heals it"
    refusal = KafkaConnectionError

    def server(self):
        return Broker()

    def given(self, handle):
        return TokenProvider(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with connected(server, given):
                pass

        yield call


async def test_extensions_are_sent():
    """U1: Both clients send SASL extensions, which brokers of others need, beside the token."""
    async with TokenManager(lambda: ("secret-1", 3600.0)) as tokens, Broker() as broker:
        broker.good.add("secret-1")
        provider = TokenProvider(tokens.handle(), extensions=EXTENSIONS)
        async with connected(broker, provider):
            pass
        await asyncio.to_thread(produced, broker, oauth_cb(tokens.handle(), extensions=EXTENSIONS))
        sent = ["logicalCluster=lkc-1", "identityPoolId=pool-7"]
        assert [sorted(one) for one in broker.extensions] == [sorted(sent)] * len(broker.extensions)
        assert len(broker.extensions) >= 2


async def test_librdkafka_asks_again():
    """U1: A client that runs hears of another token after `ask_every`, and shows it to the next connection."""
    fetched: list[str] = []

    def fetch() -> tuple[str, float]:
        fetched.append(f"secret-{len(fetched) + 1}")
        return fetched[-1], 3600.0

    async with TokenManager(fetch) as tokens, Broker() as broker:
        broker.good = {"secret-1", "secret-2"}
        asked: list[float] = []
        answer = oauth_cb(tokens.handle(), ask_every=0.5)

        def counted(config: str) -> Any:
            asked.append(time.monotonic())
            return answer(config)

        producer = await asyncio.to_thread(client, broker, counted)
        await asyncio.to_thread(producer.list_topics, timeout=5)
        await tokens.refresh()
        before = len(asked)
        await until(lambda: len(asked) >= before + 2)
        broker.hang_up()
        await until(lambda: broker.shown[-1] == "secret-2")
        del producer


async def test_constructor_that_blocks_the_loop():
    """U5: Without a token, a constructor on the loop, and the thread that it waits for, end with an error."""

    def fetch() -> tuple[str, float]:
        raise ConnectionError("down")

    async with TokenManager(fetch) as tokens:
        broker: Any = SimpleNamespace(address="127.0.0.1:9")
        before = time.monotonic()
        with pytest.raises(confluent_kafka.KafkaException, match="token not set"):
            client(broker, oauth_cb(tokens.handle()))
        assert time.monotonic() - before < 15


@pytest.mark.parametrize(("expires_at", "told"), [(1010.0, 1010.0), (None, 1037.5), (9000.0, 1037.5)])
def test_the_instant_that_librdkafka_is_told(expires_at, told):
    """U1: It is a float of the epoch: the end of the token, or the time after which librdkafka shall ask again."""
    token = Token("secret-1", issued_at=1000.0, expires_at=expires_at)
    reader: Any = SimpleNamespace(get_sync=lambda: token)
    with time_machine.travel(1000.0, tick=False):
        assert oauth_cb(reader, principal="billing")("") == ("secret-1", told, "billing", {})


async def test_a_token_that_lives_long_enough():
    """R2: Each connection asks for a token with `min_ttl` seconds left."""
    reader: Any = LongLived()
    assert await TokenProvider(reader, min_ttl=600.0).token() == "secret-1"
    assert reader.asked == [600.0]
    with pytest.raises(ValueError, match="min_ttl"):
        TokenProvider(reader, min_ttl=float("nan"))


@pytest.mark.parametrize("ask_every", [0, -1.0, float("nan")])
def test_time_that_makes_no_sense(ask_every):
    """U1: A time that is not positive is refused, and the message names it."""
    reader: Any = None
    with pytest.raises(ValueError, match="ask_every"):
        oauth_cb(reader, ask_every=ask_every)
