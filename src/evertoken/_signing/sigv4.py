"""Signed requests to AWS (Signature Version 4). botocore derives the keys and computes the signatures."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from evertoken._engine.clock import SystemClock
from evertoken._model.guarded import Guarded
from evertoken._model.redaction import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CONTENT_HASH", "OURS", "KeyPair", "SigV4"]

#: The header field with the hash of the body, or with a text in its place.
CONTENT_HASH: Final = "x-amz-content-sha256"
#: The header fields that belong to the signature. They replace fields of the caller.
OURS: Final = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})

# S3 treats the path as a key: dot segments and double slashes stay, and it is encoded once.
_S3: Final = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
# These services refuse a request without CONTENT_HASH. aoss: OpenSearch Service Developer Guide, "Signing HTTP
# requests".
_HASH_REQUIRED: Final = _S3 | {"aoss", "glacier"}
# VPC Lattice User Guide, "SIGv4 authenticated requests": UNSIGNED-PAYLOAD is required.
_NEVER_HASHED: Final = frozenset({"vpc-lattice-svcs"})
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"

# Only these fields are signed, because others that a client adds may change on the way.
_SIGNED: Final = frozenset({b"content-md5", b"content-type", b"host"})

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_SPACES: Final = re.compile(rb" +")


class KeyPair(Protocol):
    """The keys of a signature."""

    @property
    def access_key_id(self) -> str:
        """The identifier of the key."""

    @property
    def secret_access_key(self) -> str:
        """The secret key, which is never sent."""

    @property
    def session_token(self) -> str | None:
        """The session token of a temporary key, or None."""


@final
class SigV4(Guarded):
    """
    Signs requests to one service in one region.

    Args:
        service: The service's name in signatures, such as "execute-api" or "s3".

        region: The region of the service, such as "eu-west-1".

    Raises:
        ValueError: A text is empty, or *region* is a set of regions.
        ImportError: The extra `aws` is not installed.
    """

    def __init__(self, service: str, region: str) -> None:
        for name, value in (("service", service), ("region", region)):
            if not isinstance(value, str) or not value:
                msg = f"{name} must be a non-empty string, not {quoted(value)}"
                raise ValueError(msg)
        if "*" in region or "," in region:
            msg = "region must be one region: SigV4a is not built; use the endpoint of one region"
            raise ValueError(msg)
        _library()
        self.service = service
        self.region = region

    def hashes(self, given: str) -> bool:
        """Tell whether a signature needs the body. *given* is the CONTENT_HASH of the request, or empty."""
        return not given and self.service not in _NEVER_HASHED

    def sign(
        self, keys: KeyPair, method: str, url: str, headers: Mapping[str, str], body: bytes, *, skew: float = 0.0
    ) -> dict[str, str]:
        """
        Return the header fields to add to a request that a client will build.

        Args:
            keys: The keys of the signature.

            method: The method of the request.

            url: The absolute URL. The signature includes the Host field that a client derives from it.

            headers: The other header fields, each name once.

            body: The content of the request.

            skew: The seconds by which the clock of the service is ahead of ours.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        fields = [(name.encode(), value.encode()) for name, value in {"Host": host, **headers}.items()]
        return self.sign_sent(keys, method, target.encode(), fields, body, skew=skew)

    def sign_sent(
        self,
        keys: KeyPair,
        method: str,
        target: bytes,
        fields: Iterable[tuple[bytes, bytes]],
        body: bytes,
        *,
        skew: float = 0.0,
    ) -> dict[str, str]:
        """
        Return the header fields to add to a request: the signature, its date, and the session token and hash if needed.

        Args:
            keys: The keys of the signature.

            method: The method of the request, as it is sent.

            target: The path and query, as they are sent.

            fields: All header fields, as they are sent. The fields in `OURS` are ignored.

            body: The content of the request. It may be empty if `hashes` returns False.

            skew: The seconds by which the clock of the service is ahead of ours.
        """
        stamp = dt.datetime.fromtimestamp(SystemClock.time() + skew, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        added = {"X-Amz-Date": stamp}
        if keys.session_token:
            added["X-Amz-Security-Token"] = keys.session_token
        signed = _signed(fields)
        given = b",".join(signed.get(CONTENT_HASH.encode(), ())).decode("latin-1")
        content_hash = given or (hashlib.sha256(body).hexdigest() if self.hashes(given) else _UNSIGNED)
        if not given and self.service in _HASH_REQUIRED | _NEVER_HASHED:
            added["X-Amz-Content-SHA256"] = content_hash
        signed |= {name.lower().encode(): [value.encode()] for name, value in added.items()}
        names = b";".join(sorted(signed))
        canonical = b"\n".join(
            (
                method.encode(),
                _canonical_path(target, key=self.service in _S3),
                _canonical_query(target),
                *(name + b":" + b",".join(signed[name]) for name in sorted(signed)),
                b"",
                names,
                content_hash.encode("latin-1"),
            )
        )
        return {**added, "Authorization": self._authorization(keys, stamp, names.decode("latin-1"), canonical)}

    def _authorization(self, keys: KeyPair, stamp: str, names: str, canonical: bytes) -> str:
        # add_auth is not used, because it would take the system's time and log the session token.
        auth, awsrequest, credentials = _library()
        signer = auth.SigV4Auth(
            credentials.Credentials(keys.access_key_id, keys.secret_access_key), self.service, self.region
        )
        request = awsrequest.AWSRequest()
        request.context["timestamp"] = stamp
        digest = hashlib.sha256(canonical).hexdigest()
        text = "\n".join(("AWS4-HMAC-SHA256", stamp, signer.credential_scope(request), digest))
        signature = signer.signature(text, request)
        return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"

    def __repr__(self) -> str:
        return f"SigV4(service={self.service!r}, region={self.region!r})"


# The canonical request, as the service computes it from the request that it receives: IAM User Guide, "Create a signed
# AWS API request".


def _signed(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Return the values of each field to sign, by its lower-case name, in the order in which they are sent."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lower = name.lower()
        if lower in _SIGNED or (lower.startswith(b"x-amz-") and lower.decode("latin-1") not in OURS):
            found.setdefault(lower, []).append(_SPACES.sub(b" ", value.strip()))
    return found


def _canonical_path(target: bytes, *, key: bool) -> bytes:
    path = target.partition(b"?")[0]
    if key:
        # Amazon S3 API Reference, "Signature Calculations": the key is encoded once. Its spelling in the URL does not
        # matter.
        return quote(unquote_to_bytes(path), safe="/").encode()
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and path.endswith(b"/") else b""
    return quote(b"/" + b"/".join(kept) + end, safe="/").encode()


def _canonical_query(target: bytes) -> bytes:
    query = target.partition(b"?")[2]
    pairs = sorted(tuple(map(_encoded, part.partition(b"=")[::2])) for part in query.split(b"&") if part)
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


def _encoded(word: bytes) -> str:
    return quote(unquote_to_bytes(word.replace(b"+", b" ")), safe="")


def _library() -> tuple[Any, Any, Any]:
    try:
        from botocore import auth, awsrequest, credentials  # noqa: PLC0415 - only needed for a signature
    except ImportError as error:
        msg = "signed requests need botocore: pip install 'evertoken[aws]'"
        raise ImportError(msg) from error
    return auth, awsrequest, credentials
