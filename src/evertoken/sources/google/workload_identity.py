"""Workload identity federation of Google: exchanges a token of another provider for one of Google's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.hosts import Reach
from evertoken._model.identity import identity_from
from evertoken._model.parsing import number
from evertoken._signing.secret import CarriesSecrets, resolve
from evertoken.sources._body import fields_of, text_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import check_url
from evertoken.sources.google._impersonation import LIFETIME, impersonated
from evertoken.sources.google._info import (
    CLOUD_PLATFORM,
    IAM,
    Info,
    basic,
    identity_in,
    quota_told,
    read_info,
    scope_of,
    text_in,
    wrong_info,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["WorkloadIdentity"]

_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, not a secret
_URL: Final = "credential_source.url"

# Kinds of credential_source that are not supported, with the alternative.
_NOT_BUILT: Final = {
    "environment_id": "requests signed for AWS are not built in; give a function that asks google-auth for a token,"
    " or use a service account's key",
    "executable": "commands are not run; run it by evertoken.sources.Command, or let it write a file and name the file",
    "certificate": "certificates are not shown to the Security Token Service; give a function that asks google-auth for"
    " a token",
}


@final
class WorkloadIdentity(CarriesSecrets):
    """
    Tokens in exchange for a token of another identity provider: workload identity federation (RFC 8693).

    The configuration names the place of that token: a file or a URL. If it names a client, the client is authenticated
    at the Security Token Service. Configurations for AWS, a command or a certificate are refused with an
    explanation.

    Args:
        info: The content of the configuration (`gcloud iam workload-identity-pools create-cred-config`), or a
            `pathlib.Path` to it, which is read for each fetch.

        scopes: The scopes of the token.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http to any host in `credential_source.url`, as google-auth does. Otherwise http is allowed
            only to loopback and the machine's own link, where metadata services are. Its `headers` contain secrets.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"
    provider = "https://sts.googleapis.com"

    def __init__(
        self,
        info: Info,
        *,
        scopes: str | Iterable[str] = CLOUD_PLATFORM,
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        self._allow_http: bool | Reach = allow_http or Reach.LINK_LOCAL
        failure = wrong_info(info) or self._wrong_url(info)
        if failure is not None:
            del info
            raise ValueError(failure)
        self._info = info
        self._scope = scope_of(scopes)
        named = identity_in(info, "audience", "service_account_impersonation_url")
        self.identity: str | None = identity_from("Google workload", named, self._scope)
        self._client = client

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Read the other provider's token, exchange it, and act as a service account if the configuration says so.

        Raises:
            TransientRefreshError: It failed temporarily.
            GrantRejected: The configuration is invalid, or Google rejects its content.
            ValueError: The configuration has a URL to which secrets may not be sent.
        """
        info = await read_info(self._info, "external_account")
        if str(info.get("subject_token_type")).startswith("urn:ietf:params:aws:"):
            raise GrantRejected("invalid_request", f"the configuration is for AWS: {_NOT_BUILT['environment_id']}")
        subject = await self._subject(request, info)
        endpoint = Endpoint(text_in(info, "token_url"), client=self._client, parameter="token_url")
        impersonation = info.get("service_account_impersonation_url")
        form = [
            ("grant_type", _EXCHANGE),
            ("audience", text_in(info, "audience")),
            ("scope", IAM if impersonation else self._scope),
            ("requested_token_type", _ACCESS_TOKEN),
            ("subject_token", subject),
            ("subject_token_type", text_in(info, "subject_token_type")),
        ]
        project, known = info.get("workforce_pool_user_project"), info.get("client_id")
        headers = basic(str(known), text_in(info, "client_secret")) if known else {}
        if project and not known:
            form.append(("options", json.dumps({"userProject": project})))
        answer = await endpoint.post(
            request, form, headers, secrets=(subject, *headers.values(), str(info.get("client_secret") or subject))
        )
        if not impersonation:
            return quota_told(answer, info)
        token = str(answer.fields.get("access_token"))
        wanted = info.get("service_account_impersonation")
        seconds = number(wanted.get("token_lifetime_seconds")) if isinstance(wanted, Mapping) else None
        lifetime = LIFETIME if seconds is None else int(seconds)
        acting = await impersonated(
            request, str(impersonation), token, self._scope, lifetime=lifetime, client=self._client
        )
        return quota_told(acting, info)

    async def _subject(self, request: FetchRequest, info: Mapping[str, Any]) -> str:
        source = _source_in(info)
        refused = next((name for name in _NOT_BUILT if name in source), None)
        if refused is not None:
            said = f"the credential_source of the configuration has {refused!r}: {_NOT_BUILT[refused]}"
            raise GrantRejected("invalid_request", said)
        form = source.get("format")
        form = form if isinstance(form, Mapping) else {}
        name = str(form.get("subject_token_field_name")) if form.get("type") == "json" else None
        if source.get("file"):
            text = await resolve(Path(str(source["file"])), "credential_source")
            found = {"text": text} if name is None else fields_of(text.encode(), "application/json") or {}
        elif source.get("url"):
            # Services on the workload's own link have no certificate.
            url = str(source["url"])
            endpoint = Endpoint(url, client=self._client, allow_http=self._allow_http, parameter=_URL)
            headers = {str(field): str(value) for field, value in dict(source.get("headers") or {}).items()}
            answer = await endpoint.send(
                request,
                Content("GET", None),
                headers,
                secrets=tuple(headers.values()),
                read=text_of if name is None else fields_of,
            )
            found = dict(answer.fields)
        else:
            raise GrantRejected("invalid_request", "the credential_source of the configuration has no file and no url")
        token = found.get(name or "text")
        if not isinstance(token, str) or not token:
            msg = f"there is no token at {name or 'the place'!r} that the credential_source names"
            raise TransientRefreshError(msg)
        return token.strip()

    def _wrong_url(self, info: Info) -> str | None:
        """Return the fault in the URL of the other provider's token, as far as it can be seen already."""
        source = _source_in(info) if isinstance(info, Mapping) else {}
        if source.get("url") and not source.get("file"):
            try:
                check_url(_URL, str(source["url"]), allow_http=self._allow_http)
            except ValueError as error:
                return str(error)
        return None

    def __repr__(self) -> str:
        return "WorkloadIdentity()"


def _source_in(info: Mapping[str, Any]) -> Mapping[str, Any]:
    source = info.get("credential_source")
    return source if isinstance(source, Mapping) else {}
