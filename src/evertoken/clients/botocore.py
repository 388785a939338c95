"""A manager as a session of botocore, for boto3 and all that takes such a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

try:
    from botocore import credentials as botocore_credentials, session as botocore_session
except ImportError as _error:
    msg = "evertoken.clients.botocore needs botocore: pip install 'evertoken[aws]'"
    raise ImportError(msg) from _error

from evertoken.clients._botocore_flow import frozen_by, note_request, refusal_in
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenReader

__all__ = ["Credentials", "Session"]


@final
class Credentials(Uncopied, botocore_credentials.Credentials):  # type: ignore[misc]  # it ships no types
    """
    Credentials of botocore that keep no key: each signature reads the token of a `TokenManager`.

    `Session` has them already. Use them alone where a library takes credentials and no session.

    Args:
        tokens: A handle of a manager of `AwsCredentials`.
    """

    def __init__(self, tokens: TokenReader) -> None:
        # Not that of the base, which sets the properties below.
        self._tokens = tokens
        self._frozen_of = frozen_by(botocore_credentials.ReadOnlyCredentials)
        self.method: str = "evertoken"
        self.account_id: str | None = None

    @property
    def access_key(self) -> str:
        """The id of the key. See `get_frozen_credentials`, whose three parts belong together."""
        return str(self.get_frozen_credentials().access_key)

    @property
    def secret_key(self) -> str:
        """The key itself."""
        secret: str = self.get_frozen_credentials().secret_key
        return secret

    @property
    def token(self) -> str | None:
        """The session token of a temporary key."""
        token: str | None = self.get_frozen_credentials().token
        return token

    def get_frozen_credentials(self) -> Any:
        """
        Return the parts of the key that is valid now. botocore calls it for each signature.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            TypeError: The manager gives other tokens than `AwsCredentials`.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        return self._frozen_of(self._tokens.get_sync())


@final
class Session(Uncopied, botocore_session.Session):  # type: ignore[misc]  # it ships no types
    """
    A session of botocore whose clients sign with the token of a `TokenManager`, and heal a refused key once.

    `boto3.Session(botocore_session=Session(tokens.handle()), region_name="eu-west-1")`. A new token signs the next
    request. If AWS answers that the key has expired or is not known, the token is reported, and the call is made once
    more, beside the retries of botocore. A body that cannot be wound back is not sent again. The answer to a HEAD has
    no code, so `head_object` and the like are not healed. The session works in any number of threads, beside a manager
    that runs in another one; see `run_in_background`.

    Args:
        tokens: A handle of a manager of `AwsCredentials`.

        profile: The profile of the shared files from which region, endpoints and the like are read. No key is taken
            from there.
    """

    def __init__(self, tokens: TokenReader, *, profile: str | None = None) -> None:
        super().__init__(profile=profile)
        self._tokens = tokens
        provider = _Provider(Credentials(tokens))
        self.register_component("credential_provider", botocore_credentials.CredentialResolver([provider]))
        self.register("request-created", note_request)
        self.register("needs-retry", self._heal)

    def _heal(self, response: Any, request_dict: Any, **_: Any) -> int | None:
        """Return after how many seconds to send again: 0, or None if not."""
        refusal = refusal_in(response, request_dict)
        if refusal is None:
            return None
        again = refusal.rewound()
        reader: Any = self._tokens
        other = reader.refused_sync(refusal.key_id, wait=again)
        return 0 if again and other is not None else None


@final
class _Provider:
    """Gives a session its credentials."""

    METHOD = "evertoken"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials
