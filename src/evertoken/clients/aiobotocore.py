"""A manager as a session of aiobotocore, for its clients, aioboto3 and s3fs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

try:
    from aiobotocore import credentials as aio_credentials, session as aio_session
except ImportError as _error:
    msg = "evertoken.clients.aiobotocore needs aiobotocore: pip install 'evertoken[aiobotocore]'"
    raise ImportError(msg) from _error

from evertoken.clients._botocore_flow import frozen_by, note_request, refusal_in
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenReader

__all__ = ["Session"]


@final
class Session(Uncopied, aio_session.AioSession):  # type: ignore[misc]  # it ships no types
    """
    A session of aiobotocore whose clients sign with the token of a `TokenManager`, and heal a refused key once.

    `Session(tokens.handle()).create_client("s3")`, or `S3FileSystem(session=Session(tokens.handle()))`. It does what
    `evertoken.clients.botocore.Session` does, and waits for a token without blocking a loop.

    Args:
        tokens: A handle of a manager of `AwsCredentials`.

        profile: The profile of the shared files from which region, endpoints and the like are read. No key is taken
            from there.
    """

    def __init__(self, tokens: TokenReader, *, profile: str | None = None) -> None:
        super().__init__(profile=profile)
        self._tokens = tokens
        provider = _Provider(_Credentials(tokens))
        self.register_component("credential_provider", aio_credentials.AioCredentialResolver([provider]))
        self.register("request-created", note_request)
        self.register("needs-retry", self._heal)

    async def _heal(self, response: Any, request_dict: Any, **_: Any) -> int | None:
        """Return after how many seconds to send again: 0, or None if not."""
        refusal = refusal_in(response, request_dict)
        if refusal is None:
            return None
        again = refusal.rewound()
        reader: Any = self._tokens
        other = await reader.refused(refusal.key_id, wait=again)
        return 0 if again and other is not None else None


@final
class _Credentials(Uncopied, aio_credentials.AioCredentials):  # type: ignore[misc]  # it ships no types
    """Credentials that keep no key."""

    # For code that looks at them without signing. It is None for a key that needs a wait.
    access_key = secret_key = token = account_id = None
    method = "evertoken"

    def __init__(self, tokens: TokenReader) -> None:
        # Not that of the base, which wants keys.
        self._tokens = tokens
        self._frozen_of = frozen_by(aio_credentials.ReadOnlyCredentials)

    async def get_frozen_credentials(self) -> Any:
        return self._frozen_of(await self._tokens.get())


@final
class _Provider:
    """Gives a session its credentials."""

    METHOD = "evertoken"

    def __init__(self, credentials: _Credentials) -> None:
        self._credentials = credentials

    async def load(self) -> _Credentials:
        return self._credentials
