"""The Security Token Service: a request of its Query API, and its XML answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.redaction import scrub
from evertoken._signing.secret import in_thread
from evertoken._signing.sigv4 import KeyPair, SigV4
from evertoken.sources._body import fields_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources.aws._credentials import AwsCredentials, credentials_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["Sts", "check_role", "judged", "sts_url"]

VERSION: Final = "2011-06-15"

# Errors that need a person, with their codes in RFC 6749. Other errors are temporary: throttling, clocks, renewed
# tokens.
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

# Errors that are temporary, unless their words say that a person must act ("Get a new identity token ... then retry").
_PASSING: Final = frozenset({"InvalidIdentityToken"})
_LASTING: Final = re.compile(r"audience|no openidconnect provider|not a valid jwt", re.IGNORECASE)

_OF_TIME: Final = frozenset({"IDPRejectedClaim", "InvalidIdentityToken", "SignatureDoesNotMatch"})
_BLAMES_A_CLOCK: Final = re.compile(
    r"\bexpired\b|not yet (?:current|valid)|is now (?:earlier|later) than|\bclock\b|\bskew", re.IGNORECASE
)

# Codes about replaced keys. Without a rejection, a signature that does not match is caused by a clock.
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"})
_OF_THE_KEYS: Final = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch"})
_CODE: Final = re.compile(r"[A-Za-z.]{1,60}", re.ASCII)

_ROLE: Final = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]+", re.ASCII)
_AMAZON: Final = ("amazonaws.com", "api.aws")
#: The domains of regions that are not Amazon's own, by the start of their names: the usual one, and the dual-stack one.
_DOMAINS: Final = {
    "cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eu-isoe-": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "eusc-": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "us-iso-": ("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-": ("sc2s.sgov.gov", "api.aws.scloud"),
    "us-isof-": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
}
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


def check_role(role_arn: object, session_name: object, duration: object) -> None:
    """Raise ValueError if the service would not accept the values. The message names the parameter."""
    if not isinstance(role_arn, str) or not _ROLE.fullmatch(role_arn):
        msg = f"role_arn must be as in 'arn:aws:iam::123456789012:role/name', not {role_arn!r}"
        raise ValueError(msg)
    if not isinstance(session_name, str) or not _SESSION.fullmatch(session_name):
        msg = f"session_name must be 2 to 64 letters, digits or any of +=,.@_-, not {session_name!r}"
        raise ValueError(msg)
    if not isinstance(duration, int | float) or not 900 <= duration <= 43_200:  # noqa: PLR2004 - the service's bounds
        msg = f"duration must be 900 to 43200 seconds, not {duration!r}"
        raise ValueError(msg)


def sts_url(region: str | None, *, fips: bool = False, dual_stack: bool = False) -> str:
    """
    Return the URL of the service in *region*, or of the global service if *region* is None.

    Args:
        region: The region.

        fips: Whether only cryptography validated by FIPS 140 may be used.

        dual_stack: Whether the service must also be reachable by IPv6.

    Raises:
        ValueError: *region* is not a name of a region. It becomes a part of the host name.
    """
    if region is None:
        return "https://sts.amazonaws.com/"
    if not isinstance(region, str) or not _REGION.fullmatch(region):
        msg = f"region must be as in 'eu-west-1', not {region!r}"
        raise ValueError(msg)
    partition = next((names for start, names in _DOMAINS.items() if region.startswith(start)), _AMAZON)
    # The usual endpoints of GovCloud are already validated.
    special = fips and not (region.startswith("us-gov-") and not dual_stack)
    return f"https://sts{'-fips' if special else ''}.{region}.{partition[dual_stack]}/"


@final
class Sts:
    """
    The service, in one region.

    Args:
        region: The region whose endpoint is used. It is None for the global endpoint.

        endpoint: Another URL to use instead.

        client: The HTTP client to use.

        signed: Whether requests are signed, which needs the extra `aws`.

        parameter: The user's name for the endpoint.
    """

    def __init__(
        self, region: str | None, *, endpoint: str | None, client: Any, signed: bool, parameter: str = "endpoint"
    ) -> None:
        usual = sts_url(region)
        self._endpoint = Endpoint(usual if endpoint is None else endpoint, client=client, parameter=parameter)
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
        refusals: list[str] | None = None,
    ) -> AwsCredentials | GrantRejected | TransientRefreshError:
        """
        Return the credentials from *action*, or the failure.

        The failure is returned and not raised, because the locals of this frame contain the request.

        Args:
            request: The fetch to which this belongs.

            action: The action of the API.

            parameters: The parameters of the action.

            keys: The keys that sign the request.

            secrets: Texts that must not appear in an error.

            refusals: A list that receives the code if the service blames the keys that signed.
        """
        started = SystemClock.time()
        given = {name: value for name, value in parameters.items() if value is not None}
        form = {"Action": action, "Version": VERSION, **given}
        content = Content("POST", urlencode(form).encode(), "application/x-www-form-urlencoded; charset=utf-8")
        headers: dict[str, str] = {"Accept": "text/xml"}
        if self._signer is not None and keys is not None:
            headers["Content-Type"] = content.type
            # The first signature imports botocore. That takes tens of milliseconds, so it runs in a thread.
            headers |= await in_thread(
                self._signer.sign, keys, "POST", self._endpoint.url, headers, content.body or b""
            )
            secrets = (*secrets, keys.secret_access_key, keys.session_token or keys.secret_access_key)
        said: list[str] = []

        def seen(status: int, _: Any, fields: Mapping[str, Any]) -> None:
            code = fields.get("Code")
            if status >= 400 and isinstance(code, str) and _CODE.fullmatch(code):  # noqa: PLR2004 - RFC 9110
                said[:] = [code, scrub(str(fields.get("Message", "")), secrets)]

        try:
            answer = await self._endpoint.send(request, content, headers, secrets=secrets, read=_fields, seen=seen)
            return credentials_of(answer, started=started)
        except (GrantRejected, TransientRefreshError) as error:
            failure = error.with_traceback(None)
        final = isinstance(failure, GrantRejected)
        if said and refusals is not None and said[0] in (_OF_THE_KEYS if final else _EXPIRED):
            refusals.append(said[0])
        if said and isinstance(failure, TransientRefreshError):
            msg = f"{self.provider}: {failure}: {said[1]}"
            # "Common error types" of the STS API: it throttles with status 400.
            status = 429 if said[0].startswith("Throttling") else failure.status
            return TransientRefreshError(
                msg, retry_after=failure.retry_after, ambiguous=failure.ambiguous, status=status
            )
        return failure


def _fields(body: bytes, content_type: str) -> dict[str, Any] | None:
    """Return the leaves of an XML answer by name, with its error as a code of RFC 6749."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        msg = "unreadable answer: XML with a document type"
        raise TransientRefreshError(msg, ambiguous=True)
    try:
        root = ET.fromstring(body)  # noqa: S314 - entities need a document type, which is refused
    except ET.ParseError:
        return fields_of(body, content_type)
    leaves = {leaf.tag.rpartition("}")[2]: (leaf.text or "").strip() for leaf in root.iter() if len(leaf) == 0}
    code = leaves.get("Code")
    if code is not None:
        said = leaves.get("Message", "")
        leaves |= {"error": judged(code, said), "error_description": said}
    return leaves


def judged(code: str, said: str) -> str:
    """Return what a code of AWS means in the words of RFC 6749, or the code itself if it passes or is not known."""
    if code in _PASSING and not _LASTING.search(said):
        return code
    # A wrong clock is corrected at some time. Then the same request succeeds.
    return code if code in _OF_TIME and _BLAMES_A_CLOCK.search(said) else _REJECTIONS.get(code, code)
