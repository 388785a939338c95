"""Whose tokens a source gives, as the records of a store tell it."""

from __future__ import annotations

import hashlib

__all__ = ["digest_of", "identity_of"]

# Characters of the digest that stand in the name of a record: 128 bits.
_DIGITS = 32


def identity_of(source: object, /) -> str | None:
    """Return the identity that *source* states, or None."""
    identity = getattr(source, "identity", None)
    return identity if isinstance(identity, str) and identity else None


def digest_of(identity: str, /) -> str:
    """Return what stands for *identity* in the name of a record."""
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
