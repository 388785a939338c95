"""A credential of azure-core, such as those of azure-identity, as a source. It imports no library of Azure."""

from __future__ import annotations

import inspect
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.function_threads import threads_of
from evertoken._signing.secret import CarriesSecrets
from evertoken.sources.azure._credential_errors import failure_of, reached

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import FetchRequest

__all__ = ["AzureCredential"]

# The token in the cache of the credential is not wanted any more.
_PAST_THE_CACHE: Final = frozenset({"forced", "refused"})


@final
class AzureCredential(CarriesSecrets):
    """
    The tokens of a credential of azure-identity, or of any other object with the `get_token` of azure-core.

    Credentials keep a token until a few minutes before its end. A refresh that is forced, and one that follows a
    refusal, go past that cache by a demand for claims (a token that is not older than now). A credential that takes
    no claims, or a metadata service with a cache of its own, gives the same token again: then the event
    `TokenRefreshed` says so (`repeated`), and the 401 goes to the caller.

    Args:
        credential: A credential with coroutines, as those of `azure.identity.aio`, or a plain one, which is called in
            a thread. The program closes it, after the manager.

        scopes: The scopes of the token, such as "https://vault.azure.net/.default".

    Raises:
        TypeError: *credential* has neither `get_token_info` nor `get_token`.
        ValueError: No scope is given, or one is empty.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, credential: Any, /, *scopes: str) -> None:
        if not callable(getattr(credential, "get_token_info", getattr(credential, "get_token", None))):
            msg = (
                f"credential must have get_token, as those of azure-core have, and {type(credential).__name__} has not"
            )
            raise TypeError(msg)
        if not scopes or not all(isinstance(scope, str) and scope for scope in scopes):
            msg = f"scopes must be given as in 'https://vault.azure.net/.default', not {scopes!r}"
            raise ValueError(msg)
        self._credential = credential
        self._scopes = scopes

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:
        """
        Ask the credential.

        Raises:
            TransientRefreshError: The network or the service failed, or the credential is not available here.
            GrantRejected: Microsoft Entra ID rejects the application or the login, or a person must log in.
        """
        if request.reason in _PAST_THE_CACHE:
            found = await self._newer()
            if found is not None:
                return _fields(found)
        failure: Exception
        try:
            return _fields(await self._ask())
        except Exception as error:  # noqa: BLE001 - judged and raised below
            failure = failure_of(error)
        raise failure

    async def _newer(self) -> Any:
        """Return a token from beyond the cache, or None if the credential takes no claims."""
        failure: Exception
        try:
            return await self._ask(_newer_than_now())
        except Exception as error:  # noqa: BLE001 - judged and raised below
            if not reached(error):
                return None
            failure = failure_of(error)
        raise failure

    async def _ask(self, claims: str | None = None) -> Any:
        demand = {} if claims is None else {"claims": claims}
        if hasattr(self._credential, "get_token_info"):
            call = partial(self._credential.get_token_info, *self._scopes, options=demand)
            function = self._credential.get_token_info
        else:
            call = partial(self._credential.get_token, *self._scopes, **demand)
            function = self._credential.get_token
        if inspect.iscoroutinefunction(function):
            return await call()
        # A plain function may still return a coroutine, if something wraps it.
        found = await threads_of(self._in_thread).call((call,))
        return await found if inspect.isawaitable(found) else found

    def _in_thread(self, call: Callable[[], Any]) -> Any:
        return call()

    def __repr__(self) -> str:
        return f"AzureCredential({type(self._credential).__name__}, {', '.join(self._scopes)})"


def _newer_than_now() -> str:
    """Return the claims of a token that is not issued before now (OpenID Connect Core 5.5, RFC 7519 section 4.1.5)."""
    instant = {"essential": True, "value": str(int(SystemClock.time()))}
    return json.dumps({"access_token": {"nbf": instant}})


def _fields(found: Any) -> dict[str, Any]:
    fields = {
        "access_token": found.token,
        "expires_on": found.expires_on,
        "token_type": getattr(found, "token_type", "Bearer"),
        "refresh_on": getattr(found, "refresh_on", None),
    }
    return {name: value for name, value in fields.items() if value is not None}
