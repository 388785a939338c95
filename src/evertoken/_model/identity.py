"""Whose tokens a source gives, as the records of a store tell it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

__all__ = ["digest_of", "identity_from", "identity_of"]

# Characters of a digest: 128 bits.
_DIGITS = 32


def identity_of(source: object, /) -> str | None:
    """Return the identity that *source* states, or None."""
    identity = getattr(source, "identity", None)
    return identity if isinstance(identity, str) and identity else None


def digest_of(text: str, /) -> str:
    """Return what stands for *text*, an identity or a secret, where the text itself must not."""
    # JSON may carry lone surrogates, which UTF-8 proper has no bytes for.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def identity_from(kind: str, /, *parts: object) -> str | None:
    """
    Return the identity of a source of this *kind*; None where a part is None, for then nobody can tell.

    A mapping stands for what is in it, in any order, and a path for the file.
    """
    if any(part is None for part in parts):
        return None
    # Not as ASCII, in which two halves of a surrogate pair are spelled like the one character.
    return json.dumps([kind, *parts], default=_plain, sort_keys=True, ensure_ascii=False)


def _plain(part: object) -> object:
    return dict(part) if isinstance(part, Mapping) else str(part)
