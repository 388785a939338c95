"""AWS credentials: a key pair with a session token and an expiry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import TransientRefreshError
from evertoken._model.token import Token
from evertoken._model.token_response import Answer, read_response

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AwsCredentials", "credentials_of"]

SCHEME: Final = "AWS4-HMAC-SHA256"

_CODE: Final = re.compile(r"[A-Z][A-Za-z.]{1,60}", re.ASCII)


@final
class AwsCredentials(Token, token_type=SCHEME):
    """
    What AWS hands out in place of a bearer token: a key pair, and a session token where it is a temporary one.

    It is served by a manager as any token is, `TokenManager[AwsCredentials]`, and signs requests through
    `evertoken.clients.httpx.SigV4Auth`. It cannot be sent, so `authorization` raises.
    """

    __slots__ = ()

    @classmethod
    def of(
        cls,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        *,
        issued_at: float | None = None,
        expires_at: float | None = None,
    ) -> AwsCredentials:
        """
        Return credentials.

        Args:
            access_key_id: Which key it is.

            secret_access_key: The key itself.

            session_token: What goes with a temporary key.

            issued_at: The instant (epoch seconds) from which its life is counted; now unless given.

            expires_at: The instant (epoch seconds) at which it dies; None for a key that does not.

        Raises:
            ValueError: A part is empty.
        """
        if not isinstance(secret_access_key, str) or not secret_access_key:
            msg = "secret_access_key must be a non-empty string"
            raise ValueError(msg)
        return cls(
            access_key_id,
            token_type=SCHEME,
            issued_at=SystemClock.time() if issued_at is None else issued_at,
            expires_at=expires_at,
            extra={"secret_access_key": secret_access_key, "session_token": session_token},
        )

    @property
    def access_key_id(self) -> str:
        """Which key it is. It is no secret, and stands in the logs of AWS."""
        return self.access_token

    @property
    def secret_access_key(self) -> str:
        """The key itself, which signs and is never sent."""
        return str(self.extra["secret_access_key"])

    @property
    def session_token(self) -> str | None:
        """What is sent along with a signature of a temporary key."""
        found: str | None = self.extra.get("session_token")
        return found

    @property
    def authorization(self) -> NoReturn:
        """Raise: these credentials sign requests, and are not sent."""
        msg = "AWS credentials sign requests, and are not sent: use SigV4Auth(tokens.handle(), service=..., region=...)"
        raise TypeError(msg)


def credentials_of(fields: Mapping[str, Any], *, started: float, date: float | None = None) -> AwsCredentials:
    """
    Return the credentials that *fields* spell as AWS does everywhere but in files: `AccessKeyId` and so on.

    Args:
        fields: The answer.

        started: The instant (epoch seconds) at which the request for it started.

        date: The server's own time when it answered, to correct the expiry by.

    Raises:
        TransientRefreshError: They are not there, or have expired.
    """
    parts = [fields.get("AccessKeyId"), fields.get("SecretAccessKey")]
    session = fields.get("Token", fields.get("SessionToken"))
    if not all(isinstance(part, str) and part for part in parts) or not isinstance(session, str | None):
        code = fields.get("Code")
        # Nothing but a code is repeated: who knows what else the answer says.
        said = f", and says {code!r}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
        msg = f"the answer holds no credentials{said}"
        raise TransientRefreshError(msg)
    answer = Answer({"access_token": parts[0], "expires_at": fields.get("Expiration")}, date=date)
    now = SystemClock.time()
    plain, failure = read_response(answer, requested_at=started, received_at=now)
    if failure is not None:
        raise failure
    return AwsCredentials.of(
        str(parts[0]), str(parts[1]), session or None, issued_at=started, expires_at=plain.expires_at
    )
