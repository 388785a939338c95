"""AWS credentials: a key pair with a session token and an expiry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, final

from evertoken._engine.clock import SystemClock
from evertoken._model.answer import Answer
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.guarded import guarded
from evertoken._model.parsing import instant
from evertoken._model.token import Token
from evertoken._model.token_response import read_response
from evertoken._signing.secret import resolve

if TYPE_CHECKING:
    from evertoken._signing.secret import Secret
    from evertoken.sources.aws._variables import Variables

__all__ = ["AwsCredentials", "credentials_of", "environment_keys", "key_pair", "read_token"]

SCHEME: Final = "AWS4-HMAC-SHA256"

_KEY_ID: Final = re.compile(r"[!-~]+")
_CODE: Final = re.compile(r"[A-Z][A-Za-z.]{1,60}", re.ASCII)


@final
class AwsCredentials(Token, token_type=SCHEME):
    """
    The credentials of AWS, used instead of a bearer token: a key pair, and a session token if the keys are temporary.

    A manager serves them like any token, as `TokenManager[AwsCredentials]`. They sign requests through
    `evertoken.clients.httpx.SigV4Auth`. They cannot be sent, so `authorization` raises.
    """

    __slots__ = ()

    @classmethod
    @guarded
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
            access_key_id: The identifier of the key.

            secret_access_key: The secret key.

            session_token: The session token of a temporary key.

            issued_at: The instant (epoch seconds) from which the lifetime counts. The default is now.

            expires_at: The instant (epoch seconds) at which the key expires. It is None for a permanent key.

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
        """The identifier of the key. It is not a secret, and appears in the logs of AWS."""
        return self.access_token

    @property
    def secret_access_key(self) -> str:
        """The secret key. It signs and is never sent."""
        return str(self.extra["secret_access_key"])

    @property
    def session_token(self) -> str | None:
        """The session token, which is sent along with a signature of a temporary key."""
        found: str | None = self.extra.get("session_token")
        return found

    @property
    def authorization(self) -> NoReturn:
        """Raise an error, because these credentials sign requests and are not sent."""
        msg = "AWS credentials sign requests, and are not sent: use SigV4Auth(tokens.handle(), service=..., region=...)"
        raise TypeError(msg)


def credentials_of(answer: Answer, *, started: float, outage: float = 0.0) -> AwsCredentials:
    """
    Return the credentials in *answer*, by the names that AWS uses everywhere but in files: `AccessKeyId` and so on.

    Args:
        answer: The answer.

        started: The instant (epoch seconds) at which the request for it started.

        outage: Seconds for which credentials are still used after the expiry in the answer. The default is zero.

    Raises:
        TransientRefreshError: The credentials are missing or expired, or their expiry cannot be read.
    """
    # The fields are not named here, because the frame of an exception shows its locals.
    found = _read(answer, started, outage)
    if isinstance(found, str):
        raise TransientRefreshError(found)
    return found


def _read(answer: Answer, started: float, outage: float) -> AwsCredentials | str:
    fields = answer.fields
    parts = [fields.get("AccessKeyId"), fields.get("SecretAccessKey")]
    session = fields.get("Token", fields.get("SessionToken"))
    if not all(isinstance(part, str) and part for part in parts) or not isinstance(session, str | None):
        code = fields.get("Code")
        # Only a code is repeated, because the answer may contain anything.
        said = f", and says {code!r}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
        return f"the answer holds no credentials{said}"
    now = SystemClock.time()
    expiration, at = fields.get("Expiration"), instant(fields.get("Expiration"))
    if expiration and at is None:
        return "the answer holds credentials whose Expiration is not an instant"
    if outage and at is not None and at <= (now if answer.date is None else answer.date):
        expiration = now + outage
    spelled = Answer({"access_token": parts[0], "expires_at": expiration}, date=answer.date)
    try:
        plain, failure = read_response(spelled, requested_at=started, received_at=now)
    except TransientRefreshError as error:
        return str(error)
    if failure is not None:
        return str(failure)
    return AwsCredentials.of(
        str(parts[0]), str(parts[1]), session or None, issued_at=started, expires_at=plain.expires_at
    )


async def read_token(secret: Secret, parameter: str) -> str:
    """
    Return the token to send in a request.

    Raises:
        TransientRefreshError: Its file cannot be read, or is empty.
        TypeError: The function returned something else than text.
    """
    try:
        return await resolve(secret, parameter)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
    except TypeError:
        # A file is empty for a moment while it is rewritten. A wrong result of a function stays an error.
        if not isinstance(secret, Path):
            raise
        said = "it is empty"
    msg = f"the file of the {parameter} cannot be read: {str(secret)!r}: {said}"
    raise TransientRefreshError(msg)


def environment_keys(environ: Variables, /) -> AwsCredentials | None:
    """
    Return the keys that *environ* has under the names of AWS tools, or None. A blank variable counts as not set.

    Raises:
        GrantRejected: One half of a pair is missing, or `AWS_CREDENTIAL_EXPIRATION` cannot be read.
        TransientRefreshError: The keys have expired.
    """
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
    keys = key_pair(environ, names, "the environment")
    expiration = environ.get("AWS_CREDENTIAL_EXPIRATION")
    if keys is None or expiration is None:
        return keys
    at = instant(expiration)
    if at is None:
        msg = f"AWS_CREDENTIAL_EXPIRATION must be an instant as in '2030-01-01T00:00:00Z', not {expiration!r}"
        raise GrantRejected("invalid_request", msg)
    if at <= SystemClock.time():
        msg = f"the keys of the environment have expired: AWS_CREDENTIAL_EXPIRATION is {expiration}"
        raise TransientRefreshError(msg)
    return keys.replace(expires_at=at)


def key_pair(said: Variables, names: tuple[str, str, str, str], where: str) -> AwsCredentials | None:
    """
    Return the keys in *said*, or None if both halves are missing.

    Args:
        said: The values to search.

        names: The names of the key id, the key, the session token, and the older name of the session token.

        where: The user's name for *said*.

    Raises:
        GrantRejected: One half of the pair is missing, or a value is not a key.
    """
    # The values are not named here, because the frame of an exception shows its locals.
    missing = [name for name in names[:2] if said.get(name) is None]
    if len(missing) == 2:  # noqa: PLR2004 - both are missing
        return None
    if missing:
        found = names[0] if missing[0] == names[1] else names[1]
        msg = f"{where} has {found}, and {missing[0]} is not there or is blank"
        raise GrantRejected("invalid_request", msg)
    if not _KEY_ID.fullmatch(said.get(names[0]) or ""):
        msg = f"{names[0]} of {where} has characters that no key has"
        raise GrantRejected("invalid_request", msg)
    return AwsCredentials.of(said.get(names[0]) or "", said.get(names[1]) or "", said.first(*names[2:]))
