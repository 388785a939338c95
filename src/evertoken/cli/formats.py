"""Writes a token as text, in the formats of other programs."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from evertoken.sources.aws._credentials import AwsCredentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken import Token

__all__ = ["FORMATS", "Form", "fields_of"]

#: The supported formats.
FORMATS: Final = ("token", "header", "json", "exec-credential", "aws-process", "netrc")

# "Authentication": the versions of the group client.authentication.k8s.io with this form.
_EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@final
@dataclass(frozen=True)
class Form:
    """
    The format of a token.

    Args:
        name: One of `FORMATS`.

        host: The host of the token, for netrc.

        login: The login name at that host, for netrc.
    """

    name: str
    host: str | None = None
    login: str = "oauth2"

    def text(self, token: Token, now: float, environ: Mapping[str, str] = os.environ) -> str:
        """
        Return *token* as text that ends with a line break.

        Args:
            token: The token.

            now: The time (epoch seconds).

            environ: The environment, in which kubectl describes itself.

        Raises:
            ValueError: The token cannot be written in this format. The message says why, and contains no secret.
        """
        if self.name == "aws-process":
            return _aws(token)
        if self.name == "json":
            return json.dumps(fields_of(token, now)) + "\n"
        if isinstance(token, AwsCredentials):
            msg = f"AWS credentials cannot be written as {self.name}: use aws-process or json"
            raise ValueError(msg)  # noqa: TRY004 - the format does not fit the source
        if self.name == "exec-credential":
            return _exec_credential(token, environ)
        if self.name == "header":
            return f"Authorization: {token.authorization}\n"
        if self.name == "netrc":
            return f"machine {self.host}\n  login {self.login}\n  password {token.access_token}\n"
        return f"{token.access_token}\n"


def fields_of(token: Token, now: float) -> dict[str, Any]:
    """Return *token* as the fields of an answer of RFC 6749 section 5.1, without its refresh token."""
    fields: dict[str, Any] = {"access_token": token.access_token, "token_type": token.token_type}
    if isinstance(token, AwsCredentials):
        fields |= {"secret_access_key": token.secret_access_key, "session_token": token.session_token}
    if token.expires_at is not None:
        fields |= {"expires_in": max(int(token.expires_at - now), 0), "expires_at": token.expires_at}
    if token.scope is not None:
        fields["scope"] = token.scope
    return {**fields, "issued_at": token.issued_at, "fingerprint": token.fingerprint}


def _exec_credential(token: Token, environ: Mapping[str, str]) -> str:
    # kubectl accepts only the version that it asked for.
    version = _EXEC_VERSIONS[0]
    try:
        asked = json.loads(environ.get("KUBERNETES_EXEC_INFO", "{}"))["apiVersion"]
    except (ValueError, KeyError, TypeError):
        asked = version
    if asked not in _EXEC_VERSIONS:
        msg = f"kubectl asks for {asked!r} in KUBERNETES_EXEC_INFO; known are {', '.join(_EXEC_VERSIONS)}"
        raise ValueError(msg)
    status = {"token": token.access_token}
    if token.expires_at is not None:
        status["expirationTimestamp"] = _instant(token.expires_at)
    return json.dumps({"apiVersion": asked, "kind": "ExecCredential", "status": status}) + "\n"


def _aws(token: Token) -> str:
    # "Sourcing credentials with an external process" of the AWS CLI.
    if not isinstance(token, AwsCredentials):
        msg = "aws-process is for a source of the kind aws, and this one gives another token"
        raise ValueError(msg)  # noqa: TRY004 - the format does not fit the source
    fields: dict[str, Any] = {
        "Version": 1,
        "AccessKeyId": token.access_key_id,
        "SecretAccessKey": token.secret_access_key,
    }
    if token.session_token:
        fields["SessionToken"] = token.session_token
    if token.expires_at is not None:
        fields["Expiration"] = _instant(token.expires_at)
    return json.dumps(fields) + "\n"


def _instant(value: float) -> str:
    # RFC 3339, rounded down, so that the life is never overstated.
    return dt.datetime.fromtimestamp(int(value), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
