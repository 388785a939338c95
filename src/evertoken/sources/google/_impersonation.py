"""Use one account's token to obtain another account's token: the IAM Credentials API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.answer import Answer
from evertoken.sources._token_request import Content, Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._model.protocols import FetchRequest

__all__ = ["LIFETIME", "impersonated"]

LIFETIME: Final = 3600


async def impersonated(
    request: FetchRequest,
    url: str,
    access_token: str,
    scope: str,
    *,
    delegates: Sequence[str] = (),
    lifetime: int = LIFETIME,
    client: Any,
) -> Answer:
    """
    Return the answer of `generateAccessToken` at *url*, requested with *access_token*.

    Raises:
        TransientRefreshError: It failed temporarily.
        GrantRejected: The first account may not act as the second one.
    """
    endpoint = Endpoint(url, client=client, parameter="service_account_impersonation_url")
    body = {"delegates": list(delegates) or None, "scope": scope.split(), "lifetime": f"{lifetime}s"}
    content = Content("POST", json.dumps(body).encode(), "application/json")
    headers = {"Authorization": f"Bearer {access_token}"}
    answer = await endpoint.send(request, content, headers, secrets=(access_token,), rejections=(400, 403, 404))
    fields = {"access_token": answer.fields.get("accessToken"), "expires_at": answer.fields.get("expireTime")}
    return Answer(fields, date=answer.date)
