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
    What AWS hands out in place of a bearer token: a key pair, and a session token where it is a temporary one.

    It is served by a manager as any token is, `TokenManager[AwsCredentials]`, and signs requests through
    `evertoken.clients.httpx.SigV4Auth`. It cannot be sent, so `authorization` raises.
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


def credentials_of(answer: Answer, *, started: float, outage: float = 0.0) -> AwsCredentials:
    """
    Return the credentials that *answer* spells as AWS does everywhere but in files: `AccessKeyId` and so on.

    Args:
        answer: The answer.

        started: The instant (epoch seconds) at which the request for it started.

        outage: Seconds for which credentials are used that have expired by the answer itself. None unless given.

    Raises:
        TransientRefreshError: They are not there, or have expired, or their expiry cannot be read.
    """
    # The fields have no name here, because a frame that raises shows its locals.
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
        # Nothing but a code is repeated: who knows what else the answer says.
        said = f", and says {code!r}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
        return f"the answer holds no credentials{said}"
    now = SystemClock.time()
    expiration, at = fields.get("Expiration"), instant(fields.get("Expiration"))
    if expiration and at is None:
        return "the answer holds credentials whose Expiration is no instant"
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
    Return the token that goes out in a request.

    Raises:
        TransientRefreshError: Its file cannot be read, or is empty.
        TypeError: A function returned something else.
    """
    try:
        return await resolve(secret, parameter)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
    except TypeError:
        # A file that is being rewritten is empty for a moment. What a function returns stays a mistake.
        if not isinstance(secret, Path):
            raise
        said = "it is empty"
    msg = f"the file of the {parameter} cannot be read: {str(secret)!r}: {said}"
    raise TransientRefreshError(msg)


def environment_keys(environ: Variables, /) -> AwsCredentials | None:
    """
    Return the keys that *environ* holds under the names AWS tools read, or None. A blank variable is not set.

    Raises:
        GrantRejected: There is half a pair, or `AWS_CREDENTIAL_EXPIRATION` cannot be read.
        TransientRefreshError: They have expired.
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
    Return the keys that *said* holds, or None where neither half is there.

    Args:
        said: Where they may be.

        names: What the key's id, the key, the session token and the older name of that are called.

        where: What the user calls *said*.

    Raises:
        GrantRejected: One half is there without the other, or is no key.
    """
    # No value has a name of its own here, because a frame that raises shows its locals.
    missing = [name for name in names[:2] if said.get(name) is None]
    if len(missing) == 2:  # noqa: PLR2004 - both
        return None
    if missing:
        found = names[0] if missing[0] == names[1] else names[1]
        msg = f"{where} has {found}, and {missing[0]} is not there or is blank"
        raise GrantRejected("invalid_request", msg)
    if not _KEY_ID.fullmatch(said.get(names[0]) or ""):
        msg = f"{names[0]} of {where} has characters that no key has"
        raise GrantRejected("invalid_request", msg)
    return AwsCredentials.of(said.get(names[0]) or "", said.get(names[1]) or "", said.first(*names[2:]))
