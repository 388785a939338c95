"""One key of a manager, chosen once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self, final

from evertoken._engine.attempts import attempt, attempt_sync, refusal_test
from evertoken._engine.live_push import push_each
from evertoken._model.generic import OfToken, TokenT
from evertoken._model.guarded import guarded
from evertoken._model.key_state import NO_KEY
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable
    from typing import TypeVar

    from evertoken._engine.attempts import Refused
    from evertoken._engine.subscription import Subscription
    from evertoken._manager import TokenManager
    from evertoken._model.grant import Grant
    from evertoken._model.key_state import KeyState
    from evertoken._model.key_status import KeyStatus
    from evertoken._model.snapshot import KeySnapshot
    from evertoken.clients.httpx import BearerAuth

    T = TypeVar("T")

__all__ = ["TokenHandle"]


@final
class TokenHandle(OfToken[TokenT]):
    """
    One key of a `TokenManager`, for code that should not have to know which. Made by `TokenManager.handle`.

    Its `get()` is the fastest there is: the key is looked up once, not at each call.
    """

    __slots__ = ("_manager", "_now", "_state", "key")

    def __init__(self, manager: TokenManager[TokenT], key: Hashable) -> None:
        self.key: Hashable = key
        self._manager = manager
        self._now = manager.clock.time
        self._state: KeyState = NO_KEY

    @property
    def identity(self) -> str | None:
        """Whose token it is, if the source of the key says so."""
        return self._manager._identity_of(self.key)  # noqa: SLF001 - the two are one

    async def get(self, *, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """Return a valid token, as `TokenManager.get` does."""
        # In a local, for CPython 3.11 looks a method up the slow way where it is an attribute of the instance.
        now = self._now
        state = self._state
        if min_ttl is None and now() < state.valid_until:
            return state.token  # type: ignore[return-value]  # valid, so it is there
        token = await self._manager.get(self.key, min_ttl, timeout)
        self._state = self._manager._state_of(self.key)  # noqa: SLF001 - the two are one
        return token

    def get_sync(self, *, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """Return a valid token, as `TokenManager.get_sync` does."""
        return self._manager.get_sync(self.key, min_ttl, timeout)

    async def access_token(self, *, min_ttl: float | None = None, timeout: float | None = None) -> str:
        """
        Return the bare access token, for libraries that take an async function: `api_key=handle.access_token`.

        Such a library tells nobody that a server refused the token; see `attempt`. All else is as with `get`.
        """
        return (await self.get(min_ttl=min_ttl, timeout=timeout)).access_token

    def access_token_sync(self, *, min_ttl: float | None = None, timeout: float | None = None) -> str:
        """Return the bare access token, for libraries that take a plain function. All else is as with `get_sync`."""
        return self._manager.get_sync(self.key, min_ttl, timeout).access_token

    def peek(self) -> TokenT | None:
        """Return the valid token or None, as `TokenManager.peek` does."""
        return self._manager.peek(self.key)

    def snapshot(self) -> KeySnapshot:
        """Return what is of this key, as `TokenManager.snapshot` does."""
        return self._manager.snapshot(self.key)

    async def status(self) -> KeyStatus:
        """Return how the login of this key stands, as `TokenManager.status` does."""
        return await self._manager.status(self.key)

    async def refresh(self) -> TokenT:
        """Fetch a new token now, as `TokenManager.refresh` does."""
        return await self._manager.refresh(self.key)

    @guarded
    async def invalidate(self, token: Token | str, /) -> bool:
        """Take *token* out of service if it is the one, as `TokenManager.invalidate` does."""
        return await self._manager.invalidate(token, self.key)

    @guarded
    async def refused(self, token: Token | str, /, *, wait: bool = True) -> TokenT | None:
        """Report that a resource server refused *token*, and return another, as `TokenManager.refused` does."""
        return await self._manager.refused(token, self.key, wait=wait)

    @guarded
    def refused_sync(self, token: Token | str, /, *, wait: bool = True) -> TokenT | None:
        """`refused` for callers without a loop."""
        return self._manager.refused_sync(token, self.key, wait=wait)

    @guarded
    async def put(self, token: Token | Grant, /) -> None:
        """Take over a login that was made elsewhere, as `TokenManager.put` does."""
        await self._manager.put(token, self.key)

    async def attempt(self, call: Callable[..., Awaitable[T]], *, refused: Refused) -> T:
        """
        Await *call*; if the server refuses the token, report that token and await *call* once more.

        It is for libraries that tell nobody of a 401, as in
        `await handle.attempt(lambda: client.models.list(), refused=openai.AuthenticationError)`.

        Args:
            call:
                An async function. If it has a positional parameter without a default, it is given the bare access
                token. Otherwise it is called without arguments, and gets the token by `access_token`. It must be safe
                to call twice.

            refused: Which exceptions mean that the token was refused: a type, a tuple of types, or a function that is
                given the exception.

        Raises:
            TypeError: *refused* is none of these.
            Exception: What *call* raised, where no other token is to be had or the second call failed as well.
            TokenUnavailable: There is no valid token, or another is needed and cannot be fetched now.
            GrantRejected: The same, and the grant is rejected.
        """
        return await attempt(self, call, refused)

    def attempt_sync(self, call: Callable[..., T], *, refused: Refused) -> T:
        """Do what `attempt` does with a plain function, for callers without a loop."""
        return attempt_sync(self, call, refused)

    async def keep(
        self,
        push: Callable[[TokenT], Awaitable[object]],
        *,
        known: Token | str | None = None,
        refused: Refused = (),
    ) -> None:
        """
        Push each new token into a live connection, until the manager closes. Run it in a task of its own.

        It begins with the valid token. What *push* raises is logged by its type, and *push* is tried again with the
        token that is in service by then, after the pauses of the manager's `RetryPolicy`. A new token does not wait
        for such a pause. To stop earlier, cancel the task.

        Args:
            push: An async function of the `Token`. It should have a timeout of its own: the next token waits for it.

            known: The token, or its value, that the connection has already. It is not pushed.

            refused: Which exceptions of *push* mean that the server refused the token, as with `attempt`. Such a token
                is reported, and another one fetched.

        Raises:
            TypeError: *refused* is no exception type, no tuple of those, and no function.
            RuntimeError: The manager is not started.
        """
        manager = self._manager
        await push_each(
            self.subscribe(),
            push,
            known=known.access_token if isinstance(known, Token) else known,
            is_refusal=refusal_test(refused),
            report=partial(self.refused, wait=False),
            rules=manager._life.rules,  # noqa: SLF001 - the two are one
            clock=manager.clock,
        )

    def subscribe(self) -> Subscription[TokenT]:
        """Iterate over tokens as they come, as `TokenManager.subscribe` does."""
        return self._manager.subscribe(self.key)

    def auth(
        self, *, origins: Iterable[str] = (), allow_http: bool = False, min_ttl: float | None = None
    ) -> BearerAuth:
        """Return an `httpx.Auth` that sends this token, as `TokenManager.auth` does."""
        return self._manager.auth(self.key, origins=origins, allow_http=allow_http, min_ttl=min_ttl)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        # It refers to a manager, and is no part of what is copied.
        return self

    def __repr__(self) -> str:
        return f"TokenHandle(key={self.key!r})"
