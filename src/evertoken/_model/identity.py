"""The identity of a source: whose tokens it gives, as it stands in the records of a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

__all__ = ["digest_of", "identity_from", "identity_of"]

# The number of characters of a digest: 128 bits.
_DIGITS = 32


def identity_of(source: object, /) -> str | None:
    """Return the identity that *source* states, or None."""
    identity = getattr(source, "identity", None)
    return identity if isinstance(identity, str) and identity else None


def digest_of(text: str, /) -> str:
    """Return a digest that stands for *text*, an identity or a secret, in places that must not contain the text."""
    # JSON may contain lone surrogates, which UTF-8 cannot encode.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def identity_from(kind: str, /, *parts: object) -> str | None:
    """
    Return the identity of a source of this *kind*, or None if a part is None, because then it is unknown.

    The order of a mapping does not matter. A path stands for its file.
    """
    if any(part is None for part in parts):
        return None
    # In ASCII, two halves of a surrogate pair would be spelled like the one character.
    return json.dumps([kind, *parts], default=_plain, sort_keys=True, ensure_ascii=False)


def _plain(part: object) -> object:
    return dict(part) if isinstance(part, Mapping) else str(part)
