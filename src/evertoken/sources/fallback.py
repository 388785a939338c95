"""Several sources, of which the first that works is used."""

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
    The first of several sources that works. Which one that was is remembered, and tried first from then on.

    As long as none has worked, all are tried in order at each fetch, each for its share of the time that is left.
    Where all fail, the error lists what was tried and why each failed. It is a rejection only if every one was
    rejected; otherwise it is worth trying again.

    Each source sees only tokens that it gave itself, and a token is revoked at its own source alone. Which source gave
    a token is remembered in this process.

    Args:
        sources: Sources by name, or in a row. None of them may have refresh tokens that rotate, for a refresh token
            belongs to the one it came from.

    Raises:
        ValueError: There are fewer than two, or one rotates or is exclusive.
    """

    rotates = False
    on_ambiguous = "retry"
    credential: type[TokenT]

    def __init__(self, *sources: Any, **named: Any) -> None:
        given = {**{str(number): source for number, source in enumerate(sources, 1)}, **named}
        if len(given) < 2:  # noqa: PLR2004 - one has nothing to fall back to
            msg = "a fallback needs at least two sources"
            raise ValueError(msg)
        self._sources: dict[str, TokenSource] = {}
        for name, source in given.items():
            usable = source if hasattr(source, "fetch") else CallableSource(source)
            if getattr(usable, "rotates", False) is not False or getattr(usable, "exclusive", False):
                msg = f"source {name!r} may rotate its refresh token, which no other could present: rotates=False?"
                raise ValueError(msg)
            self._sources[name] = usable
        self._last: str | None = None
        # Which source gave the token of a key, and what that token is known by.
        self._given: dict[Hashable, tuple[str, str]] = {}
        self._clock = SystemClock()
        self._strays = Strays()

    @property
    def identity(self) -> str | None:
        """Whose tokens its sources give; None where one of them does not say so."""
        return identity_from("Fallback", *(identity_of(source) for source in self._sources.values()))

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """Ask the one that worked last, then the others."""
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
                # A source that hangs must not keep the others from their turn.
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
        Tell the server of the source that gave *token*, if it can be told.

        Raises:
            TransientRefreshError: It could not be told, or it is not known which source gave the token.
            GrantRejected: It does not know the client, or the token.
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
        # An answer that cannot be read is the manager's to judge.
        with contextlib.suppress(TokenError):
            self._given[key] = name, _digest(read_response(answer, requested_at=self._clock.time()).token)

    def __repr__(self) -> str:
        return f"Fallback({', '.join(self._sources)})"


def _digest(token: Token) -> str:
    # A fingerprint is for people: among many tokens two have the same.
    return digest_of(token.access_token or token.refresh_token or "")


async def _ask(source: TokenSource, request: FetchRequest, inside: Any) -> Answered:
    # It runs in a task of its own. What it asks a manager for is not queued behind the fetch that it is part of.
    INSIDE.set(inside)
    return await source.fetch(request)
