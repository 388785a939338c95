"""The identity that a machine has by itself, used if nothing is configured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.tasks import Strays, bounded
from evertoken._model.errors import GrantRejected, TokenError, TransientRefreshError
from evertoken._model.failures import Overdue
from evertoken._model.guarded import Guarded
from evertoken._model.protocols import FetchRequest
from evertoken.sources._token_request import Content

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from evertoken._model.protocols import Answered, TokenSource
    from evertoken.sources._token_request import Endpoint

__all__ = ["ABSENT", "FIRST_MINUTE", "Detected", "Patience"]

#: The code of a `GrantRejected` which says that the machine has no identity, or that another service answered.
ABSENT: Final = "no_identity"

#: Seconds for which a refusal may mean that a service is not ready yet.
FIRST_MINUTE: Final = 60.0


@final
class Patience:
    """
    Treats the refusals of a service as temporary while the service may not be ready.

    A refusal is transient for one minute, counted from the first one. After that it is a rejection.

    Args:
        only: A text that a refusal must contain to count as temporary. By default every refusal counts.

        always: Whether a successful answer starts a new minute. Otherwise every later refusal is a rejection.
    """

    def __init__(self, *, always: bool = False, only: str = "") -> None:
        self._always = always
        self._only = only
        self._since: float | None = None
        self._worked = False

    async def of(self, asked: Awaitable[Any]) -> Any:
        """
        Return the result of *asked*.

        Raises:
            TransientRefreshError: The service refused, and may not be ready.
            GrantRejected: The service refused, and its minute is over.
        """
        try:
            answer = await asked
        except GrantRejected as error:
            now = SystemClock.monotonic()
            self._since = now if self._since is None else self._since
            late = now - self._since >= FIRST_MINUTE
            if late or (self._worked and not self._always) or self._only not in str(error):
                raise
            failure = TransientRefreshError(f"{error} (the service may not be ready yet: it is asked again)")
        else:
            self.worked()
            return answer
        raise failure

    def worked(self) -> None:
        """Note that the service has answered successfully."""
        self._worked, self._since = True, None


@final
class Detected(Guarded):
    """
    The identity of the machine, if its metadata service is there. Otherwise the identity of another source.

    The first token decides which one is used. Afterwards this does not change, so a later failure is an error. Until
    then each fetch looks for the service for a short time.

    Args:
        own: The source that asks the metadata service.

        look: A request that the service answers at once, with its header fields.

        within: Seconds to wait for that answer.

        first: A function to use instead of *own* until there is a token. It raises `GrantRejected` with the code
            `ABSENT` if the machine has no identity.

        otherwise: The name and the source to use in that case, if any.

        looked: The other places that were checked and are not configured. The message lists them.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        own: TokenSource,
        *,
        look: tuple[Endpoint, Mapping[str, str]],
        within: float,
        first: Callable[[FetchRequest], Awaitable[Answered]] | None = None,
        otherwise: tuple[str, TokenSource] | None = None,
        looked: str,
    ) -> None:
        self._own = own
        self._look = look
        self._within = within
        self._first = own.fetch if first is None else first
        self._otherwise = otherwise
        self._looked = looked
        self._settled: TokenSource | None = None
        self._clock = SystemClock()
        self._strays = Strays()
        self.provider: str = look[0].origin

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """
        Ask the metadata service, or else the other source.

        Raises:
            TransientRefreshError: Both are missing, or the one that is there failed temporarily.
            GrantRejected: The one that is there refused.
        """
        if self._settled is not None:
            return await self._settled.fetch(request)
        said = f"{self.provider} did not answer within {self._within:g} s"
        if await self._is_there(request):
            try:
                answer = await self._first(request)
            except GrantRejected as error:
                if error.error != ABSENT:
                    raise
                said = str(error)
            else:
                return await self._settle(self._own, answer, request)
        said = f"no credentials are configured: {self._looked}; {type(self._own).__name__}: {said}"
        if self._otherwise is None:
            raise TransientRefreshError(said)
        name, other = self._otherwise
        try:
            answer = await other.fetch(request)
        except TokenError as error:
            failure = TransientRefreshError(f"{said}; {name}: {error}")
        else:
            return await self._settle(other, answer, request)
        raise failure

    async def _settle(self, source: TokenSource, answer: Answered, request: FetchRequest) -> Answered:
        # Another key may have been faster. All keys have the same identity.
        self._settled = self._settled or source
        return answer if self._settled is source else await self._settled.fetch(request)

    async def _is_there(self, request: FetchRequest) -> bool:
        answered: list[int] = []
        endpoint, headers = self._look
        own = FetchRequest(request.key, None, min(self._within, request.timeout))
        asking = partial(
            endpoint.send,
            own,
            Content("GET", None),
            headers,
            secrets=(),
            rejections=range(1000),
            seen=lambda status, *_: answered.append(status),
        )
        try:
            await bounded(asking, own.timeout, clock=self._clock, strays=self._strays, name="evertoken:detect")
        except (TokenError, Overdue):
            return bool(answered)
        return True

    def __repr__(self) -> str:
        return f"Detected({self._own!r}, otherwise={None if self._otherwise is None else self._otherwise[1]!r})"
