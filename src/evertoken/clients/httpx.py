"""A manager as an `httpx.Auth`."""

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

    The clients of httpx2, which has the same interface, take it as well. It imports httpx only.

    Made by `TokenManager.auth`. It sets Authorization (RFC 6750 section 2.1). On a 401 it reports that very token,
    and tries once more with another; a body that cannot be sent twice is not, and then the 401 is the caller's.

    Over plain http it sends nothing and raises `OriginRefused`, except to loopback or with `allow_http=True`. A pickled
    response holds no token.
    """

    if TYPE_CHECKING:
        auth_flow: Any

    else:

        @property
        def __class__(self) -> type:
            # `isinstance` asks for it. A client of httpx2 asks whether this is an Auth of httpx2, which is loaded then.
            auth = getattr(sys.modules.get("httpx2"), "Auth", None)
            return BearerAuth if auth is None else _of_both(auth)


@functools.cache
def _of_both(auth: type) -> type:
    return type("BearerAuth", (BearerAuth, auth), {})


@final
class DPoPAuth(DPoPFlow, httpx.Auth):
    """
    An `httpx.Auth` that sends tokens that are bound to a key, with a proof of possession (DPoP, RFC 9449).

    Made from a handle, and the key that the source was given: `DPoPAuth(tokens.handle(), key)`. A nonce that the
    resource server asks for is learnt, and the request sent again with it; the token is not to blame. A redirect to
    another origin goes on without token and proof, and one within the origin gets a proof of its own.

    Args:
        tokens: A handle of a manager whose source was given the same key.

        key: The `DPoPKey` that its tokens are bound to.

        origins: The origins that may see the token. Without any, the first one it is used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback.
        RuntimeError: This release of httpx would carry the proof to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers


@final
class HeaderAuth(HeaderFlow, httpx.Auth):
    """
    An `httpx.Auth` that sends the token in a field of its own, such as X-Api-Key.

    Made from a handle: `HeaderAuth(tokens.handle(), "X-Api-Key")`. A client that follows a redirect carries all fields
    but Authorization to other origins; this one it does not. A 401 is healed once, and so is a 403 where the field is
    X-Vault-Token: Vault and OpenBao answer it for a token that has ended.

    Args:
        tokens: A handle of a manager.

        header: The field's name.

        scheme: What stands before the token in it, if anything.

        origins: The origins that may see the token. Without any, the first one it is used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument makes no sense; the message names it.
        RuntimeError: This release of httpx would carry the field to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers


@final
class SigV4Auth(SigV4Flow, httpx.Auth):
    """
    An `httpx.Auth` that signs requests with AWS credentials (Signature Version 4). Needs the extra `aws`.

    Made from a handle: `SigV4Auth(tokens.handle(), service="execute-api", region="eu-west-1")`. It signs the path, the
    query, Host, Content-Type, Content-MD5 and all fields that begin with X-Amz-, as they are sent (IAM User Guide,
    "Create a signed AWS API request"). Authorization, X-Amz-Date and X-Amz-Security-Token of the caller are replaced.

    The body is read into memory for its hash. A body of unknown length is sent with Content-Length, because S3 refuses
    Transfer-Encoding: chunked. The field X-Amz-Content-SHA256 is sent where the service requires it (S3, OpenSearch
    Serverless, S3 Glacier, VPC Lattice). If the caller sets it, to the hash or to UNSIGNED-PAYLOAD, it is signed as
    given, and a body whose Content-Length is set too is streamed and not read.

    Credentials that AWS calls expired or unknown are reported, and the request is signed once more with others. If AWS
    refuses the time of a signature, the skew of the clock is learnt from the Date of the answer, and the request is
    signed and sent once more. A body that was not read is not sent again; the refusal goes to the caller. A request
    raises TypeError if the manager's tokens are no AWS credentials, or if the client cannot read its body.

    Args:
        tokens: A handle of a manager of `AwsCredentials`.

        service: The service's name in signatures, such as "execute-api" or "s3".

        region: Its region.

        origins: The origins that may see the session token. Without any, the first one it is used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument makes no sense; the message names it.
        ImportError: The extra is not installed.
        RuntimeError: This release of httpx would carry the session token to other origins.
    """

    headers: ClassVar[Any] = httpx.Headers
