"""What sessions of botocore and aiobotocore share: the keys of a token, and the calls that they signed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from evertoken.clients._aws_errors import BAD_KEYS
from evertoken.clients._hidden_field import HiddenField

if TYPE_CHECKING:
    from evertoken._model.token import Token

__all__ = ["Signed", "note_key", "parts_of"]

# In the context that botocore keeps for one call.
_KEY: Final = "evertoken_key"
_HEALED: Final = "evertoken_healed"

_CREDENTIAL: Final = re.compile(r"\bCredential=([^/,\s]+)/")


def parts_of(token: Token, /) -> tuple[str, str, str | None]:
    """
    Return the key's id, the key and the session token of *token*, whose `repr` shows nothing.

    Raises:
        TypeError: It is no token of AWS.
    """
    if not hasattr(token, "secret_access_key"):
        msg = f"requests to AWS are signed with AwsCredentials, and the manager gives {type(token).__name__}"
        raise TypeError(msg)
    keys: Any = token
    session = keys.session_token
    return keys.access_key_id, HiddenField(keys.secret_access_key), None if session is None else HiddenField(session)


def note_key(request: Any, **_: Any) -> None:
    """Note the id of the key that signed *request*. It is called after the signer, which is named more exactly."""
    found = _CREDENTIAL.search(_text(request.headers.get("Authorization", "")))
    request.context[_KEY] = found[1] if found is not None else None


@final
class Signed:
    """
    One answer to a call, and whether it refuses the key.

    Args:
        response: The answer and what botocore read in it, or None.

        request_dict: The call.
    """

    def __init__(self, response: tuple[Any, Mapping[str, Any]] | None, request_dict: Mapping[str, Any]) -> None:
        self._parsed = {} if response is None else response[1]
        self._request = request_dict

    def refused_key(self) -> str | None:
        """Return the id of the key that the answer refuses, once for a call, or None."""
        context = self._request["context"]
        code = str(self._parsed.get("Error", {}).get("Code", ""))
        key: str | None = context.get(_KEY)
        if key is None or context.get(_HEALED) or BAD_KEYS.fullmatch(code.encode()) is None:
            return None
        context[_HEALED] = True
        return key

    def rewound(self) -> bool:
        """Tell whether the body can be sent again, and wind it back."""
        body = self._request.get("body")
        if body is None or isinstance(body, str | bytes | bytearray | Mapping):
            return True
        try:
            body.seek(0)
        except Exception:  # noqa: BLE001 - whatever a stream raises that has no way back
            return False
        return True


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
