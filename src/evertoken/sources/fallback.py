"""Several sources, of which the first that works is used."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.callable_source import CallableSource
from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import Strays, bounded
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import failure_of
from evertoken._model.generic import OfToken, TokenT
from evertoken._model.identity import identity_of
from evertoken._model.protocols import FetchRequest

if TYPE_CHECKING:
    from evertoken._model.protocols import Answered, TokenSource
    from evertoken._model.token import Token

__all__ = ["Fallback"]


@final
class Fallback(OfToken[TokenT]):
    """
    The first of several sources that works. Which one that was is remembered, and tried first from then on.

    As long as none has worked, all are tried in order at each fetch, each for its share of the time that is left.
    Where all fail, the error lists what was tried and why each failed. It is a rejection only if every one was
    rejected; otherwise it is worth trying again.

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
        self._clock = SystemClock()
        self._strays = Strays()

    @property
    def identity(self) -> str | None:
        """Whose tokens its sources give; None where one of them does not say so."""
        found = [identity_of(source) for source in self._sources.values()]
        return None if None in found else json.dumps(["Fallback", *found])

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """Ask the one that worked last, then the others."""
        names = sorted(self._sources, key=lambda name: name != self._last)
        failures: list[str] = []
        rejected: list[GrantRejected] = []
        retry_after: float | None = None
        until = self._clock.monotonic() + request.timeout
        for left, name in zip(range(len(names), 0, -1), names, strict=True):
            share = max((until - self._clock.monotonic()) / left, 0.001)
            own = FetchRequest(request.key, request.current, share, guard=request.guard, origins=request.origins)
            try:
                # A source that hangs must not keep the others from their turn.
                answer = await bounded(
                    partial(self._sources[name].fetch, own),
                    own.timeout,
                    clock=self._clock,
                    strays=self._strays,
                    name=f"evertoken:fallback:{name}",
                )
            except Exception as error:  # noqa: BLE001 - judged, and told in the end
                failure = failure_of(error, own)
            else:
                self._last = name
                request.sent, request.origins, request.began_anew = own.sent, own.origins, own.began_anew
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
        Tell the server of the source that worked last, if it can be told.

        Raises:
            TransientRefreshError: It could not be told.
            GrantRejected: It does not know the client, or the token.
        """
        tell = getattr(self._sources.get(self._last or ""), "revoke", None)
        if tell is not None:
            await tell(token)

    def __repr__(self) -> str:
        return f"Fallback({', '.join(self._sources)})"
