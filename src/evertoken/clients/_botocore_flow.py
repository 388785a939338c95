"""Shared by the sessions of botocore and aiobotocore: the keys of a token, and the calls that they signed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from evertoken.clients._aws_errors import BAD_KEYS
from evertoken.clients._hidden_field import HiddenField, made_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.token import Token

__all__ = ["Refusal", "frozen_by", "note_request", "refusal_in"]

# In the context that botocore keeps for one call.
_REQUEST: Final = "evertoken_request"
_HEALED: Final = "evertoken_healed"

_CREDENTIAL: Final = re.compile(r"\bCredential=([^/,\s]+)/")
_BAD_REQUEST: Final = 400


def frozen_by(kind: Callable[[str, str, str | None], Any]) -> Callable[[Token], Any]:
    """
    Return a function that makes the parts of a key, as *kind*, from a token. Their `repr` shows no secret.

    It makes one value for a token, because many requests are signed with the same. It raises TypeError for a token that
    is not one of AWS.
    """
    return made_once(lambda token: kind(*_parts(token)))


def note_request(request: Any, **_: Any) -> None:
    """Note the request of a call. It is called after the signer, whose event has a longer name."""
    request.context[_REQUEST] = request


def refusal_in(response: tuple[Any, Mapping[str, Any]] | None, call: Mapping[str, Any]) -> Refusal | None:
    """
    Return the refusal of the key if *response* is one, once for a call.

    Args:
        response: The answer and what botocore read in it, or None.

        call: The data that botocore keeps for the call.
    """
    if response is None or response[0].status_code < _BAD_REQUEST:
        return None
    context = call["context"]
    code = str(response[1].get("Error", {}).get("Code", ""))
    if context.get(_HEALED) or _REQUEST not in context or BAD_KEYS.fullmatch(code.encode()) is None:
        return None
    signed = _CREDENTIAL.search(_text(context[_REQUEST].headers.get("Authorization", "")))
    if signed is None:
        return None
    context[_HEALED] = True
    return Refusal(signed[1], call.get("body"))


@final
class Refusal:
    """
    An answer that refuses a key.

    Args:
        key_id: The id of the refused key.

        body: The body of the request.
    """

    def __init__(self, key_id: str, body: Any) -> None:
        self.key_id = key_id
        self._body = body

    def rewound(self) -> bool:
        """Tell whether the body can be sent again, and wind it back."""
        if self._body is None or isinstance(self._body, str | bytes | bytearray | Mapping):
            return True
        try:
            self._body.seek(0)
        except Exception:  # noqa: BLE001 - any error of a stream that cannot be wound back
            return False
        return True


def _parts(token: Token) -> tuple[str, str, str | None]:
    if not hasattr(token, "secret_access_key"):
        msg = f"requests to AWS are signed with AwsCredentials, and the manager gives {type(token).__name__}"
        raise TypeError(msg)
    keys: Any = token
    session = keys.session_token
    return keys.access_key_id, HiddenField(keys.secret_access_key), None if session is None else HiddenField(session)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
