"""Signed requests to AWS (Signature Version 4), by botocore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KeyPair", "SigV4"]

# S3 signs the path as it is, and the hash of the body besides.
_S3: Final = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})

# What else a client adds may still change on its way.
_SIGNED: Final = frozenset({"content-md5", "content-type", "host"})


class KeyPair(Protocol):
    """What signs."""

    @property
    def access_key_id(self) -> str:
        """Which key it is."""

    @property
    def secret_access_key(self) -> str:
        """The key itself, which is never sent."""

    @property
    def session_token(self) -> str | None:
        """What shows that the key is a temporary one."""


@final
class SigV4:
    """
    Signs requests to one service in one region.

    Args:
        service: The service's name in signatures, such as "execute-api" or "s3".

        region: Its region, such as "eu-west-1".

    Raises:
        ValueError: One of them is empty.
        ImportError: The extra `aws` is not installed.
    """

    def __init__(self, service: str, region: str) -> None:
        for name, value in (("service", service), ("region", region)):
            if not isinstance(value, str) or not value:
                msg = f"{name} must be a non-empty string, not {value!r}"
                raise ValueError(msg)
        _library()
        self.service = service
        self.region = region

    def sign(self, keys: KeyPair, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the header fields to add to a request: the signature, its date, and the session token."""
        auth, awsrequest, credentials = _library()
        signed = {
            name: value
            for name, value in headers.items()
            if name.lower() in _SIGNED or (name.lower().startswith("x-amz-") and name.lower() not in _OURS)
        }
        request = awsrequest.AWSRequest(method=method, url=url, data=body, headers=signed)
        signer = auth.S3SigV4Auth if self.service in _S3 else auth.SigV4Auth
        pair = credentials.Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
        signer(pair, self.service, self.region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name.lower() in _OURS}

    def __repr__(self) -> str:
        return f"SigV4(service={self.service!r}, region={self.region!r})"


#: The fields that a signature brings.
_OURS: Final = frozenset({"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})


def _library() -> tuple[Any, Any, Any]:
    try:
        from botocore import auth, awsrequest, credentials  # noqa: PLC0415 - needed for a signature, not for the name
    except ImportError as error:
        msg = "signed requests need botocore: pip install 'evertoken[aws]'"
        raise ImportError(msg) from error
    return auth, awsrequest, credentials
