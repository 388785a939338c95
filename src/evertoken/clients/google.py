"""A manager as the credentials of google-auth, for the clients of Google Cloud and their async sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

try:
    from google.auth import credentials as sync_credentials
    from google.auth.aio import credentials as async_credentials
except ImportError as _error:
    msg = "evertoken.clients.google needs google-auth: pip install 'evertoken[google]'"
    raise ImportError(msg) from _error

from evertoken.clients._google_flow import GoogleFlow, check_unset, put_other
from evertoken.clients._hidden_field import HiddenField

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from evertoken.clients._google_flow import Reader

__all__ = ["AsyncCredentials", "Credentials"]


@final
class Credentials(GoogleFlow, sync_credentials.Credentials):
    """
    The credentials of a client of Google Cloud, with the token of a `TokenManager`.

    Made from a handle: `storage.Client(project="p", credentials=Credentials(tokens.handle()))`. They keep no token, so
    a new one is sent with the next request. On a 401, google-auth calls `refresh`, which reports the token. They work
    in any number of threads, beside a manager that runs in another one; see `run_in_background`. If the token names a
    `quota_project_id`, it is sent in `x-goog-user-project`.

    The client decides where the token goes. Its clients of Google APIs send it to the hosts of Google, or to the
    endpoint that you configure; an `AuthorizedSession` sends it to each URL that it is called with.

    Args:
        tokens: A handle of a manager.

        universe_domain: The domain of the APIs, if it is not that of Google's public cloud. A client compares it with
            its own.
    """

    def __init__(self, tokens: Reader, *, universe_domain: str = "googleapis.com") -> None:
        super().__init__(tokens)
        self._universe = universe_domain

    @property
    def universe_domain(self) -> str:
        """The domain of the APIs."""
        return self._universe

    @property
    def token(self) -> str:
        """
        The access token, valid now.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        return HiddenField(self._noted(self._tokens.get_sync()).access_token)

    @token.setter
    def token(self, value: str | None) -> None:
        check_unset(value)

    @property
    def valid(self) -> bool:
        """Whether there is a valid token now. Nothing is fetched for the answer."""
        return self._tokens.peek() is not None

    @property
    def token_state(self) -> sync_credentials.TokenState:
        """Fresh, or invalid if there is no valid token now."""
        state = sync_credentials.TokenState
        return state.FRESH if self.valid else state.INVALID

    def refresh(self, request: Any) -> None:  # noqa: ARG002 - the manager fetches
        """
        Wait for a token if there is no token yet. Otherwise report the last given one as refused, and wait for another.

        If the manager already has another token, or does not fetch one because of a cool-down, this does nothing. The
        caller then gets the refusal.

        Args:
            request: It is not used.

        Raises:
            TokenUnavailable: Another one cannot be fetched now.
            GrantRejected: The grant is rejected.
            RuntimeError: This is the manager's own loop, which it would block.
        """
        given = self._refused()
        if given is None:
            self._tokens.get_sync()
        else:
            self._tokens.refused_sync(given)

    def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """
        Put the token into *headers*.

        Args:
            headers: The header fields of a request.

            token: Another token to put there.
        """
        if token is None:
            self._put(headers, self._noted(self._tokens.get_sync()))
        else:
            put_other(headers, token)

    def before_request(self, request: Any, method: str, url: str, headers: MutableMapping[str, str]) -> None:  # noqa: ARG002
        """Put the token into *headers*. The manager has refreshed it in time. The exceptions are those of `token`."""
        self.apply(headers)


@final
class AsyncCredentials(GoogleFlow, async_credentials.Credentials):
    """
    The credentials of an `AsyncAuthorizedSession` (`google.auth.aio`), with the token of a `TokenManager`.

    It does what `Credentials` does, and waits for a token without blocking a loop.

    Args:
        tokens: A handle of a manager.
    """

    @property
    def token(self) -> Any:
        """The last token that was given, or None. Nothing is fetched for it."""
        return None if self._last is None else HiddenField(self._last.access_token)

    @token.setter
    def token(self, value: str | None) -> None:
        check_unset(value)

    async def refresh(self, request: Any) -> None:  # noqa: ARG002 - the manager fetches
        """
        Wait for a token if there is no token yet. Otherwise report the last given one as refused, and wait for another.

        If the manager already has another token, or does not fetch one because of a cool-down, this does nothing. The
        caller then gets the refusal.

        Args:
            request: It is not used.

        Raises:
            TokenUnavailable: Another one cannot be fetched now.
            GrantRejected: The grant is rejected.
        """
        given = self._refused()
        if given is None:
            await self._tokens.get()
        else:
            await self._tokens.refused(given)

    async def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """
        Put the token into *headers*.

        Args:
            headers: The header fields of a request.

            token: Another token to put there.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
        """
        if token is None:
            self._put(headers, self._noted(await self._tokens.get()))
        else:
            put_other(headers, token)

    async def before_request(self, request: Any, method: str, url: str, headers: MutableMapping[str, str]) -> None:  # noqa: ARG002
        """Put the token into *headers*. The manager has refreshed it in time. The exceptions are those of `apply`."""
        await self.apply(headers)
