"""A manager as the token provider of aiokafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from aiokafka.abc import AbstractTokenProvider
except ImportError as _error:
    msg = "evertoken.clients.aiokafka needs aiokafka: pip install 'evertoken[aiokafka]'"
    raise ImportError(msg) from _error

from evertoken.clients._long_lived import long_lived
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import TokenReader

__all__ = ["TokenProvider"]


@final
class TokenProvider(Uncopied, AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """
    The `sasl_oauth_token_provider` of a client of aiokafka, with `sasl_mechanism="OAUTHBEARER"`.

    aiokafka asks for the token of each connection, and does not authenticate a connection again (KIP-368): brokers that
    are told to end it with its token, and aiokafka connects anew. If a broker refuses the token, `start()` raises
    `KafkaConnectionError`, and a client that runs logs it and tries again with the token that is in service by then.

    Args:
        tokens: A handle of a manager.

        extensions: SASL extensions (RFC 7628 section 3.1), such as `logicalCluster` of Confluent Cloud.

        min_ttl: The fewest seconds that the token of each connection is valid for. It needs a handle.

    Raises:
        ValueError: *min_ttl* is no number of seconds.
    """

    def __init__(
        self,
        tokens: TokenReader,
        *,
        extensions: Mapping[str, str] | None = None,
        min_ttl: float | None = None,
    ) -> None:
        self._tokens = long_lived(tokens, min_ttl)
        self._extensions = dict(extensions or {})

    # The return type stands in aiokafka's documentation only.
    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """
        Return the token for a connection.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
        """
        return (await self._tokens.get()).access_token

    def extensions(self) -> dict[str, str]:
        """Return the SASL extensions."""
        return dict(self._extensions)

    def __repr__(self) -> str:
        return "TokenProvider()"
