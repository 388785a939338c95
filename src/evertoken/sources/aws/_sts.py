"""The Security Token Service: one request of its Query API, and its XML answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import anyio.to_thread

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import TransientRefreshError
from evertoken._signing.sigv4 import KeyPair, SigV4
from evertoken.sources._body import fields_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["Sts", "check_region", "check_role"]

VERSION: Final = "2011-06-15"

# What a person must act upon, in the words of RFC 6749. Other codes pass: throttling, clocks, tokens that are renewed.
_REJECTIONS: Final = {
    "AccessDenied": "access_denied",
    "AccessDeniedException": "access_denied",
    "InvalidClientTokenId": "invalid_client",
    "InvalidIdentityToken": "invalid_grant",
    "IDPRejectedClaim": "invalid_grant",
    "MalformedPolicyDocument": "invalid_request",
    "MissingAuthenticationToken": "invalid_client",
    "PackedPolicyTooLarge": "invalid_request",
    "RegionDisabledException": "unauthorized_client",
    "SignatureDoesNotMatch": "invalid_client",
    "ValidationError": "invalid_request",
}

_ROLE: Final = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]+", re.ASCII)
#: Where the regions are that are not Amazon's own, by how their names begin.
_DOMAINS: Final = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


def check_role(role_arn: object, session_name: object, duration: object) -> None:
    """Raise ValueError where they are none that the service would take; the message names the parameter."""
    if not isinstance(role_arn, str) or not _ROLE.fullmatch(role_arn):
        msg = f"role_arn must be as in 'arn:aws:iam::123456789012:role/name', not {role_arn!r}"
        raise ValueError(msg)
    if not isinstance(session_name, str) or not _SESSION.fullmatch(session_name):
        msg = f"session_name must be 2 to 64 letters, digits or any of +=,.@_-, not {session_name!r}"
        raise ValueError(msg)
    if not isinstance(duration, int | float) or not 900 <= duration <= 43_200:  # noqa: PLR2004 - the service's bounds
        msg = f"duration must be 900 to 43200 seconds, not {duration!r}"
        raise ValueError(msg)


def check_region(region: object) -> None:
    """Raise ValueError where *region* is neither None nor the name of one, which becomes a part of a host's."""
    if region is not None and not (isinstance(region, str) and _REGION.fullmatch(region)):
        msg = f"region must be as in 'eu-west-1', not {region!r}"
        raise ValueError(msg)


@final
class Sts:
    """
    The service, in one region.

    Args:
        region: Whose endpoint to ask; the global one if None.

        endpoint: Another URL in place of it.

        client: A client to use.

        signed: Whether requests are signed, which needs the extra `aws`.
    """

    def __init__(self, region: str | None, *, endpoint: str | None, client: Any, signed: bool) -> None:
        check_region(region)
        if endpoint is None:
            beginning = (start for start in _DOMAINS if (region or "").startswith(start))
            domain = _DOMAINS.get(next(beginning, ""), "amazonaws.com")
            endpoint = f"https://sts.{f'{region}.' if region else ''}{domain}/"
        self._endpoint = Endpoint(endpoint, client=client, parameter="endpoint")
        self._signer = SigV4("sts", region or "us-east-1") if signed else None
        self.provider: str = self._endpoint.origin

    async def ask(
        self,
        request: FetchRequest,
        action: str,
        parameters: dict[str, str | None],
        *,
        keys: KeyPair | None = None,
        secrets: tuple[str, ...] = (),
    ) -> AwsCredentials:
        """
        Return the credentials that *action* answers.

        Raises:
            TransientRefreshError: It did not, for a reason that passes.
            GrantRejected: A person must act.
        """
        started = SystemClock.time()
        given = {name: value for name, value in parameters.items() if value is not None}
        form = {"Action": action, "Version": VERSION, **given}
        content = Content("POST", urlencode(form).encode(), "application/x-www-form-urlencoded; charset=utf-8")
        headers: dict[str, str] = {"Accept": "text/xml"}
        if self._signer is not None and keys is not None:
            headers["Content-Type"] = content.type
            # The first signature imports botocore: tens of milliseconds that belong in a thread.
            headers |= await anyio.to_thread.run_sync(
                self._signer.sign, keys, "POST", self._endpoint.url, headers, content.body or b""
            )
            secrets = (*secrets, keys.secret_access_key, keys.session_token or keys.secret_access_key)
        answer = await self._endpoint.send(request, content, headers, secrets=secrets, read=_fields)
        return credentials_of(answer.fields, started=started, date=answer.date)


def _fields(body: bytes, content_type: str) -> dict[str, Any] | None:
    """Return the leaves of an XML answer by name, its error in the words of RFC 6749."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        msg = "unreadable answer: XML with a document type"
        raise TransientRefreshError(msg, ambiguous=True)
    try:
        root = ET.fromstring(body)  # noqa: S314 - entities need a document type, and one is refused
    except ET.ParseError:
        return fields_of(body, content_type)
    leaves = {leaf.tag.rpartition("}")[2]: (leaf.text or "").strip() for leaf in root.iter() if len(leaf) == 0}
    code = leaves.get("Code")
    if code is not None:
        leaves |= {"error": _REJECTIONS.get(code, code), "error_description": leaves.get("Message", "")}
    return leaves
