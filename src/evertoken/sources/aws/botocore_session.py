"""A session of boto3, botocore or aiobotocore, with any of their ways to find keys."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.function_threads import threads_of
from evertoken._model.error_response import failure_from
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken.sources.aws._credentials import AwsCredentials
from evertoken.sources.aws._sts import judged

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import FetchRequest

__all__ = ["BotocoreSession"]

# No temporary key of AWS lives longer, in seconds.
_LONGEST: Final = 7 * 86_400

_LOGIN: Final = ("SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError")
_SETTINGS: Final = (
    "ConfigNotFound", "ConfigParseError", "InfiniteLoopConfigError", "InvalidConfigError", "PartialCredentialsError",
    "ProfileNotFound", "RefreshWithMFAUnsupportedError", "UnknownCredentialError",
)  # fmt: skip


@final
class BotocoreSession(Guarded):
    """
    Keys that a session of boto3, botocore or aiobotocore finds in ways that `Profile` does not know, such as SSO.

    `BotocoreSession(lambda: boto3.Session(profile_name="sso"))`. A function is called at each fetch, in a thread, so
    that no cache of an earlier session answers. A session of botocore is asked to look for its keys once more. A
    `boto3.Session` has no public way to do that: it gives the key that it has until the last 15 minutes, also after AWS
    has refused it. A store needs a namespace, because a session does not name the owner of its keys.

    Args:
        session: A function that returns a session, or the session.

        provider: Keys of one provider share its limits, its pauses and its outages. By default, this source has limits
            of its own.

    Raises:
        TypeError: *session* is neither a session nor a function.
        ImportError: The extra `aws` is not installed.
    """

    credential = AwsCredentials
    rotates = False
    on_ambiguous = "retry"

    def __init__(self, session: Any, *, provider: str | None = None) -> None:
        try:
            from botocore import exceptions  # noqa: PLC0415 - for this source alone, and not for its neighbours
        except ImportError as error:
            msg = "BotocoreSession needs botocore: pip install 'evertoken[aws]'"
            raise ImportError(msg) from error
        is_session = hasattr(session, "get_credentials")
        if inspect.isclass(session) or not (is_session or callable(session)):
            msg = f"session must be a session or a function that returns one, not {type(session).__name__}"
            raise TypeError(msg)
        self._session: Any = session if is_session else None
        self._make: Callable[[], Any] | None = None if is_session else session
        self._exceptions: Any = exceptions
        self._threads = threads_of(self._called)
        self.provider = provider

    async def fetch(self, request: FetchRequest, /) -> AwsCredentials:
        """
        Let the session find its keys.

        Raises:
            TransientRefreshError: The service behind the session could not be reached, or asks to try later.
            GrantRejected: It finds no keys, or a person must log in or correct a setting.
        """
        started = SystemClock.time()
        try:
            credentials = await self._credentials(anew=request.current is not None)
            if credentials is not None:
                # Its parts have no names here, because a frame that raises shows its locals.
                return _keys(await self._run(credentials.get_frozen_credentials), credentials, started)
        except (self._exceptions.BotoCoreError, self._exceptions.ClientError) as error:
            failure = self._failure(error)
        else:
            failure = GrantRejected("login_required", "the session of botocore finds no keys")
        raise failure

    async def _credentials(self, *, anew: bool) -> Any:
        session = self._session if self._make is None else await self._run(self._make)
        known = await self._run(session.get_credentials)
        if not anew or self._make is not None or not hasattr(known, "refresh_needed"):
            return known
        if not hasattr(session, "get_component"):
            return known
        found = await self._run(session.get_component("credential_provider").load_credentials)
        # Credentials that the program has set itself were found nowhere, and stay.
        return found if found is not None and found.method == known.method else known

    async def _run(self, function: Callable[[], Any]) -> Any:
        done = await self._threads.call((function,))
        # Sessions of aiobotocore have coroutines.
        return await done if inspect.isawaitable(done) else done

    def _called(self, function: Callable[[], Any]) -> Any:
        return function()

    def _failure(self, error: Exception) -> GrantRejected | TransientRefreshError:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            said = response.get("Error", {})
            code, words = str(said.get("Code", "")), str(said.get("Message", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            fields = {"error": judged(code, words), "error_description": words}
            return failure_from(fields, status=429 if code.startswith("Throttling") else status, origin="botocore")
        if self._is(error, _LOGIN):
            return GrantRejected("login_required", str(error))
        if self._is(error, _SETTINGS):
            return GrantRejected("invalid_request", str(error))
        return TransientRefreshError(f"botocore: {type(error).__name__}: {error}")

    def _is(self, error: Exception, names: tuple[str, ...]) -> bool:
        return isinstance(error, tuple(getattr(self._exceptions, name) for name in names))

    def __repr__(self) -> str:
        return "BotocoreSession()"


def _keys(frozen: Any, credentials: Any, started: float) -> AwsCredentials:
    seconds = _seconds_left(getattr(credentials, "refresh_needed", None))
    return AwsCredentials.of(
        frozen.access_key,
        frozen.secret_key,
        frozen.token,
        issued_at=started,
        expires_at=None if seconds is None else SystemClock.time() + seconds,
    )


def _seconds_left(refresh_needed: Callable[..., bool] | None) -> int | None:
    """Return how long a key lives, which botocore tells by halves: it answers whether so many seconds are left."""
    if refresh_needed is None or not refresh_needed(refresh_in=_LONGEST):
        return None
    least, most = 0, _LONGEST
    while most - least > 1:
        middle = (least + most) // 2
        if refresh_needed(refresh_in=middle):
            most = middle
        else:
            least = middle
    return least
