"""TokenHandle: one key of a manager."""

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
    One key of a `TokenManager`, for code that should not have to know the key. `TokenManager.handle` makes it.

    Its `get()` is the fastest way to a token, because the handle looks its key up only once.
    """

    __slots__ = ("_manager", "_now", "_state", "key")

    def __init__(self, manager: TokenManager[TokenT], key: Hashable) -> None:
        self.key: Hashable = key
        self._manager = manager
        self._now = manager.clock.time
        self._state: KeyState = NO_KEY

    @property
    def identity(self) -> str | None:
        """The identity that the source of the key states, or None. It says whose token this is."""
        return self._manager._identity_of(self.key)  # noqa: SLF001 - the two classes belong together

    async def get(self, *, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """Return a valid token, as `TokenManager.get` does."""
        # A local is faster: CPython 3.11 looks up a method that is an attribute of the instance in a slow way.
        now = self._now
        state = self._state
        if min_ttl is None and now() < state.valid_until:
            return state.token  # type: ignore[return-value]  # a valid key has a token
        token = await self._manager.get(self.key, min_ttl, timeout)
        self._state = self._manager._state_of(self.key)  # noqa: SLF001 - the two classes belong together
        return token

    def get_sync(self, *, min_ttl: float | None = None, timeout: float | None = None) -> TokenT:
        """Return a valid token, as `TokenManager.get_sync` does."""
        return self._manager.get_sync(self.key, min_ttl, timeout)

    async def access_token(self, *, min_ttl: float | None = None, timeout: float | None = None) -> str:
        """
        Return the bare access token, for libraries that take an async function, as in `api_key=handle.access_token`.

        Such a library does not report when a server refuses the token; see `attempt`. Otherwise it works as `get`.
        """
        return (await self.get(min_ttl=min_ttl, timeout=timeout)).access_token

    def access_token_sync(self, *, min_ttl: float | None = None, timeout: float | None = None) -> str:
        """Return the bare access token, for libraries that take a plain function. Otherwise it works as `get_sync`."""
        return self._manager.get_sync(self.key, min_ttl, timeout).access_token

    def peek(self) -> TokenT | None:
        """Return the valid token or None, as `TokenManager.peek` does."""
        return self._manager.peek(self.key)

    def snapshot(self) -> KeySnapshot:
        """Return the state of this key at this instant, as `TokenManager.snapshot` does."""
        return self._manager.snapshot(self.key)

    async def status(self) -> KeyStatus:
        """Return the state of this key's login, as `TokenManager.status` does."""
        return await self._manager.status(self.key)

    async def refresh(self) -> TokenT:
        """Fetch a new token now, as `TokenManager.refresh` does."""
        return await self._manager.refresh(self.key)

    @guarded
    async def invalidate(self, token: Token | str, /) -> bool:
        """Take *token* out of service if it is the current one, as `TokenManager.invalidate` does."""
        return await self._manager.invalidate(token, self.key)

    @guarded
    async def refused(self, token: Token | str, /, *, wait: bool = True) -> TokenT | None:
        """Report that a resource server refused *token*, and return another one, as `TokenManager.refused` does."""
        return await self._manager.refused(token, self.key, wait=wait)

    @guarded
    def refused_sync(self, token: Token | str, /, *, wait: bool = True) -> TokenT | None:
        """Do what `refused` does, in code without a loop."""
        return self._manager.refused_sync(token, self.key, wait=wait)

    @guarded
    async def put(self, token: Token | Grant, /) -> None:
        """Take over a login that was made elsewhere, as `TokenManager.put` does."""
        await self._manager.put(token, self.key)

    async def attempt(self, call: Callable[..., Awaitable[T]], *, refused: Refused) -> T:
        """
        Await *call*. If the server refuses the token, report that token and await *call* once more.

        Use it with libraries that report a 401 to nobody but their caller, as in
        `await handle.attempt(lambda: client.models.list(), refused=openai.AuthenticationError)`.

        Args:
            call:
                An async function. If it has a positional parameter without a default, it receives the bare access
                token. Otherwise it is called without arguments, and must get the token by `access_token`. It must be
                safe to call twice.

            refused: The exceptions that mean that the token was refused: a type, a tuple of types, or a function that
                receives the exception and returns a bool.

        Raises:
            TypeError: *refused* has none of these types.
            Exception: *call* raised it, and no other token was available or the second call failed too.
            TokenUnavailable: There is no valid token, or another one is needed and cannot be fetched now.
            GrantRejected: As above, because the authorization server rejects the grant.
        """
        return await attempt(self, call, refused)

    def attempt_sync(self, call: Callable[..., T], *, refused: Refused) -> T:
        """Do what `attempt` does with a plain function, in code without a loop."""
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

        It begins with the valid token. If *push* raises, the type of the exception is logged. Then *push* is called
        again with the token that is in service by that time, after the pauses of the manager's `RetryPolicy`. A new
        token is pushed at once, without such a pause. To stop earlier, cancel the task.

        Args:
            push: An async function of the `Token`. Give it a timeout of its own, because the next token waits for it.

            known: The token, or its value, that the connection already has. It is not pushed.

            refused: The exceptions of *push* that mean that the server refused the token, as with `attempt`. The token
                is then reported, and another one is fetched.

        Raises:
            TypeError: *refused* is not an exception type, a tuple of those, or a function.
            RuntimeError: The manager is not started.
        """
        manager = self._manager
        await push_each(
            self.subscribe(),
            push,
            known=known.access_token if isinstance(known, Token) else known,
            is_refusal=refusal_test(refused),
            report=partial(self.refused, wait=False),
            rules=manager._life.rules,  # noqa: SLF001 - the two classes belong together
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
        # A copy of an object that holds this handle uses the same manager, so the handle itself is not copied.
        return self

    def __repr__(self) -> str:
        return f"TokenHandle(key={self.key!r})"
