"""A manager as the OAuth callback of confluent-kafka. It needs no extra, because it imports nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evertoken._engine.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken._model.protocols import TokenReader

__all__ = ["oauth_cb"]

# librdkafka asks again when four fifths of the time it was told have passed.
_SHARE: Final = 0.8


def oauth_cb(
    tokens: TokenReader,
    *,
    principal: str = "",
    extensions: Mapping[str, str] | None = None,
    ask_every: float = 30.0,
) -> Callable[[str], tuple[str, float, str, dict[str, str]]]:
    """
    Return the `oauth_cb` of a Producer, a Consumer or an AdminClient, with `sasl.mechanisms` OAUTHBEARER.

    librdkafka keeps a token until it asks again, and does not say whether the broker refused it. Brokers that are told
    to (KIP-368) end a connection with its token; then librdkafka authenticates anew.

    The constructors of confluent-kafka block their thread until a thread of the library has called this. On the
    manager's loop, await `handle.get()` before: without a token both would wait for each other, and the constructor
    fails after ten seconds.

    Args:
        tokens: A handle of a manager.

        principal: The principal of the token. librdkafka writes it into its log.

        extensions: SASL extensions (RFC 7628 section 3.1), such as `logicalCluster` of Confluent Cloud.

        ask_every: Seconds until librdkafka asks for the token again, if the token lives so long. In that time it does
            not hear of another one.

    Raises:
        ValueError: *ask_every* is not positive.
    """
    if not ask_every > 0:
        msg = f"ask_every must be a positive number of seconds, not {ask_every!r}"
        raise ValueError(msg)
    sent = dict(extensions or {})

    def answer(_config: str) -> tuple[str, float, str, dict[str, str]]:
        token = tokens.get_sync()
        told = SystemClock.time() + ask_every / _SHARE
        expires_at = told if token.expires_at is None else min(told, token.expires_at)
        return token.access_token, expires_at, principal, sent

    return answer
