"""Decides whether an answer means that the token is bad. It imports no HTTP library, and all clients share it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from evertoken._model.token import REFUSED_BY

if TYPE_CHECKING:
    from evertoken._model.token import Token

__all__ = ["FORBIDDEN", "NOTED", "UNAUTHORIZED", "blames_token", "forbids_token", "is_refusal"]

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403

#: Status codes of the answers that are examined. All other answers go to the caller at once.
NOTED: Final = frozenset({UNAUTHORIZED, FORBIDDEN})

# RFC 6750 section 3.1: with these codes the token itself is good.
_NOT_THE_TOKEN: Final = re.compile(r"""\berror\s*=\s*"?(?:insufficient_scope|invalid_request)\b""", re.IGNORECASE)

# The code for a bad token, with any status.
_THE_TOKEN: Final = re.compile(r"""\berror\s*=\s*"?invalid_token\b""", re.IGNORECASE)


def blames_token(status: int, challenge: str, /) -> bool:
    """Tell whether *status* is 401, and *challenge* (WWW-Authenticate) does not name another fault."""
    return status == UNAUTHORIZED and _NOT_THE_TOKEN.search(challenge) is None


def forbids_token(status: int, challenge: str, token: Token, /, *, refused_by: frozenset[int] = frozenset()) -> bool:
    """Tell whether a status other than 401 means that *token* is bad. *refused_by* has such statuses of the field."""
    if status == UNAUTHORIZED:
        return False
    named = token.extra.get(REFUSED_BY)
    if status in refused_by or (isinstance(named, list | tuple) and status in named):
        return True
    return status == FORBIDDEN and _THE_TOKEN.search(challenge) is not None


def is_refusal(status: int, challenge: str, token: Token, /) -> bool:
    """Tell whether an answer to a request with *token* in Authorization says that it is bad."""
    return blames_token(status, challenge) or forbids_token(status, challenge, token)
