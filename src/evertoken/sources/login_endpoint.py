"""Login endpoints that are not OAuth: any URL that answers with a token in JSON or text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final
from urllib.parse import urlencode

from evertoken._model.answer import Answer
from evertoken._model.error_body import read_words
from evertoken._model.errors import TransientRefreshError
from evertoken._model.identity import digest_of, identity_from
from evertoken._model.redaction import quoted, scrub
from evertoken._signing.secret import CarriesSecrets, Secret, check_secret, resolve
from evertoken.sources._body import error_in, fields_of
from evertoken.sources._token_request import Content, Endpoint
from evertoken.sources._url import url_identity, without_query

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["LoginEndpoint"]

#: The place of a value in the answer: member names, such as "data.token", or names and positions, such as ("tokens",
#: 0). An empty tuple means the whole answer: a JSON string, or plain text.
Place: TypeAlias = str | tuple[str | int, ...]

_NOTHING: Final = object()
_WHOLE: Final = "text"
# A message shows at most this many names of members of an answer.
_MOST_NAMES: Final = 10
_LONGEST_NAME: Final = 60
_LONG: Final = 8


@final
class LoginEndpoint(CarriesSecrets):
    """
    Tokens of an API with its own kind of login, described by arguments instead of code.

    Args:
        url: An absolute https URL, or http to loopback.

        method: The HTTP method.

        json: A JSON object to send. Its values may be secrets: a `pathlib.Path` or a function is read for each fetch.

        form: A form to send, with the same kinds of values. Without *json* and *form*, only the headers are sent.

        headers: Header fields, with the same kinds of values.

        token: The place of the token in the answer, such as "data.token" or ("tokens", 0, "value"). Use an empty tuple
            if the whole answer is the token, as a JSON string or as text.

        token_header: The header field of the answer that has the token, such as "X-Subject-Token". It replaces *token*.

        expires_in: The place of its lifetime in seconds.

        expires_at: The place of its expiry, in epoch seconds or as an ISO date.

        lifetime: The lifetime in seconds, if the answer does not state it.

        token_type: The scheme with which the token is sent: "Bearer", "Token", ...

        rejections: Status codes that mean wrong credentials, so that a person must act.

        client: An `httpx.AsyncClient` to use. Without one, each fetch makes and closes its own.

        allow_http: Allow http outside loopback.

    Raises:
        ValueError: An argument is invalid. The message names it.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(
        self,
        url: str,
        *,
        method: Literal["POST", "GET", "PUT"] = "POST",
        json: Mapping[str, Any] | None = None,
        form: Mapping[str, Secret] | None = None,
        headers: Mapping[str, Secret] | None = None,
        token: Place = "token",  # noqa: S107 - a name, not a secret
        token_header: str | None = None,
        expires_in: Place | None = None,
        expires_at: Place | None = None,
        lifetime: float | None = None,
        token_type: str = "Bearer",  # noqa: S107
        rejections: Iterable[int] = (401,),
        client: Any = None,
        allow_http: bool = False,
    ) -> None:
        self._endpoint = Endpoint(url, client=client, allow_http=allow_http, parameter="url")
        if json is not None and form is not None:
            msg = "json and form cannot both be sent"
            raise ValueError(msg)
        if method not in {"POST", "GET", "PUT"} or (method == "GET" and (json or form)):
            msg = f"method must be POST, PUT, or GET without a body, not {quoted(method)}"
            raise ValueError(msg)
        if expires_in is not None and expires_at is not None:
            msg = "expires_in and expires_at cannot both be given"
            raise ValueError(msg)
        if lifetime is not None and not lifetime > 0.0:
            msg = f"lifetime must be seconds above zero, not {lifetime!r}"
            raise ValueError(msg)
        for name, value in {**(form or {}), **(headers or {})}.items():
            check_secret(name, value)
        self._method = method
        self._json, self._form, self._headers = json, form, dict(headers or {})
        self._token, self._token_header = token, token_header
        self._expires_in, self._expires_at = expires_in, expires_at
        self._lifetime = lifetime
        self._token_type = token_type
        self._rejections = frozenset(rejections)
        self.provider: str = self._endpoint.origin
        sent = [
            (kind, name, _identity_in(value))
            for kind, given in (("json", json), ("form", form), ("headers", headers))
            for name, value in sorted((given or {}).items())
        ]
        known = None if any(one is None for _, _, one in sent) else sent
        # A function or a file may contain another user's name each time.
        self.identity: str | None = identity_from(
            "LoginEndpoint", url_identity(url), method, str(token), token_header or "", known
        )

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """Log in."""
        hidden: list[str] = []
        headers = {name: await _read(value, name, hidden) for name, value in self._headers.items()}
        content = Content(self._method, None)
        if self._json is not None:
            body = await _filled(self._json, hidden)
            content = Content(self._method, json.dumps(body).encode(), "application/json")
        elif self._form is not None:
            form = [(name, await _read(value, name, hidden)) for name, value in self._form.items()]
            content = Content(self._method, urlencode(form).encode(), "application/x-www-form-urlencoded")
        header: list[str] = []

        def seen(status: int, fields: Any, found: Mapping[str, Any]) -> None:  # noqa: ARG001 - the protocol of a reader has this parameter
            header.append(fields.get(self._token_header, ""))

        answer = await self._endpoint.send(
            request,
            content,
            headers,
            secrets=hidden,
            rejections=self._rejections,
            read=_anything if self._token_header is None else _anything_or_nothing,
            seen=None if self._token_header is None else seen,
        )
        token = header[0] if header else _at(answer.fields, self._token)
        if not isinstance(token, str) or not token:
            raise TransientRefreshError(self._without_token(answer.fields, hidden))
        fields: dict[str, Any] = {"access_token": token, "token_type": self._token_type}
        for name, where in (("expires_in", self._expires_in), ("expires_at", self._expires_at)):
            if where is not None and _at(answer.fields, where) is not _NOTHING:
                fields[name] = _at(answer.fields, where)
        if "expires_in" not in fields and "expires_at" not in fields and self._lifetime is not None:
            fields["expires_in"] = self._lifetime
        return Answer(fields, date=answer.date, token_types={self._token_type: self._token_type})

    def _without_token(self, found: Mapping[str, Any], hidden: list[str]) -> str:
        place = repr(self._token) if self._token_header is None else f"the field {self._token_header}"
        # A plain text may itself be a token, in another place than expected.
        told = {name: value for name, value in found.items() if name != _WHOLE}
        # Names help a person to find the token. A secret of only a few letters may be part of many names.
        long = [secret for secret in hidden if len(secret) >= _LONG]
        names = ", ".join(scrub(name[:_LONGEST_NAME], long) for name in sorted(map(str, told))[:_MOST_NAMES])
        words = read_words(told, lambda text: scrub(text, hidden))
        msg = f"{self._endpoint.origin}: the answer has no token at {place}{', only ' if names else ''}{names}"
        return f"{msg}{'; it says: ' if words else ''}{words or ''}"

    def __repr__(self) -> str:
        return f"LoginEndpoint({without_query(self._endpoint.url)!r})"


def _at(fields: Mapping[str, Any], place: Place) -> Any:
    if isinstance(place, str) and place in fields:
        return fields[place]
    parts = tuple(place.split(".")) if isinstance(place, str) else place
    # An answer that is not an object was read as text.
    found: Any = fields if parts and isinstance(parts[0], str) else fields.get(_WHOLE, _NOTHING)
    for part in parts:
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and str(part).isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return _NOTHING
    return found


def _anything(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    """Return the fields of an object, or a list or text as the field `text`."""
    fields = fields_of(body, content_type)
    if fields is not None:
        return fields
    found = error_in(body, content_type)
    bare = found.get("errors", found.get("error"))
    return None if bare is None else {_WHOLE: bare.strip() if isinstance(bare, str) else bare}


def _anything_or_nothing(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    return _anything(body, content_type) if body.strip() else {}


async def _read(value: Secret, name: str, hidden: list[str]) -> str:
    text = await resolve(value, name)
    hidden.append(text)
    return text


async def _filled(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: await _filled(inner, hidden) for name, inner in value.items()}
    if value != "" and (isinstance(value, str | Path) or callable(value)):
        secret: Any = value
        return await _read(secret, "json", hidden)
    return value


def _identity_in(value: object) -> str | None:
    """Return a value that identifies *value*, or None if a function or a file is in it."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if callable(value) or isinstance(value, Path) or any(_identity_in(one) is None for one in inside):
        return None
    return digest_of(repr(value))
