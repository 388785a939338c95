"""Use the first of several sources that works."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.callable_source import CallableSource
from evertoken._engine.clock import SystemClock
from evertoken._engine.flight import INSIDE
from evertoken._engine.tasks import Strays, bounded, must_propagate
from evertoken._model.errors import GrantRejected, TokenError, TransientRefreshError
from evertoken._model.failures import failure_of
from evertoken._model.generic import OfToken, TokenT
from evertoken._model.guarded import Guarded
from evertoken._model.identity import digest_of, identity_from, identity_of
from evertoken._model.token_response import read_response

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.protocols import Answered, FetchRequest, TokenSource
    from evertoken._model.token import Token

__all__ = ["Fallback"]


@final
class Fallback(Guarded, OfToken[TokenT]):
    """
    The first of several sources that works. It is remembered, and tried first from then on.

    As long as none has worked, each fetch tries all in order, each for a share of the remaining time. If all fail, the
    error lists the sources with the reasons. It is a rejection only if every source was rejected. Otherwise it is worth
    trying again.

    Each source receives only tokens that it gave itself, and a token is revoked only at its own source. This process
    remembers the source of each token.

    Args:
        sources: Sources by name, or in order. Their refresh tokens must not rotate, because a refresh token belongs to
            the source that gave it.

    Raises:
        ValueError: There are fewer than two sources, or one of them rotates or is exclusive.
    """

    rotates = False
    on_ambiguous = "retry"
    credential: type[TokenT]

    def __init__(self, *sources: Any, **named: Any) -> None:
        given = {**{str(number): source for number, source in enumerate(sources, 1)}, **named}
        if len(given) < 2:  # noqa: PLR2004 - a single source has no fallback
            msg = "a fallback needs at least two sources"
            raise ValueError(msg)
        self._sources: dict[str, TokenSource] = {}
        for name, source in given.items():
            usable = source if hasattr(source, "fetch") else CallableSource(source)
            if getattr(usable, "rotates", False) is not False or getattr(usable, "exclusive", False):
                msg = f"source {name!r} may rotate its refresh token, which others cannot present; rotates=False if not"
                raise ValueError(msg)
            self._sources[name] = usable
        self._last: str | None = None
        # The source that gave the token of a key, and the digest of that token.
        self._given: dict[Hashable, tuple[str, str]] = {}
        self._clock = SystemClock()
        self._strays = Strays()

    @property
    def identity(self) -> str | None:
        """The identities of its sources. It is None if one of them does not state its identity."""
        return identity_from("Fallback", *(identity_of(source) for source in self._sources.values()))

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """Ask the source that worked last, and then the others."""
        names = sorted(self._sources, key=lambda name: name != self._last)
        failures: list[str] = []
        rejected: list[GrantRejected] = []
        retry_after: float | None = None
        until = self._clock.monotonic() + request.timeout
        for left, name in zip(range(len(names), 0, -1), names, strict=True):
            share = max((until - self._clock.monotonic()) / left, 0.001)
            current = request.current if self._gave(name, request) else None
            own = dataclasses.replace(request, current=current, timeout=share)
            try:
                # A source that hangs must leave time for the others.
                answer = await bounded(
                    partial(_ask, self._sources[name], own, INSIDE.get()),
                    own.timeout,
                    clock=self._clock,
                    strays=self._strays,
                    name=f"evertoken:fallback:{name}",
                )
            except BaseException as error:
                if must_propagate(error):
                    raise
                failure = failure_of(error, own)
            else:
                self._last = name
                request.sent, request.origins = own.sent, own.origins
                # Nothing of another source's token belongs to this one.
                request.began_anew = own.began_anew or (request.current is not None and current is None)
                self._remember(request.key, name, answer)
                return answer
            failures.append(f"{name} ({type(self._sources[name]).__name__}): {failure}")
            if isinstance(failure, GrantRejected):
                rejected.append(failure)
            else:
                retry_after = failure.retry_after if retry_after is None else retry_after
        said = "; ".join(failures)
        if len(rejected) == len(names):
            raise GrantRejected(rejected[0].error, f"none of {len(names)} sources worked: {said}")
        msg = f"none of {len(names)} sources worked: {said}"
        raise TransientRefreshError(msg, retry_after=retry_after)

    async def revoke(self, token: Token, /) -> None:
        """
        Tell the server of the source that gave *token*, if that source can.

        Raises:
            TransientRefreshError: The server could not be told, or the source of the token is unknown.
            GrantRejected: The server does not know the client or the token.
        """
        told = _digest(token)
        name = next((name for name, value in self._given.values() if value == told), None)
        if name is None and any(hasattr(source, "revoke") for source in self._sources.values()):
            msg = f"no server was told: it is not known which of {', '.join(self._sources)} gave this token"
            raise TransientRefreshError(msg)
        tell = getattr(self._sources.get(name or ""), "revoke", None)
        if tell is not None:
            await tell(token)

    def _gave(self, name: str, request: FetchRequest) -> bool:
        return request.current is not None and self._given.get(request.key) == (name, _digest(request.current))

    def _remember(self, key: Hashable, name: str, answer: Answered) -> None:
        # The manager judges answers that cannot be read.
        with contextlib.suppress(TokenError):
            self._given[key] = name, _digest(read_response(answer, requested_at=self._clock.time()).token)

    def __repr__(self) -> str:
        return f"Fallback({', '.join(self._sources)})"


def _digest(token: Token) -> str:
    # A fingerprint is too short here: among many tokens two may have the same one.
    return digest_of(token.access_token or token.refresh_token or "")


async def _ask(source: TokenSource, request: FetchRequest, inside: Any) -> Answered:
    # It runs in its own task. Its requests to a manager must not be queued behind the fetch to which it belongs.
    INSIDE.set(inside)
    return await source.fetch(request)
