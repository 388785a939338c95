"""An adapter for httpx: `httpx.Auth` classes that send the token of a manager."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, ClassVar, final

import httpx

from evertoken.clients._bearer import BearerFlow
from evertoken.clients._dpop_flow import DPoPFlow
from evertoken.clients._header_flow import HeaderFlow
from evertoken.clients._sigv4_flow import SigV4Flow

if TYPE_CHECKING:
    from evertoken.clients.httpx2 import Auth as _Auth2
else:
    _Auth2 = object

__all__ = ["BearerAuth", "DPoPAuth", "HeaderAuth", "SigV4Auth"]


@final
class BearerAuth(BearerFlow, httpx.Auth, _Auth2):
    """
    An `httpx.Auth` that sends the token of a `TokenManager`, for `httpx.AsyncClient` and `httpx.Client`.

    Clients of httpx2, which has the same interface, accept it too. This module imports only httpx.

    `TokenManager.auth` makes it. It sets Authorization (RFC 6750 section 2.1). On a 401 it reports the token that it
    sent, and tries once more with another one. A body that cannot be sent twice is not sent again. Then the caller
    receives the 401.

    Over plain http it sends nothing and raises `OriginRefused`, except to loopback or with `allow_http=True`. A pickled
    response contains no token.
    """

    if TYPE_CHECKING:
        auth_flow: Any

    else:

        @property
        def __class__(self) -> type:
            # `isinstance` uses this. A client of httpx2 checks whether it is an Auth of httpx2, which is loaded in that
            # case.
            auth = getattr(sys.modules.get("httpx2"), "Auth", None)
            return BearerAuth if auth is None else _of_both(auth)


@functools.cache
def _of_both(auth: type) -> type:
    return type("BearerAuth", (BearerAuth, auth), {})


@final
class DPoPAuth(DPoPFlow, httpx.Auth):
    """
    An `httpx.Auth` for tokens that are bound to a key. It sends a proof of possession (DPoP, RFC 9449).

    Make it from a handle and the key of the source: `DPoPAuth(tokens.handle(), key)`. If the resource server asks for a
    nonce, the nonce is learnt, and the request is sent again with it. This does not count as a refused token. A
    redirect to another origin is followed without token and proof. A redirect within the origin gets its own proof.

    Args:
        tokens: A handle of a manager whose source has the same key.

        key: The `DPoPKey` to which its tokens are bound.

        origins: The origins that may receive the token. By default, only the first one that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: A text in *origins* is not an origin, or is http outside loopback.
        RuntimeError: This release of httpx would carry the proof to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers


@final
class HeaderAuth(HeaderFlow, httpx.Auth):
    """
    An `httpx.Auth` that sends the token in a special header field, such as X-Api-Key.

    Make it from a handle: `HeaderAuth(tokens.handle(), "X-Api-Key")`. A client that follows a redirect to another
    origin carries all fields along, except Authorization. It does not carry this one. A 401 is healed once. In the
    field X-Vault-Token a 403 is healed too, because Vault and OpenBao answer it if a token has ended.

    Args:
        tokens: A handle of a manager.

        header: The name of the field.

        scheme: A word that comes before the token in the field, if any.

        origins: The origins that may receive the token. By default, only the first one that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument is invalid. The message names it.
        RuntimeError: This release of httpx would carry the field to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers


@final
class SigV4Auth(SigV4Flow, httpx.Auth):
    """
    An `httpx.Auth` that signs requests with AWS credentials (Signature Version 4). It needs the extra `aws`.

    Make it from a handle: `SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1")`. It signs the path,
    the query, Host, Content-Type, Content-MD5 and all fields that begin with X-Amz-, as they are sent (IAM User Guide,
    "Create a signed AWS API request"). It replaces the caller's Authorization, X-Amz-Date and X-Amz-Security-Token.

    The body is read into memory for its hash. A body of unknown length is sent with Content-Length, because S3 refuses
    Transfer-Encoding: chunked. The field X-Amz-Content-SHA256 is sent if the service requires it (S3, OpenSearch
    Serverless, S3 Glacier, VPC Lattice). If the caller sets it, to the hash or to UNSIGNED-PAYLOAD, it is signed as
    given. If the caller also sets Content-Length, the body is streamed and not read.

    If AWS says that the credentials are expired or unknown, they are reported, and the request is signed once more with
    others. If AWS refuses the time of a signature, the clock skew is learnt from the Date of the answer, and the
    request is signed and sent once more. A body that was not read is not sent again, and the caller receives the
    refusal. A request raises TypeError if the manager's tokens are not AWS credentials, or if the client cannot read
    its body.

    Args:
        tokens: A handle of a manager of `AwsCredentials`.

        service: The name of the service in signatures, such as "execute-api" or "s3".

        region: The region of the service.

        origins: The origins that may receive the session token. By default, only the first one that it is used with.

        allow_http: Also send requests over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra is not installed.
        RuntimeError: This release of httpx would carry the session token to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers
