"""A credentials file of Google, of any type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken._model.token_response import read_response
from evertoken.sources._path import wrong_path
from evertoken.sources.google._impersonation import impersonated
from evertoken.sources.google._info import CLOUD_PLATFORM, IAM, quota_told, read_info, scope_of, text_in
from evertoken.sources.google.authorized_user import AUTHORIZED_USERS, AuthorizedUser
from evertoken.sources.google.service_account import ServiceAccount
from evertoken.sources.google.workload_identity import WorkloadIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.protocols import FetchRequest

__all__ = ["CredentialsFile"]

_KINDS = ("service_account", *AUTHORIZED_USERS, "external_account", "impersonated_service_account")


@final
class CredentialsFile(Guarded):
    """
    Tokens from a credentials file of Google, of any type.

    The file may be a service account's key, a user's login by gcloud, or a configuration of workload identity or of
    impersonation. It is read for each fetch. If it names a `quota_project_id`, that is in the token's `extra`.

    Args:
        path: The path of the file. The content itself is not accepted.

        scopes: The scopes of the token.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: See `WorkloadIdentity`. It matters only for a file that configures one.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        path: str | Path,
        *,
        scopes: str | Iterable[str] = CLOUD_PLATFORM,
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        failure = wrong_path("path", path)
        if failure is not None:
            del path
            raise ValueError(failure)
        self._path = Path(path)
        self._scope = scope_of(scopes)
        self._client = client
        self._allow_http = allow_http
        self.provider: str = f"file:{self._path}"

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Read the file, and follow its content.

        Raises:
            TransientRefreshError: The file cannot be read, or its source failed temporarily.
            GrantRejected: The file has another type, or Google rejects its content.
            ValueError: The file has a URL to which secrets may not be sent.
        """
        try:
            info = await read_info(self._path, *_KINDS)
        except OSError as error:
            # The file may be mounted later.
            said = error.strerror or type(error).__name__
            failure = TransientRefreshError(f"the credentials file {str(self._path)!r}: {said}")
        else:
            return await self._follow(request, info, self._scope)
        raise failure

    async def _follow(self, request: FetchRequest, info: Mapping[str, Any], scope: str) -> Answer:
        kind, client = info["type"], self._client
        if kind == "service_account":
            return await ServiceAccount(info, scopes=scope, client=client).fetch(request)
        if kind in AUTHORIZED_USERS:
            # The scopes that a user granted cannot be widened, and need not be named.
            return await AuthorizedUser(info, client=client).fetch(request)
        if kind == "external_account":
            workload = WorkloadIdentity(info, scopes=scope, client=client, allow_http=self._allow_http)
            return await workload.fetch(request)
        inner = info.get("source_credentials")
        if not isinstance(inner, dict) or inner.get("type") not in _KINDS[:-1]:
            raise GrantRejected(
                "invalid_request", "the source_credentials of the credentials file are of no known type"
            )
        started = SystemClock.time()
        # The token of this account is only needed to request that of the other one.
        base, failure = read_response(await self._follow(request, inner, IAM), requested_at=started)
        if failure is not None:
            raise failure
        answer = await impersonated(
            request,
            text_in(info, "service_account_impersonation_url"),
            base.access_token,
            scope,
            delegates=[str(one) for one in info.get("delegates") or ()],
            client=client,
        )
        return quota_told(answer, info)

    def __repr__(self) -> str:
        return f"CredentialsFile({str(self._path)!r})"
