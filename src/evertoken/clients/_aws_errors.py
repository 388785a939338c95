"""The codes by which AWS refuses credentials. It imports no library of others."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BAD_KEYS"]

#: The codes by which AWS says that it does not accept the credentials, or not any more. A missing permission has other
#: codes, with the same status.
BAD_KEYS: Final = re.compile(
    rb"\b(?:ExpiredToken|InvalidClientTokenId|InvalidToken|InvalidAccessKeyId|UnrecognizedClient)(?:Exception)?\b"
)
