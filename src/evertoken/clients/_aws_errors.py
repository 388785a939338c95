"""The codes by which AWS refuses credentials. It imports no library of others."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BAD_KEYS"]

#: What AWS says of credentials that it does not, or no longer, accept. Whoever may not do what was asked is told
#: otherwise, with the same status.
BAD_KEYS: Final = re.compile(
    rb"\b(?:ExpiredToken|InvalidClientTokenId|InvalidToken|InvalidAccessKeyId|UnrecognizedClient)(?:Exception)?\b"
)
