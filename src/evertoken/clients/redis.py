"""A manager as the password of redis-py's connections to Redis and Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

try:
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.asyncio.client import PubSub as AsyncPubSub
    from redis.auth.token import SimpleToken
    from redis.client import PubSub
    from redis.cluster import RedisCluster
    from redis.credentials import CredentialProvider
    from redis.exceptions import AuthenticationError
except ImportError as _error:
    msg = "evertoken.clients.redis needs redis 5.3 or later: pip install 'evertoken[redis]'"
    raise ImportError(msg) from _error

from evertoken._model.guarded import Guarded
from evertoken._model.protocols import TokenReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from evertoken._engine.attempts import Refused
    from evertoken._model.token import Token

__all__ = ["TokenProvider", "keep_authenticated"]

# The name that redis-py gives to the user in a token.
_USER = "oid"


class _Handle(TokenReader, Protocol):
    async def keep(self, push: Callable[[Any], Awaitable[object]], *, refused: Refused) -> None:
        """Push each new token into a live connection."""


@final
class TokenProvider(Guarded, CredentialProvider):
    """
    A credential provider of redis-py that logs in with the token of a `TokenManager`.

    Made from a handle: `Redis.from_url(url, credential_provider=provider, redis_connect_func=provider.connect)`.
    `connect` heals a login that the server refuses: it reports the token and logs in once more with another one. A
    cluster's client takes no `redis_connect_func` that logs in. There the refusal is the caller's, and
    `TokenHandle.attempt` heals it. A connection is asked for a password once: see `keep_authenticated` for those that
    are open. The interface is described in "Connection Examples" of redis-py, under credential providers.

    Without a valid token, a login raises redis-py's AuthenticationError, with TokenUnavailable, GrantRejected or
    RuntimeError (a synchronous client on the manager's own loop) as its cause. After any other error, redis-py puts the
    connection back into its pool as if it had logged in.

    Args:
        tokens: A handle of a manager.

        username: The name of the user.
    """

    def __init__(self, tokens: _Handle, username: str = "default") -> None:
        self._tokens = tokens
        self._username = username

    def __repr__(self) -> str:
        return f"TokenProvider(username={self._username!r})"

    def get_credentials(self) -> tuple[str, str]:
        """Return the name of the user and a valid token. Synchronous clients call it."""
        with _as_login_error():
            return self._username, self._tokens.get_sync().access_token

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the name of the user and a valid token. Clients of `redis.asyncio` call it."""
        with _as_login_error():
            return self._username, (await self._tokens.get()).access_token

    async def connect(self, connection: Any) -> None:
        """Log in by a new *connection* of `redis.asyncio`; where the token is refused, once more with another one."""
        with _as_login_error():
            token = await self._tokens.get()
        try:
            await connection.on_connect()
        except AuthenticationError as error:
            failure = error
        else:
            return
        with _as_login_error():
            other = await self._tokens.refused(token)
        if other is None:
            raise failure
        # The failure has closed it, and it calls this again. A token that is refused in a row has no other.
        await connection.connect()

    def connect_sync(self, connection: Any) -> None:
        """Do what `connect` does for a synchronous client."""
        with _as_login_error():
            token = self._tokens.get_sync()
        try:
            connection.on_connect()
        except AuthenticationError as error:
            failure = error
        else:
            return
        with _as_login_error():
            other = self._tokens.refused_sync(token)
        if other is None:
            raise failure
        connection.connect()


async def keep_authenticated(client: Any, provider: TokenProvider) -> None:
    """
    Log the live connections of *client* in again with each new token, until the manager closes. Run it in a task.

    Idle connections of the pool are logged in at once, and those in use when they come back to the pool. So give a
    blocking command such as BLPOP a timeout that is shorter than the token's life. In a cluster of `redis.asyncio`, a
    connection that is in use waits for the next token. A token that the server refuses is reported, and the next one is
    pushed. All else is as with `TokenHandle.keep`.

    Args:
        client:
            A `Redis` or `RedisCluster` of redis-py, synchronous or of `redis.asyncio`; or the `PubSub` of a
            `redis.asyncio.Redis` that was made with protocol=3. The library does not read the server's answer to a
            login of a `PubSub`. If the server refuses the token, it cuts the connection when the old one expires.

        provider: The provider that it was made with.

    Raises:
        ValueError: It is a `PubSub` without protocol=3, or a synchronous one. These two cannot log in again.
        RuntimeError: The manager is not started.
    """
    handle, username = provider._tokens, provider._username  # noqa: SLF001 - the two are one
    _ = _logins(client)

    async def push(token: Token) -> None:
        said = SimpleToken(token.access_token, -1, -1, {_USER: username})
        ended = await asyncio.gather(*(_done(one, said) for one in _logins(client)), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one

    await handle.keep(push, refused=AuthenticationError)


def _logins(client: Any) -> list[Callable[[SimpleToken], Any]]:
    """Return the functions that log connections of *client* in again, one for each pool."""
    if isinstance(client, AsyncPubSub | PubSub):
        resp3 = str(client.connection_pool.connection_kwargs.get("protocol")) == "3"
        if not resp3 or isinstance(client, PubSub):
            msg = "a PubSub can log in again with RESP3 only: make its client by redis.asyncio with protocol=3"
            raise ValueError(msg)
        return [partial(_log_in_subscriber, client)]
    if isinstance(client, RedisCluster):
        nodes: list[Any] = client.get_nodes()  # type: ignore[no-untyped-call]
        clients = [node.redis_connection for node in nodes]
        return [one.connection_pool.re_auth_callback for one in clients if one is not None]
    if isinstance(client, AsyncRedisCluster):
        return [node.re_auth_callback for node in client.get_nodes()]
    return [client.connection_pool.re_auth_callback]


async def _done(login: Callable[[SimpleToken], Any], said: SimpleToken) -> None:
    if inspect.iscoroutinefunction(login):
        await login(said)
    else:
        await asyncio.to_thread(login, said)


async def _log_in_subscriber(pubsub: Any, said: SimpleToken) -> None:
    connection = pubsub.connection
    if connection is not None and connection.is_connected:
        # The task that listens would take an answer for a message, so the server is asked to send no answer.
        commands = [("CLIENT", "REPLY", "SKIP"), ("AUTH", said.try_get(_USER), said.get_value())]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)


@contextlib.contextmanager
def _as_login_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        msg = f"evertoken has no valid token to log in with: {error}"
        raise AuthenticationError(msg) from error
