"""The token of a call of gRPC: how it is sent, where it may go, how a refusal is reported. It does not import grpc."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from evertoken._engine.observers import say
from evertoken.clients._binding import Binding
from evertoken.clients._origin import origin_in_text
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["CallDetails", "GrpcFlow", "Shape"]

_FIELD: Final = "authorization"


class CallDetails(NamedTuple):
    """The details of a call as gRPC reads them, with and without asyncio."""

    method: Any
    timeout: float | None
    metadata: tuple[tuple[str, Any], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class GrpcFlow(Binding):
    """
    The token of a reader, as metadata of calls.

    Args:
        tokens: A handle of a manager.

        origins: The channels that may see the token.

        allow_insecure: Whether it is sent over channels without TLS.

        min_ttl: The fewest seconds that the token of a call is valid for.
    """

    def __init__(
        self,
        tokens: TokenReader,
        *,
        origins: Iterable[str] = (),
        allow_insecure: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        super().__init__(tokens, origins=origins, min_ttl=min_ttl)
        if allow_insecure and self._origins:
            msg = "origins cannot be kept with allow_insecure=True, because gRPC does not name the origin there"
            raise ValueError(msg)
        self.tokens: TokenReader = self._tokens
        self.allow_insecure: bool = allow_insecure
        # The loop itself keeps weak references to the reports that are under way.
        self._reports: set[asyncio.Task[None]] = set()

    def admit(self, url: str) -> None:
        """Raise `OriginRefused` unless the token may be sent to the service at *url*, which gRPC found secure."""
        if url not in self._admitted:
            # Without TLS, as to a server on this machine, gRPC writes no scheme.
            self._admit_origin(origin_in_text(f"https{url}" if url.startswith(":") else url))
            self._remember(url)

    def metadata(self, token: Token) -> tuple[tuple[str, str], ...]:
        """Return *token* as metadata."""
        return ((_FIELD, self._authorization_of(token)),)

    @staticmethod
    def others(metadata: Iterable[tuple[str, Any]] | None) -> tuple[tuple[str, Any], ...]:
        """Return the *metadata* of a call without an authorization of the caller's."""
        return tuple(one for one in metadata or () if one[0].lower() != _FIELD)

    def report_later(self, call: Any, token: Token, is_refused: Callable[[Any], bool]) -> None:
        """Report *token* in the background if *call* of asyncio ends with a code that *is_refused*."""
        loop = asyncio.get_running_loop()

        async def report() -> None:
            try:
                if is_refused(await call.code()):
                    await self.tokens.refused(token, wait=False)
            except Exception as error:  # noqa: BLE001 - the caller has the error of the call
                _failed(error)

        def begin(_: object) -> None:
            task = loop.create_task(report(), name="evertoken:grpc")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

        call.add_done_callback(begin)

    def report_sync(self, call: Any, token: Token, is_refused: Callable[[Any], bool]) -> None:
        """Do the same with a call that a thread made."""

        def report(done: Any) -> None:
            try:
                if is_refused(done.code()):
                    self.tokens.refused_sync(token, wait=False)
            except Exception as error:  # noqa: BLE001 - the caller has the error of the call
                _failed(error)

        call.add_done_callback(report)


FlowT = TypeVar("FlowT", bound=GrpcFlow)


class Shape(Uncopied, Generic[FlowT]):
    """
    An interceptor. It refers to a manager, so a copy of it is the same.

    Args:
        flow: The flow that it shares with the interceptors of other shapes of calls.
    """

    def __init__(self, flow: FlowT) -> None:
        self._flow = flow

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._flow!r})"


def _failed(error: Exception) -> None:
    say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)
