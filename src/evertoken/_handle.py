"""One key of a manager, chosen once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

from evertoken._model.generic import OfToken, TokenT
from evertoken._model.guarded import guarded
from evertoken._model.key_state import NO_KEY

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from evertoken._engine.subscription import Subscription
    from evertoken._manager import TokenManager
    from evertoken._model.key_state import KeyState
    from evertoken._model.key_status import KeyStatus
    from evertoken._model.snapshot import KeySnapshot
    from evertoken._model.token import Token
    from evertoken.clients.httpx import BearerAuth

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

    async def get(self) -> TokenT:
        """Return a valid token, as `TokenManager.get` does."""
        # In a local, for CPython 3.11 looks a method up the slow way where it is an attribute of the instance.
        now = self._now
        state = self._state
        if now() < state.valid_until:
            return state.token  # type: ignore[return-value]  # valid, so it is there
        token = await self._manager.get(self.key)
        self._state = self._manager._state_of(self.key)  # noqa: SLF001 - the two are one
        return token

    def get_sync(self) -> TokenT:
        """Return a valid token, as `TokenManager.get_sync` does."""
        return self._manager.get_sync(self.key)

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
    async def refused(self, token: Token, /, *, wait: bool = True) -> TokenT | None:
        """Report that a resource server refused *token*, and return another, as `TokenManager.refused` does."""
        return await self._manager.refused(token, self.key, wait=wait)

    @guarded
    def refused_sync(self, token: Token, /, *, wait: bool = True) -> TokenT | None:
        """`refused` for callers without a loop."""
        return self._manager.refused_sync(token, self.key, wait=wait)

    def subscribe(self) -> Subscription[TokenT]:
        """Iterate over tokens as they come, as `TokenManager.subscribe` does."""
        return self._manager.subscribe(self.key)

    def auth(self, *, origins: Iterable[str] = (), allow_http: bool = False) -> BearerAuth:
        """Return an `httpx.Auth` that sends this token, as `TokenManager.auth` does."""
        return self._manager.auth(self.key, origins=origins, allow_http=allow_http)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        # It refers to a manager, and is no part of what is copied.
        return self

    def __repr__(self) -> str:
        return f"TokenHandle(key={self.key!r})"
